"""Where frames come from: recordings and cameras."""
