"""What poses and scores are worth, with intervals."""
