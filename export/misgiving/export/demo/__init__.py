"""The demo: the whole loop on one machine, with the commands that a user would type."""

from misgiving.export.demo.plan import DemoConfig
from misgiving.export.demo.run import run_demo

__all__ = ["DemoConfig", "run_demo"]
