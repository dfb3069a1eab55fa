"""H.264 in MP4 by PyAV, whose wheels bring x264: OpenCV's encode none."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

_MS = Fraction(1, 1000)
_OPTIONS = {"preset": "veryfast", "crf": "23", "threads": "1"}
"""One thread: the cores are the network's."""


class Movie:
    """A movie that grows picture by picture; all get the first one's size, less an odd px.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = av.open(str(path), "w", format="mp4")
        self._stream: av.VideoStream | None = None
        self._began_s = 0.0
        self._last_ms = -1

    def add(self, image: NDArray[np.uint8], at_s: float) -> None:
        """Add an RGB picture (H, W, 3), shown as long after the first as it was taken."""
        if self._stream is None:
            self._stream = self._begun(*image.shape[:2])
            self._began_s = at_s
        size = {"width": self._stream.width, "height": self._stream.height}
        frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(**size, format="yuv420p")
        self._last_ms = max(round((at_s - self._began_s) * 1000), self._last_ms + 1)
        frame.pts, frame.time_base = self._last_ms, _MS
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is left; only then can players read it."""
        try:
            if self._stream is not None:
                self._file.mux(self._stream.encode())
        finally:
            self._file.close()

    def _begun(self, height: int, width: int) -> av.VideoStream:
        stream = self._file.add_stream("libx264", rate=25, options=_OPTIONS)
        stream.height, stream.width = max(2, height & ~1), max(2, width & ~1)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _MS
        stream.codec_context.max_b_frames = 0  # no picture waits for a later one
        return stream
