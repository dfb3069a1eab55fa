"""The interface of whatever finds persons in a picture."""

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.geometry import Region

Picture = NDArray[np.uint8]
"""RGB, shape (H, W, 3)."""


class Finder(Protocol):
    """Says where the persons of a picture are. May be called from several threads at once.

    >>> class Driver:
    ...     most = 1
    ...
    ...     def find(self, image):
    ...         return (Region(40, 10, 120, 200),)
    >>> plain = Estimator.load()
    >>> estimator = Estimator(plain.bundle, plain.engine, finder=Driver())
    >>> estimator.infer(Path("runner.jpg").read_bytes()).persons[0].region.width
    120
    """

    @property
    def most(self) -> int:
        """Persons whom it names at most."""

    def find(self, image: Picture) -> tuple[Region, ...]:
        """Boxes of whole image px within the image, the surest first; none where nobody is."""


def distinct(
    boxes: Sequence[Sequence[float]], scores: Sequence[float], overlap: float
) -> list[int]:
    """Which boxes (x, y, width, height) stay, the surest first, where none overlaps a surer one
    by more than this share of both."""
    if not boxes:
        return []
    return [int(index) for index in np.ravel(cv2.dnn.NMSBoxes(boxes, scores, 0.0, overlap))]
