"""Procedural pictures of articulated people whose joints are known exactly.

A person is some two dozen shaded solids on a posed skeleton; face, hair, neckline, knees and toes
tell front from back and so left from right. Image points are continuous: (0, 0) is the picture's
top-left corner and (j + 0.5, i + 0.5) the centre of the pixel in row i, column j. Numbers without a
unit are statures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.trainer.data.rendering.body import (
    Body,
    Camera,
    frame_body,
    pose_body,
    sample_build,
    sample_pose,
)
from misgiving.trainer.data.rendering.scenery import backdrop, occlude, photograph
from misgiving.trainer.data.rendering.solids import (
    FAR,
    Array,
    Bytes,
    Canvas,
    Cone,
    Ellipsoid,
    Material,
    Plane,
    darken_crevices,
    draw_cone,
    draw_ellipsoid,
)
from misgiving.trainer.data.rendering.wardrobe import FACE_ROWS, TEXELS, TORSO_TOP, Wardrobe, dress


@dataclass(frozen=True, slots=True)
class Rendering:
    """A picture and its labels; joints in LSP order, the person's own left and right."""

    image: Bytes
    """(H, W, 3) RGB."""
    points: NDArray[np.float32]
    """(14, 2): x, y in image px."""
    visible: NDArray[np.bool_]
    """(14,): inside the image and not behind an occluder; the person's own body hides nothing."""
    difficulty: float
    """As asked for, in [0, 1]."""


def render_person(rng: np.random.Generator, difficulty: float, size: int = 192) -> Rendering:
    """Draw one person in a scene.

    Args:
        rng: source of every choice; the same state gives the same picture.
        difficulty: from 0, an upright person seen from the front before a plain wall, to 1, any
            pose and direction, clutter, occluders, bad light.
        size: side of the square picture, px.

    Raises:
        ValueError: difficulty is not in [0, 1], or the picture is too small to show a person.
    """
    _check(difficulty, size)
    body = pose_body(sample_pose(rng, difficulty), sample_build(rng))
    camera = frame_body(rng, body, difficulty, size)
    scene = backdrop(rng, difficulty, size)
    wardrobe = dress(rng, scene, difficulty)
    canvas = _blank(rng, scene, camera)
    _draw_distractors(rng, canvas, camera, wardrobe, difficulty)
    _draw_ground_shadow(canvas, body, camera)
    draw_body(canvas, body, camera, wardrobe)
    darken_crevices(canvas, camera.scale)
    points = camera.project(body.joints)[:, :2].astype(np.float32)
    hidden = occlude(rng, canvas.colour, points, difficulty)
    inside = ((points >= 0) & (points < size)).all(axis=1)
    return Rendering(
        image=photograph(rng, canvas.colour, difficulty),
        points=points,
        visible=inside & ~hidden,
        difficulty=float(difficulty),
    )


def draw_body(canvas: Canvas, body: Body, camera: Camera, wardrobe: Wardrobe) -> None:
    """Draw all solids of a body, the farthest first."""
    solids: list[Cone | Ellipsoid] = [
        *_arms(body, camera, wardrobe),
        *_legs(body, camera, wardrobe),
        *_trunk(body, camera, wardrobe),
        *_head(body, camera, wardrobe),
    ]
    for solid in sorted(solids, key=_depth):
        if isinstance(solid, Cone):
            draw_cone(canvas, solid)
        else:
            draw_ellipsoid(canvas, solid)


def _depth(solid: Cone | Ellipsoid) -> float:
    if isinstance(solid, Cone):
        return 0.5 * float(solid.start[2] + solid.end[2])
    return float(solid.centre[2])


def _check(difficulty: float, size: int) -> None:
    if not 0.0 <= difficulty <= 1.0:
        raise ValueError(
            f"difficulty is {difficulty}; expected a number in [0, 1]. Clip it before rendering."
        )
    if size < 32:
        raise ValueError(f"size is {size} px; expected at least 32. Render larger and shrink.")


def _blank(rng: np.random.Generator, scene: Bytes, camera: Camera) -> Canvas:
    azimuth, height = rng.uniform(-1.1, 1.1), rng.uniform(0.25, 0.95)
    light = np.array([math.sin(azimuth), -height, math.cos(azimuth)])
    depth = np.full(scene.shape[:2], FAR, np.float32)
    light /= np.linalg.norm(light)
    colour = np.empty((3, *scene.shape[:2]), np.float32)
    for plane, drawn in zip(colour, cv2.split(scene), strict=True):
        plane[:] = drawn
    return Canvas(colour, depth, light, 0.02 * camera.scale)


