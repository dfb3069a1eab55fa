"""Pools too large to hold: scored into a file by a bundle, picked from by any sampler."""
