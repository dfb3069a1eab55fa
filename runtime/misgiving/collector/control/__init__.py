"""The fleet steered: what vehicles report, and what they are asked to keep."""
