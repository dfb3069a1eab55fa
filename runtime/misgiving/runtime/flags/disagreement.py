"""How far two bundles' answers are apart: pure.

Two answers disagree about a person as PCK has it: by the joints that lie further apart than 0.2 of
the torso. Axes: K keypoints of a bundle, J joints that both bundles name.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.draw import Drawn
from misgiving.runtime.keypoints import KeypointSet, places_of
from misgiving.runtime.nouns import Person

_PCK = 0.2


class Agreement(Enum):
    """What a shadow's answer about a person is to the one that was given."""

    AGREE = "agree"
    KEYPOINTS = "keypoints"
    """Too many joints lie apart."""
    FLAGS = "flags"
    """One of them flags the person, the other does not."""
    BOTH = "both"
    UNKNOWN = "unknown"
    """Neither joints nor flags can be compared."""

    @property
    def disagrees(self) -> bool:
        return self not in (Agreement.AGREE, Agreement.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers about one person, side by side."""

    apart: float
    """Share of the compared joints that lie further apart than 0.2 of the torso; NaN where none is
    compared."""
    distance: float
    """Median of the joints' distances, in torso lengths; NaN likewise."""
    flags_differ: bool | None
    """Whether one flags and the other does not; None where that is not compared."""

    def agreement(self, limit: float) -> Agreement:
        """In one word; joints disagree where more than this share of them is apart."""
        joints = self.apart > limit  # never of NaN
        if joints and self.flags_differ:
            return Agreement.BOTH
        if joints:
            return Agreement.KEYPOINTS
        if self.flags_differ:
            return Agreement.FLAGS
        known = self.flags_differ is not None or self.apart <= limit
        return Agreement.AGREE if known else Agreement.UNKNOWN


@dataclass(frozen=True, slots=True)
class Shared:
    """The joints that two keypoint sets both name."""

    answered: KeypointSet
    shadow: KeypointSet
    places: NDArray[np.intp]
    """(J,): their places in the set that answered."""
    others: NDArray[np.intp]
    """(J,): and in the shadow's."""

    @classmethod
    def of(cls, answered: KeypointSet, shadow: KeypointSet) -> "Shared":
        found = np.array(places_of(shadow.names, answered.names), np.intp)
        return cls(answered, shadow, np.flatnonzero(found >= 0), found[found >= 0])


def compared(
    answered: Person, shadow: Person, shared: Shared, flag_from: float | None
) -> Comparison:
    """Compare two answers about one person.

    Only joints count of which the answer that was given is sure; see ``draw.Drawn.doubtful``.

    Args:
        answered: with what was decided of it.
        shadow: of the same region.
        shared: joints of both.
        flag_from: the predicted loss from which on the shadow flags; None compares no flags.
    """
    sure = ~Drawn(answered.keypoints, answered.keypoint_loss).doubtful[shared.places]
    points = answered.keypoints[shared.places[sure], :2]
    others = shadow.keypoints[shared.others[sure], :2]
    torso = np.fmax(_torso(shared.answered, answered), _torso(shared.shadow, shadow))
    differ = None
    if flag_from is not None:
        differ = answered.flag.raised != (not shadow.predicted_loss < flag_from)
    if not len(points) or np.isnan(torso):
        return Comparison(np.nan, np.nan, differ)
    if not (np.isfinite(points).all() and np.isfinite(others).all()):
        return Comparison(1.0, np.nan, differ)
    lengths = np.linalg.norm(points - others, axis=-1)
    apart = float((lengths > _PCK * torso).mean())
    return Comparison(apart, float(np.median(lengths) / torso) if torso else np.nan, differ)


def _torso(keypoints: KeypointSet, person: Person) -> float:
    """NaN where the set has none, or its joints are nowhere."""
    points = person.keypoints[:, :2]
    return keypoints.torso_size(points, np.asarray(np.isfinite(points).all(axis=-1)))
