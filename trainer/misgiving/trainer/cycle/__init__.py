"""Active-learning cycles: stages × methods × repeats, from one base model a repeat."""
