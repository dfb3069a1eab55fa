"""How fast a bundle is on the machine at hand: what ``misgiving bench`` does."""
