"""Two nets of other people on real persons: the folder of their files is in MISGIVING_MODELS."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from misgiving.runtime.geometry import CropRule, Region, cut, inputs_to_images, window_of
from misgiving.trainer.data.base import Sample
from misgiving.trainer.data.lsp import open_lsp
from misgiving.trainer.foreign.families import FAMILIES
from misgiving.trainer.foreign.families.base import Shapes
from shared.training import real_data

PERSONS = range(1032, 1048)
HOURGLASS = [10, 9, 8, 11, 12, 13, 4, 3, 2, 5, 6, 7]
"""Of LSP's limb joints, in LSP's order; as BLAZEPOSE."""
BLAZEPOSE = [28, 26, 24, 23, 25, 27, 16, 14, 12, 11, 13, 15]


def off(
    path: Path,
    keypoints: int,
    joints: list[int],
    pixels: Any,
    **more: Any,
) -> NDArray[np.float64]:
    """Shares of the torso between answers and labels, (persons, 12), by the family guessed."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[1]
    shapes = Shapes(
        {entry.name: tuple(entry.shape) for entry in session.get_outputs()}, keypoints, size, size
    )
    guesses = ((kind, kind.guess(shapes)) for kind in FAMILIES.values())
    kind, options = next((kind, found) for kind, found in guesses if found)
    family = kind({**options, **more}, shapes)
    people = open_lsp(real_data("lsp"))
    return np.stack([_off(session, family, people[index], joints, pixels) for index in PERSONS])


def _off(
    session: onnxruntime.InferenceSession,
    family: Any,
    person: Sample,
    joints: list[int],
    pixels: Any,
) -> NDArray[np.float64]:
    size = session.get_inputs()[0].shape[1]
    height, width = person.image.shape[:2]
    rule = CropRule(height=size, width=size, padding=1.25)
    window = window_of(Region.around(person.points), height, width, rule)
    given = pixels(cut(person.image, window, size, size)).astype(np.float32)[None]
    raw = session.run(list(family.outputs), {session.get_inputs()[0].name: given})
    points = family.read([torch.from_numpy(tensor) for tensor in raw]).points.numpy()
    found = inputs_to_images(points, [window], size, size)[0, joints]
    torso = np.linalg.norm(person.points[9] - person.points[2])
    return np.asarray(np.linalg.norm(found - person.points[:12], axis=1) / torso)


def test_hourglass(models: Path) -> None:
    """BGR, 0 to 255. Measured: .52 of the joints within .2 of the torso, .35 with RGB."""
    distances = off(
        models / "hourglass_192.onnx",
        14,
        HOURGLASS,
        lambda image: image[..., ::-1],
        blur=5,
        subpixel="parabola",
    )
    assert (distances < 0.2).mean() > 0.48


def test_blazepose(models: Path) -> None:
    """RGB, 0 to 1. Measured: .67 within .2 of the torso, .45 within .1."""
    distances = off(models / "blazepose_lite_256.onnx", 33, BLAZEPOSE, lambda image: image / 255)
    assert (distances < 0.2).mean() > 0.6
    assert (distances < 0.1).mean() > 0.4
