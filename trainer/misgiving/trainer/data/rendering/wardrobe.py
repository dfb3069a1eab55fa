"""What a rendered person wears: materials and the swatches laid round trunk and head."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.trainer.data.rendering.scenery import SHIFT, pattern, random_colour
from misgiving.trainer.data.rendering.solids import Array, Bytes, Material

# Texels per stature on all cloth.
TEXELS = 256.0
# The trunk's swatch: rows from the shoulders, at this height from the hips, to the crotch.
TORSO_TOP, _TORSO_ROWS, _TORSO_COLUMNS = -0.36, 118, 192
FACE_ROWS, _FACE_COLUMNS = 64, 128

# How far sleeves and trouser legs reach, see ``Wardrobe``; as often as they are listed.
_SLEEVES = (0.0, 0.45, 0.45, 0.45, 0.6, 0.6, 1.5, 1.93, 1.93, 1.93)
_LEGS = (0.4, 0.8, 0.8, 1.4, 1.9, 1.9, 1.9, 1.9)

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


def dress(rng: np.random.Generator, scene: Bytes, difficulty: float) -> Wardrobe:
    """Choose skin, hair and clothes; the harder, the closer to the scene's colour."""
    around = scene.reshape(-1, 3)[::37].mean(axis=0)
    tone = rng.uniform(0, len(_SKINS) - 1)
    skin = _SKINS[int(tone)] + (tone % 1) * (_SKINS[int(tone) + 1] - _SKINS[int(tone)])
    likeness = 0.85 * difficulty * float(rng.random())
    shirt = _set_off(random_colour(rng, 0.55, 0.8), around, difficulty, likeness)
    trousers = _set_off(random_colour(rng, 0.4, 0.45), around, difficulty, likeness)
    shoes = _set_off(
        random_colour(rng, 0.3, 0.25 if rng.random() < 0.5 else 0.85), around, difficulty, likeness
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
        sleeve=_SLEEVES[int(rng.integers(len(_SLEEVES)))],
        leg=_LEGS[int(rng.integers(len(_LEGS)))],
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
    hem = int((rng.uniform(-0.07, 0.0) - TORSO_TOP) * TEXELS)
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
    if material.swatch is None:
        return _plain(_TORSO_ROWS, _TORSO_COLUMNS, material.colour)
    return np.array(np.tile(material.swatch, (1, 2, 1))[:_TORSO_ROWS, :_TORSO_COLUMNS])


def _plain(rows: int, columns: int, colour: NDArray[np.floating]) -> Bytes:
    return np.tile(colour.astype(np.uint8), (rows, columns, 1))


def _face_swatch(rng: np.random.Generator, skin: Array, hair: Array) -> Bytes:
    """The head unrolled: face in the middle, hair round it; rows from the crown to the chin."""
    swatch = _plain(FACE_ROWS, _FACE_COLUMNS, hair)
    swatch[52:] = skin
    _blob(swatch, (0.0, 0.35), (1.25, 0.85), skin)
    if rng.random() < 0.2:
        _blob(swatch, (0.0, 0.75), (0.9, 0.35), hair)
    iris, lips = np.array([40.0, 34.0, 32.0]), 0.48 * skin + np.array([50.0, 0.0, 0.0])
    for side in (-0.42, 0.42):
        _blob(swatch, (side, -0.02), (0.21, 0.13), np.array([240.0, 240.0, 238.0]))
        _blob(swatch, (side, -0.02), (0.12, 0.12), iris)
        _blob(swatch, (side, -0.25), (0.24, 0.06), 0.7 * hair)
    _blob(swatch, (0.0, 0.56), (0.32, 0.09), lips)
    return swatch


def _blob(
    swatch: Bytes, centre: tuple[float, float], semi: tuple[float, float], colour: Array
) -> None:
    """Ellipse on the head's swatch: x is longitude in radians, y from -1 (crown) to 1 (chin)."""
    across, down = _FACE_COLUMNS / (2 * np.pi), FACE_ROWS / 2
    unit = 1 << SHIFT
    middle = (
        round((across * (centre[0] + np.pi) - 0.5) * unit),
        round((down * (centre[1] + 1.0) - 0.5) * unit),
    )
    axes = (round(across * semi[0] * unit), round(down * semi[1] * unit))
    cv2.ellipse(swatch, middle, axes, 0, 0, 360, colour.tolist(), -1, cv2.LINE_AA, SHIFT)
