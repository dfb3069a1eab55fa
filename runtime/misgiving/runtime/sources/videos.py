"""Video files: every frame that can be read, and how many could not be."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import DataError
from misgiving.runtime.images import SUFFIXES
from misgiving.runtime.sources.containers import Counting, counting_of, ends_early
from misgiving.runtime.sources.mp4 import read_track, shown
from misgiving.runtime.sources.pictures import Picture

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # our own line says what is wrong

_MOST_FRAMES = 10**9
"""A file that announces more does not know."""
_TRIES, _MOST_TRIES = 100, 100_000
"""Reads that fail in a row before the end is believed: at least, and with frames announced."""


@dataclass(slots=True)
class Count:
    """What was read of a video, and from it what was not. Pure."""

    announced: int | None = None
    fps: float | None = None
    counting: Counting = Counting.ESTIMATE
    cut: bool = False
    """The file ends before its end."""
    read: int = 0
    unreadable: int = 0
    """Frames that could not be decoded, with a later one that could."""
    _gaps: int = 0
    """Frames that the times of the others leave room for."""
    _uneven: int = 0
    _place: int = -1
    """Of the last frame, by its time."""

    def take(self, failures: int, at_ms: float) -> None:
        """One frame was read, at its time, after so many that could not be."""
        self.read += 1
        self.unreadable += failures
        if self.fps:
            place = round(at_ms * self.fps / 1000)
            gap = place - self._place - 1 - failures
            if failures:  # a decoder may lose several at once
                self.unreadable += max(gap, 0)
            else:
                self._gaps += max(gap, 0)
            self._uneven += gap != 0
            self._place = place

    def missing(self) -> int:
        """Frames that were announced and neither read nor unreadable; of a cut file at least 1."""
        absent = 0
        if self.announced is not None:
            absent = min(self.announced - self.read - self.unreadable, self._believed())
        return max(absent, int(self.cut))

    def _believed(self) -> int:
        """How many absent frames this kind of file can vouch for."""
        assert self.announced is not None
        if self.counting is Counting.EXACT:
            return self.announced
        tail = self.announced - self._place - 1 if self.fps else 0
        if self.counting is Counting.PLACES:
            return tail
        if self.cut:
            return self._gaps + tail
        if self._uneven > 0.1 * self.read:
            return 0
        # Sound may go on for a moment after the last picture.
        return self._gaps + (tail if tail > (self.fps or 0) else 0)


class Video:
    """A video file.

    Frames are sent raw, not as JPEG: the network then sees exactly what was decoded, not a
    second lossy compression, and neither side spends milliseconds on coding. It costs bandwidth
    (6 MB for 1080p), which between processes of one machine is cheap.
    """

    def __init__(self, path: Path) -> None:
        """Open a video.

        Raises:
            DataError: it is none that OpenCV reads.
        """
        self._path = path
        self._track = read_track(path)
        capture = self._open()
        fps = capture.get(cv2.CAP_PROP_FPS)
        frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
        self.fps: float | None = fps if 0 < fps < 1000 else None
        self.announced: int | None = int(frames) if 0 < frames < _MOST_FRAMES else None
        self.count = Count()
        self._ended = False

    @property
    def unreadable(self) -> int:
        """Frames that are there, or were announced, and could not be read so far."""
        return self.count.unreadable + (self.count.missing() if self._ended else 0)

    def __iter__(self) -> Iterator[Picture]:
        capture = self._open()
        self.count = Count(
            announced=self.announced,
            fps=self.fps,
            counting=counting_of(self._path, self._track),
            cut=ends_early(self._path),
        )
        self._ended = False
        try:
            while (bgr := self._next(capture)) is not None:
                rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
                place = self.count.read + self.count.unreadable - 1
                yield Picture(f"{place:06d}", np.asarray(rgb, np.uint8))
            self._ended = True
        finally:
            capture.release()
        if self.count.read == 0:
            raise DataError(f"{self._path} holds no frame that can be read; encode it again")

    def _next(self, capture: cv2.VideoCapture) -> NDArray[np.uint8] | None:
        """The next frame that can be read, BGR; None at the end, where all reads fail."""
        expected = (self.announced or 0) - self.count.read - self.count.unreadable
        for failures in range(min(_TRIES + max(expected, 0), _MOST_TRIES)):
            there, bgr = capture.read()
            if there:
                self.count.take(failures, capture.get(cv2.CAP_PROP_POS_MSEC))
                image = np.asarray(bgr, np.uint8)
                return self._shown(image)
        return None

    def _shown(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        mirrored = self._track and self._track.mirrored
        return shown(image, self._track.matrix) if self._track and mirrored else image

    def _open(self) -> cv2.VideoCapture:
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        with _plain(self._path) as name:
            capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
        cv2.utils.logging.setLogLevel(level)
        if not capture.isOpened():
            raise DataError(
                f"{self._path} is neither an image folder, an image ({', '.join(SUFFIXES)}) nor a "
                "video that OpenCV reads. Convert it, for example to MP4"
            )
        if self._track and self._track.mirrored:  # OpenCV knows turns only
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        return capture


@contextmanager
def _plain(path: Path) -> Iterator[str]:
    """A name for a file that OpenCV takes as one, and does not crash at.

    A relative ``a:b.avi`` would be a protocol, ``%03d`` a sequence, and a name that is no UTF-8
    ends the process.
    """
    name = str(path.absolute())
    if "%" not in name and name.isprintable():
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "video" + "".join(c for c in path.suffix if c == "." or c.isalnum()))
        link.symlink_to(name)
        yield str(link)
