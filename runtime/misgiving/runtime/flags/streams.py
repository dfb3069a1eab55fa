"""What is remembered of one stream from frame to frame: pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Embedding = NDArray[np.float32]

NEAR_DUPLICATE = 0.006
"""A cosine distance of the embeddings of the bundle in the package that is small, see
docs/flags.md."""

_MEMORY_S = 60.0
"""Over which the rate of persons is averaged."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One camera or recording, as deciding sees it."""

    first_s: float
    last_s: float
    persons: float = 0.0
    """Seen lately; those of long ago fade."""
    failing: bool = False
    """A frame of the present event was kept, and the score has not been low since."""
    flagged_s: float = -math.inf
    """When a frame was last kept for its flag."""
    shadow_s: float = -math.inf
    """When a frame was last kept because a shadow disagrees."""
    scored_s: float = -math.inf
    """When a score last went to the drift watch."""
    kept: tuple[Embedding, ...] = ()
    """Of the flagged persons kept last, of length 1."""

    def saw(self, now_s: float, persons: int) -> "Stream":
        """The same, with a frame of so many persons; nobody counts as one, who is drawn for too."""
        faded = self.persons * math.exp((self.last_s - now_s) / _MEMORY_S)
        return replace(self, last_s=now_s, persons=faded + persons)

    @property
    def rate(self) -> float:
        """Persons in a second; a stream that starts counts as a second old."""
        age = self.last_s - self.first_s + 1.0
        return self.persons / (_MEMORY_S * -math.expm1(-age / _MEMORY_S))

    def active(self, now_s: float) -> bool:
        return now_s - self.last_s <= _MEMORY_S

    def knows(self, embeddings: Sequence[Embedding], distance: float) -> bool:
        """Whether each of these persons is within a cosine distance of one that was kept."""
        rows = [_unit(one) for one in embeddings]
        return bool(rows) and all(self._knows(row, distance) for row in rows)

    def keeps(self, embeddings: Sequence[Embedding], most: int) -> "Stream":
        """The same, with these persons among the kept; only the last ones stay."""
        rows = (_unit(one) for one in embeddings)
        kept = (*self.kept, *(row for row in rows if row is not None))
        return replace(self, kept=kept[-most:])

    def _knows(self, row: Embedding | None, distance: float) -> bool:
        if row is None:
            return False
        alike = [one for one in self.kept if one.shape == row.shape]
        return bool(alike) and 1 - float((np.stack(alike) @ row).max()) <= distance


def _unit(embedding: Embedding) -> Embedding | None:
    """The same direction with length 1; None where it has none."""
    length = float(np.linalg.norm(embedding.astype(np.float64)))
    return (embedding / length).astype(np.float32) if 0 < length < math.inf else None
