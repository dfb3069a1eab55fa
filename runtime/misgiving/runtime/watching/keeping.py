"""Clips and drawings of flagged events, written in a thread of their own.

The event loop only hands over. Where the thread does not keep up, or the disk takes nothing,
pictures and events are left out and counted; frames are answered all the same.
"""

import contextlib
import logging
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

from misgiving.runtime.draw import draw_result
from misgiving.runtime.images import decode, encode_jpeg
from misgiving.runtime.keypoints import KeypointSet
from misgiving.runtime.nouns import Answer, Frame
from misgiving.runtime.watching.clips import Add, Begin, Cutter, End, Instruction, Shot
from misgiving.runtime.watching.shelf import Shelf

if TYPE_CHECKING:  # its library comes with the extra [clips]
    from misgiving.runtime.watching.movies import Movie

log = logging.getLogger(__name__)

CLIP_FPS = 10
"""Pictures a second of a clip, at most: they are coded on the machine that answers."""
QUIET_S = 1.0
"""Without a flagged frame, before the next is an event: a score at the threshold flickers."""
_QUALITY = 85
_WAITING_BYTES = 128 << 20
"""Of the pictures that wait for the thread."""
_TICK_S = 1.0

_Handed = tuple[Callable[[], object], int, float]
"""Work for the thread, its bytes, and when it was handed over, in s of the monotonic clock."""


class Keeper:
    """One thread for all cameras.

    Args:
        clips: where the clips go, None for none.
        drawings: where the drawings go, None for none.
        keypoints: of the bundle that answers.
        before_s: that a clip shows before its event.
        after_s: and after it.
        barred: whether nothing of a frame may be kept.
    """

    def __init__(
        self,
        clips: Shelf | None,
        drawings: Shelf | None,
        keypoints: KeypointSet,
        before_s: float = 5.0,
        after_s: float = 5.0,
        barred: Callable[[Frame], object] = lambda _: None,
    ) -> None:
        self.clips = clips
        self.drawings = drawings
        self.keypoints = keypoints
        self.barred = barred
        self.counts: Counter[str] = Counter()
        """``clips`` and ``drawings`` written, those ``lost``, and ``pictures`` left out of
        clips."""
        self._windows = before_s, after_s
        self._clips: list[_Clip] = []
        self._queue: queue.Queue[_Handed | None] = queue.Queue()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def of(self, camera: str, *, clips: bool = True) -> "CameraKeeper":
        """What is told of one camera's frames."""
        clip = None
        if clips and self.clips is not None:
            clip = _Clip(self.clips, Cutter(*self._windows), self.counts)
            self._clips.append(clip)
        return CameraKeeper(self, camera, clip)

    def hand(self, work: Callable[[], object], size: int, lost: str) -> None:
        """Hand work to the thread, or count it as lost where too many bytes wait."""
        with self._lock:
            if self._waiting_bytes + size > _WAITING_BYTES:
                self.counts[lost] += 1
                return
            self._waiting_bytes += size
        self._queue.put((work, size, time.monotonic()))

    def close(self, wait_s: float) -> None:
        """Write what is left, and end the clips that are open."""
        self._queue.put(None)
        self._thread.join(wait_s)

    def line(self) -> str:
        """What came of the events, for people."""
        counts = self.counts
        return (
            f"kept beside: {counts['clips']} clips, {counts['drawings']} drawings, "
            f"{counts['lost']} lost, {counts['pictures']} pictures left out of clips"
        )

    def _run(self) -> None:
        while (item := self._next()) is not None:
            work, size, handed_s = item
            self._passed(handed_s)  # and not now: a thread that lags would end clips early
            work()
            with self._lock:
                self._waiting_bytes -= size
        for clip in self._clips:
            clip.end()

    def _next(self) -> _Handed | None:
        while True:
            try:
                return self._queue.get(timeout=_TICK_S)
            except queue.Empty:
                self._passed(time.monotonic())

    def _passed(self, now_s: float) -> None:
        for clip in tuple(self._clips):
            clip.passed(now_s)


