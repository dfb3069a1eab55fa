"""misgiving.toml: what a server is told once, in a file."""
