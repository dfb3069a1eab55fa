"""Streams of frames for the flag policy: a score, or a list of them, for each frame."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from misgiving.runtime.flags.policy import FlagPolicy, FlagState, decide
from misgiving.runtime.geometry import Region
from misgiving.runtime.nouns import Answer, Decision, Frame, Person

NOTHING = np.empty(0, np.float32)
NEVER = math.nextafter(1, 0)
"""A draw that no audit takes unless its rate is 1."""


def person(score: float, embedding: Sequence[float] = ()) -> Person:
    region, row = Region(0, 0, 9, 9), np.array(embedding, np.float32)
    return Person(region, NOTHING, score, None, NOTHING, NOTHING, row)


@dataclass
class Device:
    """Decides frame after frame, and remembers the state."""

    policy: FlagPolicy
    state: FlagState = field(init=False)

    def __post_init__(self) -> None:
        self.state = FlagState(self.policy)

    def all(
        self,
        persons: Sequence[Person],
        now_s: float,
        draws: Sequence[float] = (),
        stream: str = "",
        size: int = 1,
    ) -> tuple[Decision, ...]:
        answer, frame = Answer("", tuple(persons), ""), Frame(bytes(size), stream_id=stream)
        draws = draws or [NEVER] * max(1, len(persons))
        self.state, decisions = decide(self.state, frame, answer, now_s, draws)
        return decisions

    def one(
        self,
        score: float | None,
        now_s: float,
        draw: float = NEVER,
        stream: str = "",
        size: int = 1,
    ) -> Decision:
        """Of a frame with one person, or with nobody."""
        persons = [] if score is None else [person(score)]
        (decision,) = self.all(persons, now_s, [draw], stream, size)
        return decision
