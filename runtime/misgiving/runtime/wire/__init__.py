"""What travels: the core's nouns as messages and records, and back."""