class CameraKeeper:
    """Is told of one camera's frames, on the event loop."""

    def __init__(self, keeper: Keeper, camera: str, clip: "_Clip | None") -> None:
        self._keeper = keeper
        self._camera = "".join(c if c.isalnum() or c in "-_" else "_" for c in camera)
        self._clip = clip
        self._due_s = 0.0
        self._flagged_s = -math.inf
        """When the last flagged frame arrived."""

    def arrived(self, frame: Frame, arrived_nano: int) -> None:
        """A frame may become a clip's next picture."""
        at_s = arrived_nano / 1e9
        if self._clip is None or at_s < self._due_s or self._keeper.barred(frame):
            return
        self._due_s = max(self._due_s, at_s - 1 / CLIP_FPS) + 1 / CLIP_FPS
        self._keeper.hand(partial(self._clip.shot, frame, at_s), _size(frame), "pictures")

    def answered(self, frame: Frame, answer: Answer, arrived_nano: int) -> None:
        """An event is the first flagged frame after a while without one."""
        if not answer.flagged or self._keeper.barred(frame):
            return
        at_s = arrived_nano / 1e9
        began, self._flagged_s = at_s - self._flagged_s > QUIET_S, at_s
        if began:
            self._event(frame, answer, at_s)

    def _event(self, frame: Frame, answer: Answer, at_s: float) -> None:
        taken = datetime.fromtimestamp(frame.capture_time_unix_nano / 1e9, timezone.utc)
        name = f"{taken:%Y%m%dT%H%M%S.%f}Z_{self._camera}"
        if self._clip is not None:
            self._keeper.hand(partial(self._clip.event, at_s, name), 0, "lost")
        if self._keeper.drawings is not None:
            self._keeper.hand(partial(self._draw, name, frame, answer), _size(frame), "lost")

    def _draw(self, name: str, frame: Frame, answer: Answer) -> None:
        """In the keeper's thread."""
        shelf = self._keeper.drawings
        assert shelf is not None
        try:
            picture = draw_result(frame.decoded(), answer.persons, self._keeper.keypoints)
            shelf.begin(name).write_bytes(encode_jpeg(picture))
            shelf.keep(name)
            self._keeper.counts["drawings"] += 1
        except Exception as error:  # whatever it is, the next event gets its chance
            self._keeper.counts["lost"] += 1
            log.warning("drawing %s is lost: %s", name, error)
            with contextlib.suppress(OSError):
                shelf.drop(name)


class _Clip:
    """Performs what a camera's cutter instructs, in the keeper's thread."""

    def __init__(self, shelf: Shelf, cutter: Cutter, counts: Counter[str]) -> None:
        self._shelf = shelf
        self._cutter = cutter
        self._counts = counts
        self._name = ""
        self._movie: Movie | None = None

    def shot(self, frame: Frame, at_s: float) -> None:
        try:
            image = frame.image
            jpeg = image if isinstance(image, bytes) else encode_jpeg(image, _QUALITY)
            self._perform(self._cutter.shot(Shot(at_s, jpeg)))
        except Exception:  # what cannot be coded is answered as a failure, and logged there
            self._counts["pictures"] += 1

    def event(self, at_s: float, name: str) -> None:
        self._perform(self._cutter.event(at_s, name))

    def passed(self, now_s: float) -> None:
        self._perform(self._cutter.passed(now_s))

    def end(self) -> None:
        self._perform(self._cutter.end())

    def _perform(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            try:
                self._do(instruction)
            except Exception as error:  # a full disk, or whatever it is
                self._lose(error)

    def _do(self, instruction: Instruction) -> None:
        from misgiving.runtime.watching.movies import Movie

        match instruction:
            case Begin(name):
                self._name, self._movie = name, None
                self._movie = Movie(self._shelf.begin(name))
            case Add(shot) if self._movie is not None:
                self._movie.add(decode(shot.jpeg), shot.at_s)
            case End() if self._movie is not None:
                movie, self._movie = self._movie, None
                movie.close()
                self._shelf.keep(self._name)
                self._counts["clips"] += 1

    def _lose(self, error: Exception) -> None:
        log.warning("clip %s is lost: %s", self._name, error)
        self._counts["lost"] += 1
        movie, self._movie = self._movie, None
        with contextlib.suppress(Exception):
            if movie is not None:
                movie.close()
        with contextlib.suppress(OSError):
            self._shelf.drop(self._name)


def _size(frame: Frame) -> int:
    return len(frame.image) if isinstance(frame.image, bytes) else frame.image.nbytes
