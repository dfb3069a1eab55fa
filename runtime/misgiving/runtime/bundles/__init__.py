"""Bundles: manifest, files, signatures, and whose are taken."""