def _arms(body: Body, camera: Camera, wardrobe: Wardrobe) -> list[Cone]:
    cones = []
    for joints, tip in (((8, 7, 6), 0), ((9, 10, 11), 1)):
        chain = np.vstack([body.joints[list(joints)], body.tips[tip]])
        upper, lower, hand = _bones(chain, (0.041, 0.031, 0.0215, 0.016), body, camera)
        cones += _clothed(
            upper, lower, wardrobe.shirt, wardrobe.skin, wardrobe.sleeve, camera.scale
        )
        cones.append(_cone(hand, wardrobe.skin, bulge=0.25))
    return cones


def _legs(body: Body, camera: Camera, wardrobe: Wardrobe) -> list[Cone]:
    cones = []
    for joints, tip in (((2, 1, 0), 2), ((3, 4, 5), 3)):
        chain = np.vstack([body.joints[list(joints)], body.tips[tip]])
        upper, lower, foot = _bones(chain, (0.064, 0.044, 0.029, 0.023), body, camera)
        cones += _clothed(
            upper, lower, wardrobe.trousers, wardrobe.skin, wardrobe.leg, camera.scale
        )
        cones.append(_cone(foot, wardrobe.shoes, bulge=0.12))
    return cones


Bone = tuple[Array, Array, tuple[float, float]]


def _bones(chain: Array, radii: tuple[float, ...], body: Body, camera: Camera) -> list[Bone]:
    """Project a chain of body points (N, 3) into its N - 1 bones: ends in px, radii in px."""
    ends = camera.project(chain)
    thick = camera.zoom(chain) * radii * body.build.girth
    pairs = [(float(thick[i]), float(thick[i + 1])) for i in range(len(chain) - 1)]
    return [(ends[i], ends[i + 1], pair) for i, pair in enumerate(pairs)]


def _cone(bone: Bone, material: Material, bulge: float = 0.0) -> Cone:
    start, end, radii = bone
    return Cone(start, end, radii, material, bulge=bulge)


def _clothed(
    upper: Bone, lower: Bone, cloth: Material, skin: Material, reach: float, scale: float
) -> list[Cone]:
    """The two bones of a limb, clothed up to ``reach`` bones from the trunk; ``scale`` in px."""
    cones, texel = [], TEXELS / scale
    for bone, cut, bulge in ((upper, reach, 0.06), (lower, reach - 1.0, 0.12)):
        start, end, radii = bone
        inner = cloth if cut > 0.0 else skin
        cones.append(Cone(start, end, radii, inner, skin, cut if cut > 0 else 1.0, bulge, texel))
    return cones


def _trunk(body: Body, camera: Camera, wardrobe: Wardrobe) -> list[Cone | Ellipsoid]:
    wide, thick = body.build.shoulder / 0.108, body.build.girth
    hips = 0.5 * (body.joints[2] + body.joints[3]) + body.pelvis @ (0.0, -0.012, -0.004)
    parts: list[Cone | Ellipsoid] = []
    for centre, frame, semi, height in (
        (hips, body.pelvis, (0.092 * thick, 0.072, 0.070 * thick), -0.012),
        (body.belly_centre, body.belly, (0.085 * thick, 0.120, 0.064 * thick), -0.11),
        (body.chest_centre, body.chest, (0.101 * wide, 0.120, 0.066 * thick), -0.205),
    ):
        # ``height`` is the centre's on the swatch, which all three share.
        top, bottom = height - semi[1] - TORSO_TOP, height + semi[1] - TORSO_TOP
        rows = (top * TEXELS, bottom * TEXELS)
        parts.append(_ellipsoid(camera, centre, frame, semi, wardrobe.torso, rows))
    return [*parts, *_shoulders(body, camera, wardrobe)]


def _shoulders(body: Body, camera: Camera, wardrobe: Wardrobe) -> list[Cone]:
    """Slopes from neck to shoulders, and the neck itself."""
    middle = body.joints[12] + body.chest @ (0.0, 0.012, -0.012)
    slopes = np.stack([body.joints[8], middle, body.joints[9]])
    bones = _bones(slopes, (0.036, 0.034, 0.036), body, camera)
    (neck,) = _bones(np.stack([body.joints[12], body.head_centre]), (0.034, 0.031), body, camera)
    return [*(_cone(bone, wardrobe.shirt) for bone in bones), _cone(neck, wardrobe.skin)]


Semi = tuple[float, float, float]


def _ellipsoid(
    camera: Camera,
    centre: Array,
    frame: Array,
    semi: Semi,
    material: Material,
    rows: tuple[float, float],
) -> Ellipsoid:
    """Project an ellipsoid of the body; ``semi`` in statures."""
    place, zoom = camera.place(centre)
    return Ellipsoid(place, frame, zoom * np.array(semi), material, rows)


