"""The training part: data, networks, loss heads, active-learning cycles."""
