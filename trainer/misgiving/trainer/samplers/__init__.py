"""Acquisition rules: which persons of a pool shall be labelled next. A rule is one file here, with
a function of its own name, and one line in SAMPLERS."""

from importlib import import_module
from typing import TYPE_CHECKING

from misgiving.runtime.errors import InvalidInput

if TYPE_CHECKING:
    from misgiving.trainer.samplers.base import Sampler

# Names and not functions: the command lists them in its help, and starts without numpy.
SAMPLERS = (
    "random",
    "learned_loss",
    "mean_peak",
    "min_peak",
    "entropy",
    "multi_peak_entropy",
    "coreset",
    "hybrid",
    "convex",
    "usdm",
    "adversarial",
    "oracle",
    "aleatoric",
    "vl4pose",
    "mc_dropout",
    "committee",
    "egl",
)


def sampler_named(name: str) -> "Sampler":
    """A sampler by name.

    Raises:
        InvalidInput: there is none of that name.
    """
    if name not in SAMPLERS:
        raise InvalidInput(f"sampler is {name!r}; expected one of {', '.join(SAMPLERS)}")
    sampler: Sampler = getattr(import_module(f"{__name__}.{name}"), name)
    return sampler
