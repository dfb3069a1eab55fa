"""On which side the frames of an import are, beside all that a store has labels of.

A frame that has a side keeps it. Another one takes the side of the labelled frames that its
embedding is near to, else that of its piece of time. Where it would still be a near-duplicate of a
frame on the other side, by its embedding or within a moment of its stream, it is on neither.
"""

import bisect
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from misgiving.collector.annotations.coco import FrameOrigin
from misgiving.collector.annotations.splits import MOMENT_S, split_of
from misgiving.collector.store import Store
from misgiving.collector.store.tables import FRAMES, LABELLED
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.labelset import Split

NEAR = 0.003
"""Cosine distance up to which two frames show nearly the same; for the bundle in the package."""
_AT_ONCE = 500
"""Frames in one statement: databases limit its parameters."""


@dataclass(frozen=True, slots=True)
class Sides:
    """What :func:`sides_of` answers."""

    of: Mapping[str, Split]
    """By the digests of the frames, in their order."""
    between: int
    """Frames on neither side, as they are near to frames on both."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """What tells a frame from its near-duplicates."""

    bundle_digest: str
    stream: tuple[str, str]
    time_ns: int
    """Unix nanoseconds of the capture; 0 where it is not known."""
    embedding: bytes

    @property
    def direction(self) -> NDArray[np.float32] | None:
        """(1, D) of length 1."""
        row = np.frombuffer(self.embedding, "<f4").astype(np.float64)
        length = np.linalg.norm(row)
        if not 0 < length < np.inf:
            return None
        direction: NDArray[np.float32] = (row / length).astype(np.float32)[None]
        return direction


def sides_of(
    origins: Mapping[str, FrameOrigin], store: Store | None = None, near: float = NEAR
) -> Sides:
    """The sides of the frames of an import.

    Args:
        origins: by the digests of the frames.
        store: that the frames are of. Without one, pieces of time alone decide.
        near: cosine distance, 0 to 2, up to which two frames show nearly the same.

    Raises:
        InvalidInput: ``near`` is no distance.
    """
    if not 0 <= near <= 2:
        raise InvalidInput(
            f"--near is {near:g}; expected a cosine distance from 0 to 2, for example {NEAR}"
        )
    own = {digest: split_of(origin) for digest, origin in sorted(origins.items())}
    if store is None:
        return Sides(own, 0)
    decided, sides, between = _Decided(near), dict[str, Split](), 0
    for digest, shown, side in _labelled(store):
        decided.add(shown, side)
        if digest in own:
            sides[digest] = side
    new = _shown(store, [digest for digest in own if digest not in sides])
    for digest, shown in sorted(new.items(), key=lambda one: (one[1].time_ns, one[0])):
        alike, close = decided.alike(shown), decided.close(shown)
        sides[digest] = _side(own[digest], alike, close)
        between += sides[digest] == "neither" != own[digest]
        decided.add(shown, sides[digest])
    return Sides({digest: sides.get(digest, side) for digest, side in own.items()}, between)


def _side(own: Split, alike: Collection[Split], close: Collection[Split]) -> Split:
    """Of a frame, from its own and those of frames that are alike, and that are close in time."""
    if own == "neither" or len(alike) > 1:
        return "neither"
    side = next(iter(alike), own)
    return side if set(close) <= {side} else "neither"


class _Decided:
    """Frames that have a side."""

    def __init__(self, near: float) -> None:
        self._near = near
        self._alike = dict[tuple[str, int], tuple[Any, list[Split]]]()
        self._times = defaultdict[tuple[str, str], list[tuple[int, Split]]](list)

    def add(self, shown: _Shown, side: Split) -> None:
        """One more; nobody needs to keep away from one on neither side."""
        import faiss

        if side == "neither":
            return
        if shown.time_ns > 0:
            bisect.insort(self._times[shown.stream], (shown.time_ns, side))
        if (row := shown.direction) is not None:
            kind = shown.bundle_digest, row.shape[1]
            index, sides = self._alike.setdefault(kind, (faiss.IndexFlatIP(row.shape[1]), []))
            index.add(row)
            sides.append(side)

    def alike(self, shown: _Shown) -> set[Split]:
        """Sides of those whose embeddings are near."""
        row = shown.direction
        if row is None or (kind := (shown.bundle_digest, row.shape[1])) not in self._alike:
            return set()
        index, sides = self._alike[kind]
        _, _, found = index.range_search(row, 1 - self._near)
        return {sides[at] for at in found.tolist()}

    def close(self, shown: _Shown) -> set[Split]:
        """Sides of those of the same stream that were taken within a moment."""
        if shown.time_ns <= 0:
            return set()
        times, moment = self._times[shown.stream], MOMENT_S * 10**9
        first = bisect.bisect_right(times, (shown.time_ns - moment, "val"))
        last = bisect.bisect_left(times, (shown.time_ns + moment, ""))
        return {side for _, side in times[first:last]}


_SHOWN = (
    *(FRAMES.c.digest, FRAMES.c.bundle_digest, FRAMES.c.device_id, FRAMES.c.stream_id),
    *(FRAMES.c.capture_time_unix_nano, FRAMES.c.embedding),
)


def _labelled(store: Store) -> Iterator[tuple[str, _Shown, Split]]:
    """Frames that have labels; those that an earlier release noted are where their time says."""
    noted = sa.select(*_SHOWN, sa.func.max(LABELLED.c.split))
    noted = noted.join(LABELLED, LABELLED.c.digest == FRAMES.c.digest).group_by(FRAMES.c.digest)
    with store.database.connect(reads=True) as database:
        rows = database.execute(noted.order_by(FRAMES.c.digest)).all()
    for *row, side in rows:
        shown = _of_row(row)
        yield row[0], shown, side or split_of(_origin(row[0], shown))


def _shown(store: Store, digests: list[str]) -> dict[str, _Shown]:
    found: dict[str, _Shown] = {}
    with store.database.connect(reads=True) as database:
        for first in range(0, len(digests), _AT_ONCE):
            some = FRAMES.c.digest.in_(digests[first : first + _AT_ONCE])
            rows = database.execute(sa.select(*_SHOWN).where(some))
            found |= {row[0]: _of_row(row) for row in rows}
    return found


def _of_row(row: Iterable[Any]) -> _Shown:
    _, bundle, device, stream, time_ns, embedding = row
    return _Shown(bundle, (device, stream), time_ns, embedding or b"")


def _origin(digest: str, shown: _Shown) -> FrameOrigin:
    return FrameOrigin(
        frame_digest=digest,
        sampling_probability=1,
        bundle_digest=shown.bundle_digest,
        device_id=shown.stream[0],
        stream_id=shown.stream[1],
        capture_time_unix_nano=shown.time_ns,
    )
