"""How good poses are and what a score of them is worth: a bundle measured on labelled data."""
