"""Where to look in frames that come without regions."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from misgiving.runtime.geometry import Region
from misgiving.runtime.nouns import Answer, Frame
from misgiving.runtime.persons.finding import Finder, Picture
from misgiving.runtime.persons.following import Trail

MAX_STREAMS = 256
"""Streams whose persons are remembered; the one that was silent longest is forgotten first."""


class Lookout:
    """Names the regions of a frame: those fixed for its camera, else those of the persons who
    are followed, else what a detector finds, else the whole frame.

    Only frames that name their stream have a camera, and only those are followed.
    """

    def __init__(
        self,
        finder: Finder | None = None,
        fixed: Mapping[str, Sequence[Region]] | None = None,
        follow: int = 0,
    ) -> None:
        """Look out by whatever there is.

        Args:
            finder: a detector; None looks at the whole frame instead.
            fixed: regions of each camera, by its stream id.
            follow: frames from one full look to the next; 0 and 1 follow nobody.
        """
        self._finder = finder
        self._fixed = {stream: tuple(regions) for stream, regions in (fixed or {}).items()}
        self._follow = follow
        self._trails: OrderedDict[str, Trail] = OrderedDict()

    def most(self, frame: Frame) -> int:
        """Persons whom a frame without regions may get."""
        if fixed := self._fixed.get(frame.stream_id):
            return len(fixed)
        return self._finder.most if self._finder else 1

    def follows(self, frame: Frame) -> bool:
        """Whether an answer to this frame says where to look in the next one of its stream."""
        known = frame.stream_id and frame.stream_id not in self._fixed and not frame.regions
        return self._follow > 1 and bool(known)

    def find(self, frame: Frame, image: Picture) -> tuple[Region, ...] | None:
        """Where to look in a frame without regions; None for the whole of it.

        Args:
            frame: names its stream.
            image: the frame decoded.
        """
        if fixed := self._fixed.get(frame.stream_id):
            return fixed
        trail = self._trails.get(frame.stream_id, Trail())
        if followed := trail.within(*image.shape[:2]):
            return followed
        return self._finder.find(image) if self._finder else None

    def seen(self, frame: Frame, answer: Answer) -> None:
        """Remember where the persons of a frame are."""
        if not self.follows(frame):
            return
        stream = frame.stream_id
        before = self._trails.pop(stream, Trail())
        self._trails[stream] = before.after(answer.persons, self._follow)
        if len(self._trails) > MAX_STREAMS:
            self._trails.popitem(last=False)
