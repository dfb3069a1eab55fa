"""From coarse to fine: where to look again after a look at the whole frame. Pure.

The network learnt persons who fill their window but for the crop rule's padding. A whole frame
often holds a smaller one, and is answered badly. Such an answer asks for a closer look: some
regions made from its keypoints, of which the one with the lowest predicted loss is kept. All of
them are whole pixels, so that a reply, a spooled frame and a label set name exactly what was seen.

Axes: K keypoints, R regions.
"""

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.geometry import CropRule, Region, Window, whole_pixels, window_of

Floats = NDArray[np.floating]

ROUNDS = 2
"""Closer looks at most; the second starts from what the first has kept."""
_SPREAD = 3.0
"""Standard deviations of a pose's joints that make about its extent."""
_NEAR = 0.15
"""How far joints speak for each other when the person is looked for, in window sizes."""
_ZOOM = 0.35
"""Side of the window around the likeliest place, in sides of the one before it."""
_SMALLEST_PX = 16
"""Longer side of the smallest region: less shows nobody."""


def asks(
    points: Floats, confidence: Floats, window: Window, rule: CropRule, failure: float | None
) -> bool:
    """Whether an answer asks for a closer look.

    A person who is framed well spans 1 / padding of the window. An answer that trusts itself may
    span half of that, one that does not must span all of it.

    Args:
        points: shape (K, 2), image px.
        confidence: shape (K,); nobody is looked for where all of it is 0.
        window: what was looked at.
        rule: that cut it.
        failure: probability that the answer failed; None where it is not known, as if certain.
    """
    if not (np.isfinite(points).all() and confidence.sum() > 0):
        return False
    weights = confidence / confidence.sum()
    variance = weights @ (points - weights @ points) ** 2
    span = (_SPREAD * np.sqrt(variance) / [window.width, window.height]).max()
    doubt = 1.0 if failure is None else failure
    return bool(span < (1 + doubt) / 2 / rule.padding)


def regions(
    points: Floats, confidence: Floats, window: Window, rule: CropRule, frame: Region
) -> list[Region]:
    """What to look at next: around all joints, around the surer half, and closely at the
    likeliest place.

    Args:
        points: shape (K, 2), finite, image px.
        confidence: shape (K,).
        window: what was looked at.
        rule: that cut it.
        frame: the whole frame; no region leaves it, and no window is larger than its own.

    Returns:
        At most three regions, none where all of them would be too small or too large.
    """
    surer = np.argsort(-confidence, kind="stable")[: len(points) // 2 + 1]
    reach = np.array([window.width, window.height]) * (_ZOOM / rule.padding / 2)
    centre = _likeliest(points, confidence, window)
    around = points, points[surer], np.stack([centre - reach, centre + reach])
    found = dict.fromkeys(whole_pixels(some, frame) for some in around)  # each once, in order
    return [region for region in found if _is_useful(region, frame, rule)]


def best(predicted_loss: Floats) -> int:
    """Which of some looks is kept, the first where none is better. NaN is never better."""
    lowest = int(np.argmin(np.where(np.isnan(predicted_loss), np.inf, predicted_loss)))
    return lowest if predicted_loss[lowest] < predicted_loss[0] else 0


def _likeliest(points: Floats, confidence: Floats, window: Window) -> Floats:
    """The joint that the most, and the surest, others are near to, shape (2,): joints that were
    found lie together on the person, the others anywhere."""
    apart = np.linalg.norm(points[:, None] - points, axis=-1) / max(window.width, window.height)
    support = np.exp(-((apart / _NEAR) ** 2) / 2) @ confidence**2
    found: Floats = points[np.argmax(support)]
    return found


def _is_useful(region: Region, frame: Region, rule: CropRule) -> bool:
    """Large enough to show somebody, and a part of the frame's own window at most."""
    height, width = int(frame.height), int(frame.width)
    window, whole = window_of(region, height, width, rule), window_of(None, height, width, rule)
    return max(region.width, region.height) >= _SMALLEST_PX and window.width <= whole.width
