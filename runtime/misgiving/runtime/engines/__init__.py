"""Engines: what runs a bundle's graph."""

from misgiving.runtime.engines.base import Engine, Prediction, Provider

__all__ = ["Engine", "Prediction", "Provider"]
