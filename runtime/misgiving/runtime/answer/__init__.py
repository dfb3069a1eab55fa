"""A frame in, an answer out, whatever the transport."""
