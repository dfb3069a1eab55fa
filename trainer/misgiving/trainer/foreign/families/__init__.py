"""Output families: one small file each, and one line here."""

from misgiving.trainer.foreign.families.base import FamilyType

FAMILIES: dict[str, FamilyType] = {}
"""By the name that NET.toml gives; the first whose ``guess`` fits is what a graph looks like."""