def _head(body: Body, camera: Camera, wardrobe: Wardrobe) -> list[Cone | Ellipsoid]:
    unit, frame = body.build.head, body.head

    def part(offset: Semi, semi: Semi, material: Material) -> Ellipsoid:
        centre = body.head_centre + unit * (frame @ offset)
        size = (unit * semi[0], unit * semi[1], unit * semi[2])
        return _ellipsoid(camera, centre, frame, size, material, (0.0, FACE_ROWS - 1.0))

    parts: list[Cone | Ellipsoid] = [
        part((0.0, 0.0, 0.0), (0.76, 1.0, 0.86), wardrobe.face),
        # Its crown is joint 13.
        part((0.0, -0.1, -0.08), (0.82, 1.0, 0.87), wardrobe.hair),
    ]
    # Nose and ears that the head hides are not worth the time.
    if frame[2, 2] > -0.3:
        parts.append(part((0.0, 0.17, 0.84), (0.11, 0.18, 0.15), wardrobe.skin))
    if wardrobe.long_hair:
        return [*parts, _long_hair(body, camera, wardrobe)]
    for side in (-0.78, 0.78):
        if side * frame[2, 0] > -0.4:
            parts.append(part((side, 0.12, -0.05), (0.1, 0.2, 0.14), wardrobe.skin))
    return parts


def _long_hair(body: Body, camera: Camera, wardrobe: Wardrobe) -> Cone:
    strand = np.array([[0.0, -0.1, -0.3], [0.0, 1.25, -0.62]]) @ body.head.T
    ends = body.head_centre + body.build.head * strand
    (bone,) = _bones(ends, (0.062, 0.045), body, camera)
    return _cone(bone, wardrobe.hair)


def _draw_distractors(
    rng: np.random.Generator, canvas: Canvas, camera: Camera, wardrobe: Wardrobe, difficulty: float
) -> None:
    """Bent limbs that belong to nobody, behind the person and in the same materials."""
    size = canvas.depth.shape[0]
    for _ in range(int(rng.binomial(5, 0.75 * max(0.0, difficulty - 0.3)))):
        ends = np.zeros((3, 3))
        ends[0, :2] = rng.random(2) * size
        angle = rng.uniform(0, 2 * np.pi) + np.array([0.0, rng.normal(0, 0.9)])
        steps = (
            np.column_stack([np.cos(angle), np.sin(angle)]) * camera.scale * rng.uniform(0.14, 0.25)
        )
        ends[1:, :2] = ends[0, :2] + steps.cumsum(axis=0)
        thick = camera.scale * rng.uniform(0.025, 0.05) * np.array([1.2, 1.0, 0.7])
        cloth = wardrobe.shirt if rng.random() < 0.5 else wardrobe.trousers
        upper = (ends[0], ends[1], (float(thick[0]), float(thick[1])))
        lower = (ends[1], ends[2], (float(thick[1]), float(thick[2])))
        for cone in _clothed(
            upper, lower, cloth, wardrobe.skin, rng.uniform(0.0, 2.0), camera.scale
        ):
            draw_cone(canvas, cone)
    canvas.depth.fill(FAR)


def _draw_ground_shadow(canvas: Canvas, body: Body, camera: Camera) -> None:
    """Soft shadows under the feet of who stands upright."""
    ends = camera.project(np.vstack([body.joints[[0, 5]], body.tips[2:], body.joints[[2, 3]]]))
    upright = float(ends[:2, 1].mean() - ends[4:, 1].mean()) / camera.scale
    strength = 0.55 * min(max(3.0 * upright - 0.6, 0.0), 1.0)
    for ankle, toe in ((ends[0], ends[2]), (ends[1], ends[3])):
        x, y = 0.5 * (ankle[:2] + toe[:2]) + (0.0, 0.02 * camera.scale)
        columns, across = _bump(x, 0.075 * camera.scale, canvas)
        rows, down = _bump(y, 0.022 * camera.scale, canvas)
        canvas.colour[:, rows, columns] *= 1.0 - strength * down[:, None] * across


def _bump(middle: float, width: float, canvas: Canvas) -> tuple[slice, Plane]:
    """A Gaussian over the pixels near ``middle``, and which pixels these are."""
    side, reach = canvas.depth.shape[0], 2.6 * width
    low, high = max(int(middle - reach), 0), min(max(int(middle + reach), 0), side)
    places = (np.arange(low, high, dtype=np.float32) + (0.5 - middle)) / width
    return slice(low, high), np.exp(-places * places)
