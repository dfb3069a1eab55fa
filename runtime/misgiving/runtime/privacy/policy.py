"""What an operator lets a vehicle keep. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.nouns import Answer, Frame, Person
from misgiving.runtime.privacy.fences import Fence

Change = Callable[[NDArray[np.uint8], Answer], NDArray[np.uint8]]
"""An RGB image (H, W, 3), which is the function's to write to, and what was answered → the image to
be kept, of the same shape."""


class Barred(Enum):
    """Why a frame that was to be kept is not."""

    COLLECTION_OFF = "collection_off"
    GEOFENCE = "geofence"
    """Taken where nothing is to be kept."""
    NO_POSITION = "no_position"
    """There are fences, and nobody knows where it was taken."""
    NO_PERSON = "no_person"
    """Only persons are to be seen, or their heads not to be: nobody was found, who may be there."""
    REDACTION_FAILED = "redaction_failed"
    """Noticed by the spool, which loses the frame."""


@dataclass(frozen=True, slots=True)
class Hook:
    """The operator's own redaction."""

    name: str
    """``package.module:function``."""
    change: Change


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivacyPolicy:
    """By default all is kept but the place."""

    collect: bool = True
    crop: bool = False
    """Only the persons' windows stay."""
    blur_heads: bool = False
    hook: Hook | None = None
    fences: tuple[Fence, ...] = ()
    keeps_inside: bool = False
    """Frames are kept within the fences, and not outside."""
    position: bool = False
    """It travels with a kept frame."""

    @property
    def redacts(self) -> bool:
        """Whether a kept image is not what the camera saw."""
        return self.crop or self.blur_heads or self.hook is not None

    def bars(self, frame: Frame, persons: Sequence[Person]) -> Barred | None:
        """Why a frame may not be kept; None where it may.

        Args:
            frame: to be kept.
            persons: who was found in it.
        """
        if not self.collect:
            return Barred.COLLECTION_OFF
        if self.fences:
            place = frame.position
            if place is None:
                return Barred.NO_POSITION
            if any(fence.holds(place) for fence in self.fences) != self.keeps_inside:
                return Barred.GEOFENCE
        if (self.crop or self.blur_heads) and not persons:
            return Barred.NO_PERSON
        return None
