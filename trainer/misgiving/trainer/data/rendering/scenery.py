"""What surrounds a rendered person: backdrop, objects in front, and the camera's own faults.

Scenes being drawn are (H, W, 3) RGB bytes; pictures in progress are (3, H, W) float32 in 0..255,
because numpy multiplies (3, H, W) by (H, W) ten times faster than (H, W, 3) by (H, W, 1). Every
effect grows with ``difficulty`` in [0, 1] and leaves points where they are: blur kernels are
symmetric, nothing warps the picture.
"""

from __future__ import annotations

import colorsys
import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Picture = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# Side of the stored sensor noise, px.
_NOISE_BANK = 512
# cv2 drawing takes integers with this many fractional bits.
SHIFT = 4

_CORNERS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
_TURN = np.linspace(0.0, 2.0 * np.pi, 28, endpoint=False)
_CIRCLE = np.column_stack([np.cos(_TURN), np.sin(_TURN)])


def random_colour(rng: np.random.Generator, saturation: float, value: float) -> Array:
    """A random hue, (3,) RGB in 0..255; saturation and value in [0, 1] scatter a little."""
    hue, s, v = rng.random(3).tolist()
    s, v = saturation * (0.6 + 0.6 * s), value * (0.75 + 0.4 * v)
    return 255.0 * np.array(colorsys.hsv_to_rgb(hue, min(s, 1.0), min(v, 1.0)))


def fixed_point(points: NDArray[np.floating]) -> NDArray[np.int32]:
    """Image points as cv2's fixed-point numbers, which count from the first pixel's centre."""
    return np.asarray(np.rint((points - 0.5) * (1 << SHIFT)), np.int32)


def fill_polygon(image: Bytes, points: NDArray[np.floating], colour: Array) -> None:
    """Fill a convex polygon, (N, 2) image points, with smooth edges."""
    cv2.fillConvexPoly(image, fixed_point(points), colour.tolist(), cv2.LINE_AA, SHIFT)


def pattern(rng: np.random.Generator, colour: Array, size: int = 128) -> Bytes:
    """A square swatch of cloth, (size, size, 3): striped, chequered, dotted or mottled."""
    other = 0.55 * random_colour(rng, 0.6, 0.85) + 0.45 * (255.0 - colour)
    kind, period = int(rng.integers(5)), (8, 11, 16, 21)[int(rng.integers(4))]
    sine = np.sin(np.arange(size, dtype=np.float32) * np.float32(2 * np.pi / period))
    wave = np.clip(0.5 + 1.5 * sine, 0.0, 1.0)
    if kind == 0:
        mix = np.repeat(wave[:, None], size, axis=1)
    elif kind == 1:
        mix = np.repeat(wave[None], size, axis=0)
    elif kind == 2:
        mix = 0.5 * (wave[:, None] + wave)
    elif kind == 3:
        mix = np.clip(2.0 * sine[:, None] * sine - 0.6, 0.0, 1.0)
    else:
        mix = 0.7 * mottle(rng, size, 16)
    ramp = colour + np.linspace(0.0, 1.0, 256)[:, None] * (other - colour)
    levels = (mix * 255.0).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, ramp.astype(np.uint8)[:, None]), np.uint8)


