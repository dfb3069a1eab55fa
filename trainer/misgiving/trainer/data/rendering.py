"""Procedural pictures of articulated people whose joints are known exactly.

A person is some thirty shaded solids on a posed skeleton. Front and back, left and right can be told from face,
hair, neckline, knees and toes. Image points are continuous: (0, 0) is the picture's top-left corner and
(j + 0.5, i + 0.5) the centre of the pixel in row i, column j. Lengths without a unit are statures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.trainer.data.body import (
    Body,
    Camera,
    frame_body,
    pose_body,
    sample_build,
    sample_pose,
)
from misgiving.trainer.data.scenery import (
    SHIFT,
    backdrop,
    fixed_point,
    occlude,
    pattern,
    photograph,
    random_colour,
)
from misgiving.trainer.data.solids import (
    FAR,
    Array,
    Bytes,
    Canvas,
    Cone,
    Ellipsoid,
    Material,
    darken_crevices,
    draw_cone,
    draw_ellipsoid,
)

# Texels per stature on all cloth.
_TEXELS = 256.0
# The trunk's swatch: rows from the shoulders (this height over the hips) to the crotch, columns all round.
_TORSO_TOP, _TORSO_ROWS, _TORSO_COLUMNS = -0.36, 118, 192
_FACE_ROWS, _FACE_COLUMNS = 64, 128

_SKINS = np.array(
    [
        [255, 226, 204],
        [243, 198, 166],
        [226, 174, 134],
        [198, 138, 98],
        [146, 98, 68],
        [98, 66, 50],
    ],
    float,
)
_HAIRS = np.array(
    [
        [30, 25, 24],
        [62, 42, 32],
        [104, 68, 42],
        [156, 106, 58],
        [218, 186, 120],
        [156, 76, 44],
        [172, 170, 168],
    ],
    float,
)


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


@dataclass(frozen=True, slots=True)
class Wardrobe:
    """Materials of one person; ``sleeve`` and ``leg`` say how far clothes reach: 0 not at all, 1 to
    elbow or knee, 2 to wrist or ankle."""

    skin: Material
    shirt: Material
    trousers: Material
    shoes: Material
    hair: Material
    torso: Material
    face: Material
    sleeve: float
    leg: float
    long_hair: bool


def render_person(rng: np.random.Generator, difficulty: float, size: int = 192) -> Rendering:
    """Draw one person in a scene.

    Args:
        rng: source of every choice; the same state gives the same picture.
        difficulty: from 0, an upright person seen from the front before a plain wall, to 1, any pose and
            direction, clutter, occluders, bad light.
        size: side of the square picture, px.

    Raises:
        ValueError: difficulty is not in [0, 1], or the picture is too small to show a person.
    """
    _check(difficulty, size)
    body = pose_body(sample_pose(rng, difficulty), sample_build(rng))
    camera = frame_body(rng, body, difficulty, size)
    scene = backdrop(rng, difficulty, size)
    wardrobe = _dress(rng, scene, difficulty)
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
    colour = np.ascontiguousarray(scene.transpose(2, 0, 1), np.float32)
    return Canvas(colour, depth, light, 0.02 * camera.scale)


def _arms(body: Body, camera: Camera, wardrobe: Wardrobe) -> list[Cone]:
    cones = []
    for joints, tip in (((8, 7, 6), 0), ((9, 10, 11), 1)):
        chain = np.vstack([body.joints[list(joints)], body.tips[tip]])
        upper, lower, hand = _bones(chain, (0.041, 0.031, 0.0215, 0.016), body, camera)
        cones += _clothed(upper, lower, wardrobe.shirt, wardrobe.skin, wardrobe.sleeve)
        cones.append(_cone(hand, wardrobe.skin, bulge=0.25))
    return cones


def _legs(body: Body, camera: Camera, wardrobe: Wardrobe) -> list[Cone]:
    cones = []
    for joints, tip in (((2, 1, 0), 2), ((3, 4, 5), 3)):
        chain = np.vstack([body.joints[list(joints)], body.tips[tip]])
        upper, lower, foot = _bones(chain, (0.064, 0.044, 0.029, 0.023), body, camera)
        cones += _clothed(upper, lower, wardrobe.trousers, wardrobe.skin, wardrobe.leg)
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


def _clothed(upper: Bone, lower: Bone, cloth: Material, skin: Material, reach: float) -> list[Cone]:
    """The two bones of a limb, clothed from the trunk up to ``reach`` bones."""
    cones = []
    for bone, cut, bulge in ((upper, reach, 0.06), (lower, reach - 1.0, 0.12)):
        start, end, radii = bone
        texel = _TEXELS * 0.065 / max(radii[0], 1e-6) * (0.65 if cut < reach else 1.0)
        inner = cloth if cut > 0.0 else skin
        cones.append(Cone(start, end, radii, inner, skin, cut if cut > 0 else 1.0, bulge, texel))
    return cones


def _trunk(body: Body, camera: Camera, wardrobe: Wardrobe) -> list[Cone | Ellipsoid]:
    wide, thick = body.build.shoulder / 0.108, body.build.girth
    torso = wardrobe.torso
    hips = 0.5 * (body.joints[2] + body.joints[3]) + body.pelvis @ (0.0, -0.012, -0.004)
    pelvis = _ellipsoid(
        camera, hips, body.pelvis, (0.092 * thick, 0.072, 0.070 * thick), torso, -0.012
    )
    belly = _ellipsoid(
        camera, body.belly_centre, body.belly, (0.085 * thick, 0.12, 0.064 * thick), torso, -0.11
    )
    chest = _ellipsoid(
        camera, body.chest_centre, body.chest, (0.101 * wide, 0.120, 0.066 * thick), torso, -0.205
    )
    return [pelvis, belly, chest, *_shoulders(body, camera, wardrobe)]


def _shoulders(body: Body, camera: Camera, wardrobe: Wardrobe) -> list[Cone]:
    """Slopes from neck to shoulders, and the neck itself."""
    low = body.joints[12] + body.chest @ (0.0, 0.012, -0.012)
    cones = []
    for joint in (8, 9):
        (bone,) = _bones(np.vstack([low, body.joints[joint]]), (0.034, 0.036), body, camera)
        cones.append(_cone(bone, wardrobe.shirt))
    (bone,) = _bones(np.vstack([body.joints[12], body.head_centre]), (0.034, 0.031), body, camera)
    return [*cones, _cone(bone, wardrobe.skin)]


def _ellipsoid(
    camera: Camera,
    centre: Array,
    frame: Array,
    semi: tuple[float, float, float],
    material: Material,
    height: float = 0.0,
) -> Ellipsoid:
    """Project an ellipsoid of the trunk; ``height`` is its centre's in the trunk's swatch."""
    scale = float(camera.zoom(centre[None])[0])
    rows = (np.array([height - semi[1], height + semi[1]]) - _TORSO_TOP) * _TEXELS
    place = camera.project(centre[None])[0]
    return Ellipsoid(
        place, frame, scale * np.array(semi), material, (float(rows[0]), float(rows[1]))
    )


def _head(body: Body, camera: Camera, wardrobe: Wardrobe) -> list[Cone | Ellipsoid]:
    unit, frame = body.build.head, body.head

    def part(offset: tuple[float, ...], semi: tuple[float, ...], material: Material) -> Ellipsoid:
        centre = body.head_centre + unit * (frame @ offset)
        size = (unit * semi[0], unit * semi[1], unit * semi[2])
        solid = _ellipsoid(camera, centre, frame, size, material)
        return Ellipsoid(solid.centre, frame, solid.semi, material, (0.0, _FACE_ROWS - 1.0))

    parts: list[Cone | Ellipsoid] = [
        part((0.0, 0.0, 0.0), (0.76, 1.0, 0.86), wardrobe.face),
        # Its crown is joint 13.
        part((0.0, -0.1, -0.08), (0.82, 1.0, 0.87), wardrobe.hair),
        part((0.0, 0.17, 0.84), (0.11, 0.18, 0.15), wardrobe.skin),
    ]
    if wardrobe.long_hair:
        strand = np.array([[0.0, -0.1, -0.3], [0.0, 1.25, -0.62]]) @ frame.T
        ends = body.head_centre + unit * strand
        (bone,) = _bones(ends, (0.062, 0.045), body, camera)
        return [*parts, _cone(bone, wardrobe.hair)]
    ears = [part((side, 0.12, -0.05), (0.1, 0.2, 0.14), wardrobe.skin) for side in (-0.78, 0.78)]
    return [*parts, *ears]


def _dress(rng: np.random.Generator, scene: Bytes, difficulty: float) -> Wardrobe:
    """Choose skin, hair and clothes; with rising difficulty they come closer to the scene's colour."""
    around = scene.reshape(-1, 3)[::37].mean(axis=0)
    tone = rng.uniform(0, len(_SKINS) - 1)
    skin = _SKINS[int(tone)] + (tone % 1) * (_SKINS[int(tone) + 1] - _SKINS[int(tone)])
    likeness = 0.85 * difficulty * float(rng.random())
    shirt = _set_off(random_colour(rng, 0.55, 0.8), around, difficulty, likeness)
    trousers = _set_off(random_colour(rng, 0.4, 0.45), around, difficulty, likeness)
    shoes = _set_off(
        random_colour(rng, 0.3, rng.choice([0.25, 0.85])), around, difficulty, likeness
    )
    hair = _HAIRS[int(rng.integers(len(_HAIRS)))] * rng.uniform(0.9, 1.1)
    bald = rng.random() < 0.08
    hair = 0.88 * skin if bald else hair
    shirt_cloth = _cloth(shirt, pattern(rng, shirt) if rng.random() < 0.5 else None)
    trouser_cloth = _cloth(trousers, pattern(rng, trousers) if rng.random() < 0.15 else None)
    return Wardrobe(
        skin=_cloth(skin),
        shirt=shirt_cloth,
        trousers=trouser_cloth,
        shoes=_cloth(shoes),
        hair=_cloth(hair),
        torso=_cloth(shirt, _torso_swatch(rng, shirt_cloth, trouser_cloth, skin)),
        face=_cloth(skin, _face_swatch(rng, skin, hair)),
        sleeve=float(rng.choice([0.0, 0.45, 0.6, 1.5, 1.93], p=[0.1, 0.3, 0.2, 0.1, 0.3])),
        leg=float(rng.choice([0.4, 0.8, 1.4, 1.9], p=[0.15, 0.25, 0.1, 0.5])),
        long_hair=not bald and rng.random() < 0.4,
    )


