"""Shaded solids drawn analytically: cones along bones, ellipsoids for head and trunk.

Each solid is drawn in its own window of the picture with a depth per pixel, so that edges are smooth, solids that
touch blend into one another, and a cone's rounded ends are centred on its end points exactly.

Coordinates: image points are continuous, (0, 0) is the top-left corner of the picture and (j + 0.5, i + 0.5)
the centre of the pixel in row i, column j. Depth is in px and grows towards the viewer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Plane = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# Depth of the empty backdrop, px.
FAR = -1e4


@dataclass(frozen=True, slots=True)
class Canvas:
    """Picture in progress: ``colour`` (3, H, W) in 0..255, ``depth`` (H, W) px, ``light`` (3,) unit
    vector towards the light, ``seam`` the depth in px over which touching solids blend.

    Colour comes first: numpy multiplies (3, H, W) by (H, W) ten times faster than (H, W, 3) by
    (H, W, 1).
    """

    colour: Plane
    depth: Plane
    light: Array
    seam: float


@dataclass(frozen=True, slots=True)
class Material:
    """A colour (3,), or a swatch (rows, columns, 3) that takes its place."""

    colour: Plane
    swatch: Bytes | None = None


@dataclass(frozen=True, slots=True)
class Cone:
    """A tapered limb between two image points (x, y, depth), radii in px.

    ``inner`` covers the share ``cut`` of the way from start to end, ``outer`` the rest; ``bulge`` widens
    the middle by that share of the start's radius; ``texel`` is texels per px.
    """

    start: Array
    end: Array
    radii: tuple[float, float]
    inner: Material
    outer: Material | None = None
    cut: float = 1.0
    bulge: float = 0.0
    texel: float = 1.0


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """``centre`` (x, y, depth) px; ``frame`` (3, 3) with columns left, down, front; ``semi`` (3,) px.

    A ``wrap`` is laid round it: columns by longitude (front in the middle), rows from ``rows[0]`` at
    the top to ``rows[1]`` at the bottom.
    """

    centre: Array
    frame: Array
    semi: Array
    material: Material
    rows: tuple[float, float] = (0.0, 0.0)


def draw_cone(canvas: Canvas, cone: Cone) -> None:
    """Draw a limb; its rounded ends are centred on ``start`` and ``end``."""
    (ax, ay, az), (bx, by, bz) = cone.start, cone.end
    reach = max(cone.radii) + cone.bulge * cone.radii[0] + 1.0
    window = _window(canvas, (min(ax, bx), min(ay, by)), (max(ax, bx), max(ay, by)), reach)
    if window is None:
        return
    x, y = _offsets(canvas, window, ax, ay)
    dx, dy = np.float32(bx - ax), np.float32(by - ay)
    length = np.float32(max(math.hypot(dx, dy), 1e-3))
    along = _unit(x * (dx / length**2) + y * (dy / length**2))
    radius = _radius(cone, along)
    # Offset from the axis in radii: the surface's normal in x and y.
    nx, ny = (x - along * dx) / radius, (y - along * dy) / radius
    square = nx * nx + ny * ny
    coverage = _unit((1.0 - np.sqrt(square)) * radius + 0.5)
    nz = np.sqrt(np.maximum(1.0 - square, 0.0))
    depth = along * np.float32(bz - az) + np.float32(az) + nz * radius
    shade = _shade(canvas.light, nx, ny, nz)
    across = (nx * dy - ny * dx) * (radius / length)
    colour = _limb_colour(cone, along * length, across, float(length))
    _composite(canvas, window, coverage, depth, colour * shade)


def draw_ellipsoid(canvas: Canvas, solid: Ellipsoid) -> None:
    """Draw an ellipsoid as seen along the depth axis."""
    reach = np.sqrt(((solid.frame * solid.semi) ** 2).sum(axis=1))[:2]
    cx, cy, cz = solid.centre
    low, high = (cx - reach[0], cy - reach[1]), (cx + reach[0], cy + reach[1])
    window = _window(canvas, low, high, 1.0)
    if window is None:
        return
    x, y = _offsets(canvas, window, cx, cy)
    # Rows of ``inverse`` take an offset in the image into the unit sphere of the ellipsoid.
    inverse = (solid.frame.T / solid.semi[:, None]).astype(np.float32)
    gx, gy, square = _silhouette(inverse, x, y)
    slope = np.sqrt(gx * gx + gy * gy) + np.float32(1e-6)
    coverage = _unit((np.sqrt(square) - square) / slope + 0.5)
    ray = inverse[:, 2]
    tilt = ray @ inverse / (ray @ ray)
    z = np.sqrt(np.maximum(1.0 - square, 0.0) / (ray @ ray)) - (tilt[0] * x + tilt[1] * y)
    left, down, front = (row[0] * x + row[1] * y + row[2] * z for row in inverse)
    shade = _shade(solid.frame.T @ canvas.light, left, down, front)
    colour = _wrap_colour(solid, left, down, front)
    _composite(canvas, window, coverage, z + np.float32(cz), colour * shade)


def darken_crevices(canvas: Canvas, scale: float) -> None:
    """Darken what lies close behind something nearer, so that limbs stand off the trunk.

    ``scale`` is px per stature. Only the person is darkened, not the backdrop behind.
    """
    depth = canvas.depth
    person = depth > 0.5 * FAR
    floor = np.where(person, depth, np.float32(-0.2 * scale))
    width = int(0.035 * scale) * 2 + 1
    excess = cv2.blur(floor, (width, width)) - floor
    gloom = np.minimum(_unit(excess * np.float32(4.0 / scale)), np.float32(0.45)) * person
    np.multiply(canvas.colour, 1.0 - gloom, out=canvas.colour)


@lru_cache(maxsize=8)
def _centres(size: int) -> Plane:
    return np.arange(size, dtype=np.float32) + np.float32(0.5)


Window = tuple[slice, slice]
Point = tuple[float, float]


def _window(canvas: Canvas, low: Point, high: Point, reach: float) -> Window | None:
    """Rows and columns that a solid can touch, or None when it lies outside."""
    height, width = canvas.depth.shape
    x0, x1 = max(int(low[0] - reach), 0), min(int(high[0] + reach) + 1, width)
    y0, y1 = max(int(low[1] - reach), 0), min(int(high[1] + reach) + 1, height)
    return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None


def _offsets(canvas: Canvas, window: Window, x: float, y: float) -> tuple[Plane, Plane]:
    """Pixel centres relative to a point: (1, W) and (H, 1)."""
    rows, columns = window
    across, down = _centres(canvas.depth.shape[1])[columns], _centres(canvas.depth.shape[0])[rows]
    return (across - np.float32(x))[None], (down - np.float32(y))[:, None]


def _unit(plane: Plane) -> Plane:
    """Clip to [0, 1] in place; ``np.clip`` costs three times as much on small windows."""
    np.maximum(plane, 0.0, out=plane)
    return np.minimum(plane, 1.0, out=plane)


def _radius(cone: Cone, along: Plane) -> Plane:
    radius = along * np.float32(cone.radii[1] - cone.radii[0]) + np.float32(cone.radii[0])
    if cone.bulge:
        radius += along * (1.0 - along) * np.float32(4.0 * cone.bulge * cone.radii[0])
    return radius


def _silhouette(inverse: Plane, x: Plane, y: Plane) -> tuple[Plane, Plane, Plane]:
    """Half the gradient (x, y) and the value of the quadratic form that is 1 on the outline."""
    ray = inverse[:, 2]
    across = np.eye(3, dtype=np.float32) - np.outer(ray, ray) / (ray @ ray)
    form = inverse[:, :2].T @ across @ inverse[:, :2]
    gx, gy = form[0, 0] * x + form[0, 1] * y, form[1, 0] * x + form[1, 1] * y
    return gx, gy, np.maximum(gx * x + gy * y, 0.0)


def _shade(light: Array, nx: Plane, ny: Plane, nz: Plane) -> Plane:
    """Brightness of a surface with this normal: ambient plus lambertian."""
    lx, ly, lz = light.astype(np.float32)
    facing = np.maximum(nx * lx + ny * ly + nz * lz, 0.0)
    return facing * np.float32(0.58) + np.float32(0.5)


def _limb_colour(cone: Cone, run: Plane, across: Plane, length: float) -> Plane:
    """Colour (3, H, W) or (3, 1, 1); ``run`` and ``across`` are px along and off the axis."""
    inner = cone.inner.colour[:, None, None]
    swatch, texel = cone.inner.swatch, np.float32(cone.texel)
    if swatch is not None:
        inner = _picked(swatch, run * texel, across * texel + np.float32(swatch.shape[1] / 2))
    if cone.outer is None or cone.cut >= 1.0:
        return inner
    share = _unit(run - np.float32(cone.cut * length - 0.5))
    return inner + (cone.outer.colour[:, None, None] - inner) * share


def _wrap_colour(solid: Ellipsoid, left: Plane, down: Plane, front: Plane) -> Plane:
    """Colour (3, H, W) or (3, 1, 1) of points on the unit sphere."""
    swatch = solid.material.swatch
    if swatch is None:
        return solid.material.colour[:, None, None]
    half, (top, bottom) = 0.5 * swatch.shape[1], solid.rows
    column = np.arctan2(left, front) * np.float32(half / np.pi) + np.float32(half - 0.5)
    row = down * np.float32(0.5 * (bottom - top)) + np.float32(0.5 * (bottom + top))
    return _picked(swatch, row, column)


def _picked(swatch: Bytes, row: Plane, column: Plane) -> Plane:
    """Colours of a swatch at fractional places, (3, H, W)."""
    picked = cv2.remap(swatch, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.ascontiguousarray(picked.transpose(2, 0, 1), np.float32)


def _composite(
    canvas: Canvas, window: Window, coverage: Plane, depth: Plane, colour: Plane
) -> None:
    """Blend a solid in where it covers the pixel and lies nearest."""
    rows, columns = window
    behind, target = canvas.depth[window], canvas.colour[:, rows, columns]
    nearer = _unit((depth - behind) * np.float32(1.0 / canvas.seam) + np.float32(0.5))
    target += (colour - target) * (coverage * nearer)
    np.maximum(behind, np.where(coverage > 0.5, depth, np.float32(FAR)), out=behind)
