"""Shaded solids drawn analytically: cones along bones, ellipsoids for head and trunk.

Each solid is drawn in its own window of the picture with a depth per pixel, so that edges are
smooth, solids that touch blend into one another, and a cone's rounded ends are centred on its end
points exactly.

Coordinates: image points are continuous, (0, 0) is the top-left corner of the picture and
(j + 0.5, i + 0.5) the centre of the pixel in row i, column j. Depth is in px and grows towards the
viewer.
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
# Brightness of a surface that the light does not reach, and what full light adds.
_AMBIENT, _DIFFUSE = 0.5, 0.58


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

    ``inner`` covers the share ``cut`` of the way from start to end, ``outer`` the rest; ``bulge``
    widens the middle by that share of the start's radius; ``texel`` is texels per px.
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
    """A solid at ``centre`` (x, y, depth) px with semi-axes ``semi`` (3,) px along the columns of
    ``frame`` (3, 3): left, down, front.

    A swatch is laid round it: columns by longitude, front in the middle; rows from ``rows[0]`` at
    the top to ``rows[1]`` at the bottom.
    """

    centre: Array
    frame: Array
    semi: Array
    material: Material
    rows: tuple[float, float] = (0.0, 0.0)


def draw_cone(canvas: Canvas, cone: Cone) -> None:
    """Draw a limb; its rounded ends are centred on ``start`` and ``end``."""
    (ax, ay, az), (bx, by, bz) = cone.start.tolist(), cone.end.tolist()
    reach = max(cone.radii) + cone.bulge * cone.radii[0] + 1.0
    window = _window(canvas, (min(ax, bx), min(ay, by)), (max(ax, bx), max(ay, by)), reach)
    if window is None:
        return
    x, y = _offsets(canvas, window, ax, ay)
    dx, dy = bx - ax, by - ay
    length = max(math.hypot(dx, dy), 1e-3)
    along = _unit(x * (dx / length**2) + y * (dy / length**2))
    radius = _radius(cone, along)
    # Offset from the axis in radii: the surface's normal in x and y.
    nx, ny = (x - along * dx) / radius, (y - along * dy) / radius
    inner = 1.0 - nx * nx
    inner -= ny * ny
    coverage = _unit(inner * radius * 0.5 + 0.5)
    nz = np.sqrt(np.maximum(inner, 0.0, out=inner), out=inner)
    depth = along * (bz - az) + nz * radius
    depth += az
    shade = _shade(canvas.light, nx, ny, nz)
    colour = _limb_colour(cone, along * length, (nx * dy - ny * dx) / length, radius)
    _composite(canvas, window, coverage, depth, colour * shade)


def draw_ellipsoid(canvas: Canvas, solid: Ellipsoid) -> None:
    """Draw an ellipsoid as seen along the depth axis."""
    # Rows of ``inverse`` take an offset in the image into the unit sphere of the ellipsoid.
    inverse = solid.frame.T / solid.semi[:, None]
    reach = np.sqrt(((solid.frame * solid.semi) ** 2).sum(axis=1)).tolist()
    cx, cy, cz = solid.centre.tolist()
    low, high = (cx - reach[0], cy - reach[1]), (cx + reach[0], cy + reach[1])
    window = _window(canvas, low, high, 1.0)
    if window is None:
        return
    x, y = _offsets(canvas, window, cx, cy)
    (a, b, tx), (_, c, ty), (_, _, tz) = (inverse.T @ inverse).tolist()
    tx, ty = tx / tz, ty / tz
    a, b, c = a - tz * tx * tx, b - tz * tx * ty, c - tz * ty * ty
    # The form a x^2 + 2 b x y + c y^2 is 1 on the outline; ``slope`` is its gradient's length.
    inner = _quadratic(x, y, -a, -b, -c) + 1.0
    slope = np.sqrt(_quadratic(x, y, a * a + b * b, (a + c) * b, b * b + c * c)) * 2.0 + 1e-6
    coverage = _unit(np.asarray(inner / slope + 0.5, np.float32))
    z = np.sqrt(np.maximum(inner, 0.0, out=inner), out=inner) * (1.0 / math.sqrt(tz))
    z -= tx * x + ty * y
    sunward = (solid.frame.T @ canvas.light) @ inverse
    shade = _shade(sunward, x, y, z)
    _composite(canvas, window, coverage, z + cz, _wrap_colour(solid, inverse, x, y, z) * shade)


def darken_crevices(canvas: Canvas, scale: float) -> None:
    """Darken what lies close behind something nearer, so that limbs stand off the trunk.

    ``scale`` is px per stature. Only the person is darkened, not the backdrop behind.
    """
    occupied = np.asarray(canvas.depth > 0.5 * FAR)
    if not occupied.any():
        return
    rows, columns = (_extent(np.asarray(occupied.any(axis=axis))) for axis in (1, 0))
    person, depth = occupied[rows, columns], canvas.depth[rows, columns]
    floor = np.where(person, depth, np.float32(-0.2 * scale))
    width = int(0.035 * scale) * 2 + 1
    excess = cv2.blur(floor, (width, width)) - floor
    gloom = np.minimum(_unit(excess * np.float32(4.0 / scale)), np.float32(0.45)) * person
    canvas.colour[:, rows, columns] *= 1.0 - gloom


def _extent(occupied: NDArray[np.bool_]) -> slice:
    """From the first to the last true entry."""
    places = np.flatnonzero(occupied)
    return slice(int(places[0]), int(places[-1]) + 1)


@lru_cache(maxsize=8)
def _centres(size: int) -> Plane:
    return np.arange(0.5, size, dtype=np.float32)


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
    start, end = cone.radii
    swell = 4.0 * cone.bulge * start
    return (along * -swell + (end - start + swell)) * along + start


def _quadratic(x: Plane, y: Plane, a: float, b: float, c: float) -> Plane:
    """a x^2 + 2 b x y + c y^2 from (1, W) and (H, 1)."""
    value = x * (2.0 * b) * y
    value += a * x * x + c * y * y
    return value


def _shade(light: Array, nx: Plane, ny: Plane, nz: Plane) -> Plane:
    """Brightness of a surface with this normal: ambient plus lambertian."""
    lx, ly, lz = (_DIFFUSE * light).tolist()
    facing: Plane = nx * lx + ny * ly
    facing += nz * lz
    facing += _AMBIENT
    np.maximum(facing, _AMBIENT, out=facing)
    return facing


def _limb_colour(cone: Cone, run: Plane, side: Plane, radius: Plane) -> Plane:
    """Colour (3, H, W) or (3, 1, 1); ``run`` is px along the axis, ``side`` radii off it."""
    inner = cone.inner.colour[:, None, None]
    swatch, texel = cone.inner.swatch, np.float32(cone.texel)
    if swatch is not None:
        inner = _picked(
            swatch, run * texel, side * radius * texel + np.float32(swatch.shape[1] / 2)
        )
    if cone.outer is None or cone.cut >= 1.0:
        return inner
    length = math.dist(cone.start[:2], cone.end[:2])
    share = _unit(run - np.float32(cone.cut * length - 0.5))
    return inner + (cone.outer.colour[:, None, None] - inner) * share


def _wrap_colour(solid: Ellipsoid, inverse: Array, x: Plane, y: Plane, z: Plane) -> Plane:
    """Colour (3, H, W) or (3, 1, 1) of surface points relative to the centre, px."""
    swatch = solid.material.swatch
    if swatch is None:
        return solid.material.colour[:, None, None]
    left, down, front = (row[0] * x + row[1] * y + row[2] * z for row in inverse.tolist())
    half, (top, bottom) = 0.5 * swatch.shape[1], solid.rows
    column = np.arctan2(left, front) * (half / math.pi) + (half - 0.5)
    row = down * (0.5 * (bottom - top)) + 0.5 * (bottom + top)
    return _picked(swatch, row, column)


def _picked(swatch: Bytes, row: Plane, column: Plane) -> Plane:
    """Colours of a swatch at fractional places, (3, H, W)."""
    picked = cv2.remap(swatch, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.ascontiguousarray(picked.transpose(2, 0, 1), np.float32)


def _composite(
    canvas: Canvas, window: Window, coverage: Plane, depth: Plane, colour: Plane
) -> None:
    """Blend a solid in where it covers the pixel and lies nearest; ``colour`` is used up."""
    rows, columns = window
    behind, target = canvas.depth[window], canvas.colour[:, rows, columns]
    nearer = _unit((depth - behind) * np.float32(1.0 / canvas.seam) + np.float32(0.5))
    nearer *= coverage
    colour -= target
    colour *= nearer
    target += colour
    np.maximum(behind, np.where(coverage > 0.5, depth, np.float32(FAR)), out=behind)