def _cloth(colour: Array, swatch: Bytes | None = None) -> Material:
    return Material(colour.astype(np.float32), swatch)


def _set_off(colour: Array, around: Array, difficulty: float, likeness: float) -> Array:
    """Keep a colour apart from its surroundings when easy, pull it towards them when hard."""
    gap = colour - around
    distance = float(np.linalg.norm(gap)) + 1e-6
    wanted = 130.0 * (1.0 - difficulty)
    stretch = max(1.0, wanted / distance) * (1.0 - likeness)
    return (around + stretch * gap).clip(8, 250)


def _torso_swatch(
    rng: np.random.Generator, shirt: Material, trousers: Material, skin: Array
) -> Bytes:
    """What the trunk wears, unrolled: the front in the middle column, the back at both ends."""
    swatch = _unrolled(shirt)
    hem = int((rng.uniform(-0.07, 0.0) - _TORSO_TOP) * _TEXELS)
    swatch[hem:] = _unrolled(trousers)[hem:]
    middle = _TORSO_COLUMNS // 2
    accent = random_colour(rng, 0.5, 0.8).tolist()
    kind = int(rng.integers(4))
    if kind == 0:
        cv2.line(swatch, (middle, 0), (middle, hem), (0.45 * shirt.colour).tolist(), 2)
    elif kind == 1:
        cv2.circle(swatch, (middle, 44), int(rng.integers(8, 14)), accent, -1, cv2.LINE_AA)
    elif kind == 2:
        cv2.rectangle(swatch, (middle - 16, 34), (middle + 16, 52), accent, -1)
    if rng.random() < 0.5:
        swatch[hem : hem + 4] = (0.4 * trousers.colour).astype(np.uint8)
    neck = (int(rng.integers(12, 20)), int(rng.integers(10, 22)))
    cv2.ellipse(swatch, (middle, 8), neck, 0, 0, 360, skin.tolist(), -1, cv2.LINE_AA)
    return swatch


