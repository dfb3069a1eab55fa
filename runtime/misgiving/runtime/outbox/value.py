"""Which of the frames in a spool are worth the least: pure."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from misgiving.runtime.errors import ResourceExhausted
from misgiving.runtime.nouns import Floats, Person, Reason
from misgiving.runtime.wire.collected import KeptFrame

_REMEMBERED = 1024
_BETWEEN_AUDITS = 3
"""Frames that are uploaded between two of the audit."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is remembered of a stored frame."""

    name: str
    """What logs call it; of a sealed frame of an earlier process, the start of its digest."""
    size: int
    """Bytes."""
    refused: bool = False
    stored_at: float = 0.0
    """Unix time; 0 where an earlier release stored it."""
    since_s: float = 0.0
    """The same on the monotonic clock of this process, which nobody sets."""
    score: float = 0.0
    """Predicted loss, see :func:`score_of`."""
    reason: str = ""
    """``audit`` where anybody in it is of the audit, else the strongest reason."""
    twin: bool = False
    """Nearly the same as another kept frame, which is worth more."""
    content: str = ""
    """sha256 before it was sealed; empty where it is not known any more."""

    @property
    def audit(self) -> bool:
        return self.reason == Reason.AUDIT.value


def score_of(frame: KeptFrame) -> float:
    """The greatest predicted loss; infinite where one is NaN, which says nothing, 0 of nobody."""
    losses = [person.predicted_loss for person in frame.persons]
    return math.inf if any(map(math.isnan, losses)) else max(losses, default=0.0)


def reason_of(frame: KeptFrame) -> str:
    """Why a frame is kept, see :attr:`Entry.reason`."""
    kept = {decision.kept for decision in frame.decisions}
    order = (Reason.AUDIT, *Reason)
    return next((reason.value for reason in order if reason in kept), "")


def choose_victims(entries: Mapping[str, Entry], quota_bytes: int) -> list[str]:
    """Which frames go so that the others fit the quota, the least valuable first.

    Refused ones come first, then those that resemble another one, then the lowest score. The audit
    sample goes last, and by age alone: one that went by score would no longer be at random.

    Args:
        entries: by digest, oldest first; of equals the oldest goes.
        quota_bytes: of all frames together.
    """
    excess = sum(entry.size for entry in entries.values()) - quota_bytes
    victims: list[str] = []
    for digest in sorted(entries, key=lambda digest: _worth(entries[digest])) if excess > 0 else ():
        if excess <= 0:
            break
        victims.append(digest)
        excess -= entries[digest].size
    return victims


def upload_order(entries: Mapping[str, Entry]) -> list[str]:
    """Which frames go first: the most valuable, and as every fourth one of the audit.

    Those of the audit go by age alone, and are never starved by a camera that is always wrong.

    Args:
        entries: by digest, oldest first; of equals the oldest goes first.
    """
    others = [digest for digest, entry in entries.items() if not entry.audit]
    others.sort(key=lambda digest: (entries[digest].twin, -entries[digest].score))
    order = list[str]()
    for digest in (digest for digest, entry in entries.items() if entry.audit):
        order += [*others[:_BETWEEN_AUDITS], digest]
        del others[:_BETWEEN_AUDITS]
    return order + others


def check_fits(size: int, quota_bytes: int) -> None:
    """Raise ResourceExhausted where a frame alone is larger than the quota."""
    if size > quota_bytes:
        raise ResourceExhausted(
            f"it has {size:,} bytes; the spool's quota is {quota_bytes:,}. Raise the quota"
        )


def too_old(entries: Mapping[str, Entry], now_s: float, most_s: float) -> list[str]:
    """Which frames have been stored for longer than ``most_s``, on the clock of ``since_s``."""
    return [digest for digest, entry in entries.items() if now_s - entry.since_s > most_s]


def _worth(entry: Entry) -> tuple[int, bool, float]:
    if entry.refused:
        return 0, False, 0.0
    if entry.audit:
        return 2, False, 0.0
    return 1, not entry.twin, entry.score


class Likeness:
    """The frames stored lately, of which a new one may be nearly the same as another.

    Compared is the person with the greatest predicted loss, within one bundle: embeddings of two
    are not comparable.

    Args:
        distance: cosine distance of embeddings up to which two are alike; None compares none.
    """

    def __init__(self, distance: float | None) -> None:
        self._distance = distance
        self._kept = deque[tuple[str, str, Floats]](maxlen=_REMEMBERED)

    def nearest(self, frame: KeptFrame) -> str | None:
        """Digest of the stored frame that is most like this one; None where none is alike."""
        row = _unit(frame)
        if self._distance is None or row is None:
            return None
        known = [
            (digest, other)
            for digest, bundle, other in self._kept
            if bundle == frame.bundle_digest and other.shape == row.shape
        ]
        if not known:
            return None
        cosines = np.stack([other for _, other in known]) @ row
        best = int(cosines.argmax())
        return known[best][0] if 1 - float(cosines[best]) <= self._distance else None

    def remember(self, digest: str, frame: KeptFrame) -> None:
        """A frame that is stored now."""
        if self._distance is not None and (row := _unit(frame)) is not None:
            self._kept.append((digest, frame.bundle_digest, row))

    def forget(self, digests: list[str]) -> None:
        """Frames that were evicted; those that the fleet has stay remembered."""
        if gone := set(digests):
            kept = [one for one in self._kept if one[0] not in gone]
            self._kept = deque(kept, _REMEMBERED)


def is_twin(new: Entry, alike: Entry | None) -> bool:
    """Which of two frames that are alike is worth less: the new one, or the one in the spool.

    Args:
        new: no frame of the audit.
        alike: None where the fleet has it by now.
    """
    return alike is None or alike.audit or alike.twin or alike.score >= new.score


def _unit(frame: KeptFrame) -> Floats | None:
    """The embedding of the worst person with length 1; None where it has none."""
    if not frame.persons:
        return None
    row = max(frame.persons, key=_loss).embedding.astype(np.float64)
    length = float(np.linalg.norm(row))
    return (row / length).astype(np.float32) if 0 < length < math.inf else None


def _loss(person: Person) -> float:
    return math.inf if math.isnan(person.predicted_loss) else person.predicted_loss
