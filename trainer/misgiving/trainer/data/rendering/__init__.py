"""Procedural pictures of articulated people, with exact joints: the synthetic data's painter."""

from misgiving.trainer.data.rendering.person import Rendering, render_person

__all__ = ["Rendering", "render_person"]
