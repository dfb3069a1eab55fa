"""One frame of a source, before it has a place on the wire."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame of a :class:`Source` before it has a place on the wire."""

    name: str
    """The file's name; for a video or a camera six digits counted from 000000."""
    image: bytes | NDArray[np.uint8]
    """The file's bytes, untouched; for a video or a camera RGB (H, W, 3)."""
    captured_unix_nano: int = 0
    """When it was taken; 0 where that is not known."""
