"""Who is flagged and who is kept: pure."""
