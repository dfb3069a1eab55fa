"""Frames on their way to the fleet, kept until they are acknowledged."""
