"""Loss heads, and what they learn."""