def _unrolled(material: Material) -> Bytes:
    shape = (_TORSO_ROWS, _TORSO_COLUMNS, 3)
    if material.swatch is None:
        return np.broadcast_to(material.colour.astype(np.uint8), shape).copy()
    return np.tile(material.swatch, (1, 2, 1))[:_TORSO_ROWS, :_TORSO_COLUMNS].copy()


def _face_swatch(rng: np.random.Generator, skin: Array, hair: Array) -> Bytes:
    """The head unrolled: face in the middle, hair round it; rows from the crown to the chin."""
    swatch = np.empty((_FACE_ROWS, _FACE_COLUMNS, 3), np.uint8)
    swatch[:] = hair
    swatch[52:] = skin
    _blob(swatch, (0.0, 0.35), (1.25, 0.85), skin)
    if rng.random() < 0.2:
        _blob(swatch, (0.0, 0.75), (0.9, 0.35), hair)
    iris, lips = np.array([40.0, 34.0, 32.0]), 0.62 * skin + np.array([40.0, 0.0, 0.0])
    for side in (-0.42, 0.42):
        _blob(swatch, (side, -0.02), (0.21, 0.13), np.array([240.0, 240.0, 238.0]))
        _blob(swatch, (side, -0.02), (0.12, 0.12), iris)
        _blob(swatch, (side, -0.25), (0.24, 0.06), 0.7 * hair)
    _blob(swatch, (0.0, 0.56), (0.3, 0.07), lips)
    return swatch