def mottle(rng: np.random.Generator, size: int, cells: int) -> Picture:
    """Smooth noise in [0, 1], (size, size), with ``cells`` independent values along a side."""
    coarse = rng.random((cells, cells), dtype=np.float32)
    # Cubic to half the size, then linear: as smooth to the eye as cubic all the way, and quicker.
    half = cv2.resize(coarse, (size // 2, size // 2), interpolation=cv2.INTER_CUBIC)
    return np.clip(cv2.resize(half, (size, size), interpolation=cv2.INTER_LINEAR), 0.0, 1.0)


def backdrop(rng: np.random.Generator, difficulty: float, size: int) -> Bytes:
    """Wall and floor, and with rising difficulty mottle and clutter, (size, size, 3)."""
    image = _room(rng, difficulty, size)
    for _ in range(int(rng.binomial(12, 0.9 * difficulty))):
        _draw_clutter(rng, image, difficulty)
    return image


def occlude(
    rng: np.random.Generator, image: Picture, points: NDArray[np.float32], difficulty: float
) -> NDArray[np.bool_]:
    """Put objects before the person, in place; true where one hides a joint, (K,)."""
    hidden = np.zeros(len(points), np.bool_)
    for _ in range(int(rng.binomial(3, 0.5 * max(0.0, difficulty - 0.1)))):
        size = image.shape[1]
        centre = points[int(rng.integers(len(points)))] + rng.normal(0.0, 0.06 * size, 2)
        outline = _object_outline(rng, size, centre)
        _cover(rng, image, outline)
        hidden |= _inside(outline, points)
    return hidden


def photograph(rng: np.random.Generator, image: Picture, difficulty: float) -> Bytes:
    """Light, lens and sensor: gradient, exposure, cast, contrast, blur and noise."""
    size = image.shape[1]
    _light(rng, image, difficulty)
    exposed = _blurred(rng, cv2.merge(list(image)), difficulty * size / 192.0)
    amount = 1.2 + 10.0 * difficulty * rng.random() ** 1.5
    noise = _noise(rng, size)
    return np.asarray(cv2.addWeighted(exposed, 1.0, noise, amount, 0.0, dtype=cv2.CV_8U), np.uint8)


def _room(rng: np.random.Generator, difficulty: float, size: int) -> Bytes:
    """A wall with a vertical gradient above a floor."""
    saturation = 0.13 + 0.4 * difficulty * rng.random()
    wall = random_colour(rng, saturation, rng.uniform(0.62 - 0.2 * difficulty, 0.95))
    floor = 0.5 * wall * rng.uniform(0.6, 1.05) + 0.5 * random_colour(rng, 0.3, 0.65)
    rows = (np.arange(size)[:, None] + 0.5) / size
    horizon = rng.uniform(0.62, 0.88)
    below = np.clip((rows - horizon) * size / 3.0 + 0.5, 0.0, 1.0)
    column = wall * (1.06 - 0.22 * rows) + below * (floor * (1.15 - 0.4 * (1 - rows)) - wall)
    strength = np.float32(6.0 + 80.0 * difficulty * rng.random())
    grain = (mottle(rng, size, int(rng.integers(4, 32))) - np.float32(0.5)) * strength
    fall = _vignette(size)
    planes = [shade[:, None] * fall + grain for shade in column.T.astype(np.float32)]
    return np.asarray(cv2.convertScaleAbs(cv2.merge(planes)), np.uint8)


@lru_cache(maxsize=8)
def _vignette(size: int) -> Picture:
    axis = (np.arange(size) + 0.5) / size - 0.5
    fall = 1.04 - 0.3 * (axis[:, None] ** 2 + axis**2)
    return fall.astype(np.float32)


def _draw_clutter(rng: np.random.Generator, image: Bytes, difficulty: float) -> None:
    """One box, disc, pole or patterned panel."""
    size = image.shape[0]
    colour = random_colour(rng, 0.2 + 0.3 * difficulty, rng.uniform(0.25, 0.95))
    centre, kind = rng.random(2) * size, int(rng.integers(7))
    extent = size * rng.uniform(0.04, 0.12 + 0.12 * difficulty, 2)
    if kind == 0:
        _draw_panel(image, pattern(rng, colour, int(2 * extent.max()) + 2), centre, extent)
    elif kind == 1:
        fill_polygon(image, _ellipse(centre, extent, rng.uniform(0, np.pi)), colour)
    elif kind == 2:
        pole = np.array([1.2 * size, rng.uniform(0.01, 0.04) * size])
        fill_polygon(image, _box(centre, pole, rng.normal(np.pi / 2, 0.5)), colour)
    else:
        fill_polygon(image, _box(centre, extent, rng.normal(0.0, 0.4)), colour)


def _draw_panel(image: Bytes, swatch: Bytes, centre: Array, extent: Array) -> None:
    """Paste an upright patterned rectangle, clipped to the image and to the swatch."""
    size = image.shape[0]
    low = np.clip(centre - extent, 0, size - 1).astype(int)
    high = np.minimum(np.clip(centre + extent, 1, size).astype(int), low + swatch.shape[0])
    image[low[1] : high[1], low[0] : high[0]] = swatch[: high[1] - low[1], : high[0] - low[0]]


def _object_outline(rng: np.random.Generator, size: int, centre: Array) -> Picture:
    """Outline of an occluder, (N, 2): box, ellipse, or a pole through the whole picture."""
    extent = size * rng.uniform(0.03, 0.11, 2)
    angle, kind = rng.uniform(0, np.pi), int(rng.integers(6))
    if kind == 0:
        return _box(centre, np.array([1.5 * size, rng.uniform(0.012, 0.035) * size]), angle)
    if kind <= 2:
        return _ellipse(centre, extent, angle)
    return _box(centre, extent, angle)


def _cover(rng: np.random.Generator, image: Picture, outline: Picture) -> None:
    """Paint an occluder, plain or patterned, shaded from its left to its right."""
    size = image.shape[1]
    low = np.floor(outline.min(axis=0) - 1.0).clip(0, size - 1).astype(int)
    high = np.ceil(outline.max(axis=0) + 1.0).clip(low + 1, size).astype(int)
    width, height = high - low
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, fixed_point(outline - low), 255.0, cv2.LINE_AA, SHIFT)
    shade = np.linspace(1.12, 0.77, width, dtype=np.float32)
    colour = random_colour(rng, 0.55, rng.uniform(0.3, 0.95))
    surface = colour.astype(np.float32)[:, None, None] * shade
    if rng.random() < 0.5:
        swatch = pattern(rng, colour, max(width, height))[:height, :width]
        surface = np.ascontiguousarray(swatch.transpose(2, 0, 1), np.float32) * shade
    part = image[:, low[1] : high[1], low[0] : high[0]]
    part += (surface - part) * (mask * np.float32(1 / 255))


def _box(centre: Array, extent: Array, angle: float) -> Picture:
    c, s = math.cos(angle), math.sin(angle)
    corners = _CORNERS * extent
    return np.asarray(corners @ np.array([[c, s], [-s, c]]) + centre, np.float32)


def _ellipse(centre: Array, extent: Array, angle: float) -> Picture:
    c, s = math.cos(angle), math.sin(angle)
    rim = _CIRCLE * extent
    return np.asarray(rim @ np.array([[c, s], [-s, c]]) + centre, np.float32)


def _inside(outline: Picture, points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which points a convex outline holds, (K,)."""
    x, y = outline[:, 0], outline[:, 1]
    ex, ey = np.roll(x, -1) - x, np.roll(y, -1) - y
    side = ex * (points[:, 1:2] - y) - ey * (points[:, 0:1] - x)
    return np.asarray((side >= 0).all(axis=1) | (side <= 0).all(axis=1))


def _light(rng: np.random.Generator, image: Picture, difficulty: float) -> None:
    """Change the light in place: a slope over the picture, exposure, cast, loss of contrast."""
    size = image.shape[1]
    slope = rng.normal(0.0, 0.05 + 0.25 * difficulty, 2)
    axis = (np.arange(size) + 0.5) / size - 0.5
    field = (1.0 + slope[0] * axis).astype(np.float32) + (slope[1] * axis).astype(np.float32)[
        :, None
    ]
    np.maximum(field, 0.3, out=field)
    exposure = np.exp(
        rng.normal(0.0, 0.04 + 0.15 * difficulty) - 0.6 * difficulty * rng.random() ** 2
    )
    cast = 1.0 + rng.normal(0.0, 0.015 + 0.06 * difficulty, 3)
    contrast = 1.0 - 0.45 * difficulty * rng.random() ** 1.5
    for plane, gain in zip(image, exposure * contrast * cast, strict=True):
        plane *= field * np.float32(gain)
    image += np.float32(110.0 * exposure * (1.0 - contrast))


def _blurred(rng: np.random.Generator, image: Picture, strength: float) -> Picture:
    """Out of focus, or moved along a line during the exposure; (H, W, 3) in and out."""
    sigma = 1.7 * strength * rng.random() ** 1.5
    if sigma < 0.25:
        return image
    if rng.random() < 0.4:
        return np.asarray(cv2.filter2D(image, -1, _motion_kernel(rng, 4.5 * sigma)), np.float32)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def _motion_kernel(rng: np.random.Generator, length: float) -> Picture:
    """Point-symmetric line of ``length`` px in a random direction, normalised."""
    half = int(np.ceil(0.5 * length)) + 1
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.clip(0.5 * length + 0.5 - abs(along), 0, 1) * np.clip(1.0 - abs(across), 0, 1)
    kernel[half, half] = max(kernel[half, half], 1e-3)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _noise(rng: np.random.Generator, size: int) -> Picture:
    """Unit normal noise, (size, size, 3), cut from the bank at a random place."""
    bank = _noise_bank(max(_NOISE_BANK, 2 * size))
    y, x = rng.integers(0, len(bank) - size, 2)
    return bank[y : y + size, x : x + size]


@lru_cache(maxsize=2)
def _noise_bank(side: int) -> Picture:
    """Noise drawn once; drawing it afresh would take a fifth of the time of a picture."""
    return np.random.default_rng(0).standard_normal((side, side, 3)).astype(np.float32)
