"""Where recorded frames come from: a folder of images, one image, or a video file."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import DataError
from misgiving.runtime.images import SUFFIXES, name_of, read_bytes

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # our own line says what is wrong


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame of a :class:`Source` before it has a place on the wire."""

    name: str
    """The file's name; for a video or a camera six digits counted from 000000."""
    image: bytes | NDArray[np.uint8]
    """The file's bytes, untouched; for a video or a camera RGB (H, W, 3)."""
    captured_unix_nano: int = 0
    """When it was taken; 0 where that is not known."""


class Source(Protocol):
    """Pictures in order.

    >>> source = open_source(Path("drive.mp4"))
    >>> source.fps, [(picture.name, picture.image.shape) for picture in source][:1]
    (10.0, [('000000', (48, 64, 3))])
    """

    @property
    def fps(self) -> float | None:
        """Frames per second at recording, None where that is not known."""

    def __iter__(self) -> Iterator[Picture]: ...


class Images:
    """Image files, sent as they lie on disk."""

    fps: float | None = None

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def __iter__(self) -> Iterator[Picture]:
        for path in self._paths:
            yield Picture(name_of(Path(path.name)), read_bytes(path))


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
        capture = self._open()
        fps = capture.get(cv2.CAP_PROP_FPS)
        capture.release()
        self.fps: float | None = fps if 0 < fps < 1000 else None

    def __iter__(self) -> Iterator[Picture]:
        capture = self._open()
        try:
            index = 0
            while (read := capture.read())[0]:
                rgb = cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
                yield Picture(f"{index:06d}", np.asarray(rgb, np.uint8))
                index += 1
        finally:
            capture.release()
        if index == 0:
            raise DataError(f"{self._path} holds no frame that can be read; encode it again")

    def _open(self) -> cv2.VideoCapture:
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        cv2.utils.logging.setLogLevel(level)
        if not capture.isOpened():
            raise DataError(
                f"{self._path} is neither an image folder, an image ({', '.join(SUFFIXES)}) nor a "
                "video that OpenCV reads. Convert it, for example to MP4"
            )
        return capture


def open_source(path: Path) -> Source:
    """The source that a path names.

    >>> [picture.name for picture in open_source(Path("runner.jpg"))]
    ['runner.jpg']

    Raises:
        DataError: nothing is there, no image is in the folder, or the video cannot be read.
    """
    if path.is_dir():
        return Images(images_in(path))
    if not path.is_file():
        raise DataError(
            f"{path} does not exist; expected a folder of images, an image, a video file, a "
            "camera's index or device, or a URL"
        )
    return Images([path]) if path.suffix.lower() in SUFFIXES else Video(path)


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, in the order of their names.

    Raises:
        DataError: there is none.
    """
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise DataError(f"{folder} holds no image; expected files {', '.join(SUFFIXES)}")
    return found
