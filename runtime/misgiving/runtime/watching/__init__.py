"""Cameras answered in this process, and what is kept and shown of them."""
