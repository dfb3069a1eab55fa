"""Where the persons of a frame are in the next one. Pure: persons in, regions out.

Nobody gets a number: an answer says where persons are, not who is who.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from misgiving.runtime.geometry import Region, whole_pixels
from misgiving.runtime.nouns import Person
from misgiving.runtime.persons.finding import distinct

GROWTH = 1.1
"""Side of the next region over that of the joints' box: what may move within a frame."""
LOST_FROM = 0.5
"""Probability of failure from which on a person is lost: failure is more likely than not."""
SAME_FROM = 0.6
"""Overlap from which on two regions follow one person."""


@dataclass(frozen=True, slots=True)
class Trail:
    """Whom the last frame of a stream leaves to follow."""

    regions: tuple[Region, ...] = ()
    """They may reach outside the image."""
    frames: int = 0
    """Answered since the last full look, which counts too."""

    def after(self, persons: Iterable[Person], every: int) -> "Trail":
        """What is left to follow behind a frame; nobody where the next is due for a full look.

        Args:
            persons: of the frame.
            every: frames from one full look to the next.
        """
        if self.frames + 1 >= every:
            return Trail()
        regions = next_regions(persons)
        return Trail(regions, self.frames + 1) if regions else Trail()

    def within(self, height: int, width: int) -> tuple[Region, ...]:
        """Those regions whose middle lies in an image of this size, clipped to it."""
        frame = Region(0, 0, width, height)
        inside = (one for one in self.regions if _holds_middle(frame, one))
        return tuple(whole_pixels(_corners(one), frame) for one in inside)


def next_regions(persons: Iterable[Person]) -> tuple[Region, ...]:
    """Where to look for persons in the next frame, the surest first; of two in one place, one.

    A person is lost where failure is likely, or where nobody can say how likely it is.
    """
    kept = [(one.failure_probability, one) for one in persons if _is_sure(one)]
    regions = [_grown(one) for _, one in kept]
    surety = [1.0 - (doubt or 0.0) for doubt, _ in kept]
    boxes = [(one.x, one.y, one.width, one.height) for one in regions]
    return tuple(regions[index] for index in distinct(boxes, surety, SAME_FROM))


def _is_sure(person: Person) -> bool:
    doubt = person.failure_probability
    return doubt is not None and doubt < LOST_FROM and bool(np.isfinite(person.keypoints).all())


def _grown(person: Person) -> Region:
    """The box of the joints, grown about its middle."""
    box = Region.around(person.keypoints[:, :2].astype(np.float64))
    more = (GROWTH - 1) / 2
    return Region(
        box.x - more * box.width,
        box.y - more * box.height,
        GROWTH * box.width,
        GROWTH * box.height,
    )


def _holds_middle(frame: Region, region: Region) -> bool:
    x, y = region.x + region.width / 2, region.y + region.height / 2
    return 0 <= x < frame.width and 0 <= y < frame.height


def _corners(region: Region) -> np.ndarray:
    return np.array(
        [[region.x, region.y], [region.x + region.width, region.y + region.height]], np.float64
    )
