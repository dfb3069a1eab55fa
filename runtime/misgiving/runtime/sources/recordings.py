"""Where recorded frames come from: a folder of images, one image, or a video file."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from misgiving.runtime.errors import DataError, ImageError
from misgiving.runtime.images import SUFFIXES, name_of, read_bytes
from misgiving.runtime.sources.pictures import Picture as Picture
from misgiving.runtime.sources.videos import Video

log = logging.getLogger(__name__)

DEFAULT_FPS = 25.0
"""Of a recording that does not say its own, when it is paced like a camera."""


class Source(Protocol):
    """Pictures in order.

    >>> source = open_source(Path("drive.mp4"))
    >>> source.fps, [(picture.name, picture.image.shape) for picture in source][:1]
    (10.0, [('000000', (48, 64, 3))])
    >>> source.announced, source.unreadable
    (3, 0)
    """

    @property
    def fps(self) -> float | None:
        """Frames per second at recording, None where that is not known."""

    @property
    def announced(self) -> int | None:
        """Frames that it says it has, None where it does not say; some videos only estimate."""

    @property
    def unreadable(self) -> int:
        """Frames that were left out until now because they cannot be read."""

    def __iter__(self) -> Iterator[Picture]: ...


class Images:
    """Image files, sent as they lie on disk."""

    fps: float | None = None

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self.announced: int | None = len(paths)
        self.unreadable = 0

    def __iter__(self) -> Iterator[Picture]:
        """Those that can be read.

        Raises:
            ImageError: none can.
        """
        self.unreadable = 0
        for path in self._paths:
            try:
                data = read_bytes(path)
            except ImageError as error:
                self.unreadable += 1
                if self.unreadable == len(self._paths):
                    raise
                log.warning("%s. It is left out", error)
            else:
                yield Picture(name_of(Path(path.name)), data)


def open_source(path: Path | str) -> Source:
    """The source that a path names.

    >>> [picture.name for picture in open_source(Path("runner.jpg"))]
    ['runner.jpg']

    Raises:
        DataError: nothing is there, no image is in the folder, or the video cannot be read.
    """
    path = Path(path)
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
    # What systems put beside images is hidden, such as macOS's ``._a.jpg``.
    names = (path for path in folder.iterdir() if not path.name.startswith("."))
    found = sorted(p for p in names if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise DataError(f"{folder} holds no image; expected files {', '.join(SUFFIXES)}")
    return found


def paced(
    pictures: Iterable[Picture],
    fps: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[Picture]:
    """Hand pictures out like a camera: picture i not before i / fps seconds."""
    start = clock()
    for index, picture in enumerate(pictures):
        sleep(max(0.0, start + index / fps - clock()))
        yield picture
