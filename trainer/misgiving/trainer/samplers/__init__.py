"""Acquisition rules: which persons of a pool shall be labelled next. A rule is one file here
and one line in SAMPLERS."""

from collections.abc import Callable

import numpy as np

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.samplers.learned_loss import learned_loss
from misgiving.trainer.samplers.random import random
from misgiving.trainer.scoring import Scores

Sampler = Callable[[Scores, int, np.random.Generator], list[int]]
"""(scores of the pool, budget, generator) → that many positions of the pool, each once."""

SAMPLERS: dict[str, Sampler] = {"random": random, "learned_loss": learned_loss}


def sampler_named(name: str) -> Sampler:
    """A sampler by name.

    Raises:
        InvalidInput: there is none of that name.
    """
    if name not in SAMPLERS:
        raise InvalidInput(f"sampler is {name!r}; expected one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]
