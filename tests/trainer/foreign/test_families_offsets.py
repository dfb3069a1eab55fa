"""The family of heatmaps and offsets: PoseNet's form and MoveNet's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.foreign.reading import check_export, looks, made, read, refused

POSENET = {"heatmaps": "heat", "offsets": "off", "activation": "sigmoid"}
MOVENET = {
    "heatmaps": "heat",
    "offsets": "off",
    "centres": "middle",
    "displacements": "way",
    "order": "xy",
    "pairs": "interleaved",
    "unit": "cells",
}


def posenet() -> dict[str, Tensor]:
    """Two keypoints in a net of stride 16 and 65 px, so 5 × 5 cells: at row 1 of column 3, and at
    row 4 of column 0."""
    heat, off = torch.full((1, 2, 5, 5), -4.0), torch.zeros(1, 4, 5, 5)
    heat[0, 0, 1, 3], heat[0, 1, 4, 0] = 3.0, 1.0
    off[0, :, 1, 3] = torch.tensor([2.0, 100.0, -5.0, 100.0])  # y y x x
    off[0, :, 4, 0] = torch.tensor([100.0, -7.0, 100.0, 6.0])
    return {"heat": heat, "off": off}


def movenet() -> dict[str, Tensor]:
    """Two persons on 12 × 12 cells of stride 4; the one in the middle has the lower maps."""
    middle, way = torch.zeros(1, 1, 12, 12), torch.zeros(1, 4, 12, 12)
    heat, off = torch.zeros(1, 2, 12, 12), torch.zeros(1, 4, 12, 12)
    middle[0, 0, 6, 5], middle[0, 0, 0, 0] = 0.8, 0.9
    way[0, :, 6, 5] = torch.tensor([1.0, -3.0, 2.0, 4.0])  # x y x y
    heat[0, 0, 3, 6], heat[0, 0, 11, 11] = 0.5, 0.9
    heat[0, 1, 10, 8], heat[0, 1, 1, 1] = 0.7, 0.8
    off[0, :, 3, 6] = torch.tensor([0.25, 0.5, 9.0, 9.0])
    off[0, :, 10, 7] = off[0, :, 10, 8] = torch.tensor([9.0, 9.0, 0.75, 0.0])
    return {"heat": heat, "off": off, "middle": middle, "way": way}


def test_posenet() -> None:
    """Index × stride + offset, from the first pixel's centre."""
    answer = read(made("offsets", POSENET, posenet(), 2, 65), posenet())
    assert answer.points[0].tolist() == [[3 * 16 - 5 + 0.5, 16 + 2 + 0.5], [6.5, 64 - 7 + 0.5]]
    assert answer.confidence[0].tolist() == pytest.approx([0.952574, 0.731059], abs=1e-5)


@pytest.mark.parametrize(("size", "stride"), [(65, 16), (80, 16), (33, 8), (129, 32)])
def test_the_stride_follows_from_the_sizes(size: int, stride: int) -> None:
    points = read(made("offsets", POSENET, posenet(), 2, size), posenet()).points
    assert points[0, 0].tolist() == [3 * stride - 5 + 0.5, stride + 2 + 0.5]


def test_a_stride_that_is_said() -> None:
    family = made("offsets", {**POSENET, "stride": 20}, posenet(), 2, 100)
    assert read(family, posenet()).points[0, 0].tolist() == [55.5, 22.5]
    assert "cells of a stride that is a power of two, or stride = ...," in refused(
        "offsets", POSENET, posenet(), 2, 100
    )


def test_channels_last() -> None:
    raw = {name: tensor.permute(0, 2, 3, 1) for name, tensor in posenet().items()}
    answer = read(made("offsets", {**POSENET, "layout": "NHWC"}, raw, 2, 65), raw)
    upright = read(made("offsets", POSENET, posenet(), 2, 65), posenet())
    torch.testing.assert_close(answer.points, upright.points)
    torch.testing.assert_close(answer.evidence, upright.evidence)


def test_movenet_follows_the_person_in_the_middle() -> None:
    answer = read(made("offsets", MOVENET, movenet(), 2, 48), movenet())
    assert answer.points[0].tolist() == [[(6 + 0.25) * 4, 3.5 * 4], [(8 + 0.75) * 4, 40.0]]
    assert answer.confidence[0].tolist() == pytest.approx([0.5, 0.7])
    assert answer.presence is not None
    assert answer.presence.tolist() == pytest.approx([0.8])


def test_movenets_evidence_knows_how_far_a_keypoint_strayed() -> None:
    """The second keypoint's cell is one from where the middle sent it, the first none."""
    evidence = read(made("offsets", MOVENET, movenet(), 2, 48), movenet()).evidence[0]
    assert evidence[-3:-1].exp().tolist() == pytest.approx([1.0, 2.0], abs=1e-5)


@pytest.mark.parametrize("form", ["posenet", "movenet"])
def test_exported(form: str, tmp_path: Path) -> None:
    options, raw, size = (POSENET, posenet(), 65) if form == "posenet" else (MOVENET, movenet(), 48)
    check_export(made("offsets", options, raw, 2, size), raw, tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({**POSENET, "centres": "heat"}, "centres and displacements come together"),
        ({**POSENET, "offsets": "heat"}, "output 'heat' is (free, 2, 5, 5); expected (B, 4, h, w)"),
        ({**POSENET, "offsets": "away"}, "no output 'away'; the graph has heat, off."),
        ({**POSENET, "order": "xyz"}, "order: Input should be 'yx' or 'xy'"),
        ({**POSENET, "stride": 0}, "stride: Input should be greater than 0"),
    ],
)
def test_refused(options: dict[str, Any], says: str) -> None:
    assert says in refused("offsets", options, posenet(), 2, 65)


def test_guessed() -> None:
    heat, ways = (1, 17, 48, 48), (1, 34, 48, 48)
    found = looks(0, 192, heat=heat, middle=(1, 1, 48, 48), way=ways, off=ways)
    assert found == ("offsets", {**MOVENET, "layout": "NCHW"})


@pytest.mark.parametrize(
    ("keypoints", "size", "cells"),
    [
        (17, 256, 16),
        (17, 257, 17),  # 17 maps of 17 × 17 cells: the offsets tell the layout
        (0, 257, 33),
    ],
)
def test_posenet_is_guessed(keypoints: int, size: int, cells: int) -> None:
    heat, off = (None, cells, cells, 17), (None, cells, cells, 34)
    found = looks(keypoints, size, heat=heat, off=off, forward=(None, cells, cells, 32))
    assert found == ("offsets", {**POSENET, "layout": "NHWC"})
    made(
        "offsets",
        found[1],
        {"heat": torch.zeros(1, *heat[1:]), "off": torch.zeros(1, *off[1:])},
        17,
        size,
    )