def _blob(
    swatch: Bytes, centre: tuple[float, float], semi: tuple[float, float], colour: Array
) -> None:
    """Ellipse on the head's swatch; x is longitude in radians, y height from -1 (crown) to 1 (chin)."""
    scale = np.array([_FACE_COLUMNS / (2 * np.pi), _FACE_ROWS / 2])
    x, y = fixed_point(scale * np.add(centre, (np.pi, 1.0)))
    a, b = np.rint(scale * semi * (1 << SHIFT)).astype(int)
    cv2.ellipse(
        swatch,
        (int(x), int(y)),
        (int(a), int(b)),
        0,
        0,
        360,
        colour.tolist(),
        -1,
        cv2.LINE_AA,
        SHIFT,
    )


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
        for cone in _clothed(upper, lower, cloth, wardrobe.skin, rng.uniform(0.0, 2.0)):
            draw_cone(canvas, cone)
    canvas.depth.fill(FAR)


def _draw_ground_shadow(canvas: Canvas, body: Body, camera: Camera) -> None:
    """Soft shadows under the feet of who stands upright."""
    ends = camera.project(np.vstack([body.joints[[0, 5]], body.tips[2:], body.joints[[2, 3]]]))
    upright = float(ends[:2, 1].mean() - ends[4:, 1].mean()) / camera.scale
    strength = 0.55 * min(max(3.0 * upright - 0.6, 0.0), 1.0)
    grid = np.arange(canvas.depth.shape[0]) + 0.5
    for ankle, toe in ((ends[0], ends[2]), (ends[1], ends[3])):
        x, y = 0.5 * (ankle[:2] + toe[:2]) + (0.0, 0.02 * camera.scale)
        across = np.exp(-(((grid - x) / (0.075 * camera.scale)) ** 2)).astype(np.float32)
        down = np.exp(-(((grid - y) / (0.022 * camera.scale)) ** 2)).astype(np.float32)
        rows = slice(max(int(y - 0.06 * camera.scale), 0), max(int(y + 0.06 * camera.scale), 0))
        canvas.colour[:, rows] *= 1.0 - np.float32(strength) * down[rows, None] * across
