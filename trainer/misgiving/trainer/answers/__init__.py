"""What a network or a bundle says about a data set."""
