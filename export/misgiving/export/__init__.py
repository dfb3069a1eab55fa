"""The joining part: fuses pose net and loss head into one graph, checks it, runs the demo."""
