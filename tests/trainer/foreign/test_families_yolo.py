"""The families of YOLO-pose: a planted person, both forms."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.foreign.reading import check_export, looks, made, read, refused

SIZE, KEYPOINTS = 64, 2
JOINTS = [20.0, 10.0, 0.9, 24.0, 50.0, 0.3]
PERSON = [22.0, 30.0, 16.0, 48.0, 0.8, *JOINTS]
"""Middle, size, score, keypoints."""
NEAR = [23.0, 31.0, 16.0, 48.0, 0.7, *[1.0] * 6]
"""The same person, seen by the next anchor."""
OTHER = [50.0, 30.0, 10.0, 20.0, 0.4, *[2.0] * 6]


def dense() -> dict[str, Tensor]:
    rows = torch.full((1, 40, 11), 0.01)
    rows[0, 7], rows[0, 8], rows[0, 30] = map(torch.tensor, (PERSON, NEAR, OTHER))
    return {"rows": rows.mT.contiguous()}


def suppressed() -> dict[str, Tensor]:
    """The person, another, and rows that hold nobody."""
    rows = torch.zeros(1, 6, 12)
    rows[0, 0] = torch.tensor([14.0, 6.0, 30.0, 54.0, 0.8, 0.0, *JOINTS])
    rows[0, 1] = torch.tensor([45.0, 20.0, 55.0, 40.0, 0.4, 0.0, *[2.0] * 6])
    return {"rows": rows}


RAW = {"yolo": dense, "yolo_nms": suppressed}
OPTIONS = {"people": "rows"}


@pytest.mark.parametrize("name", RAW)
def test_the_best_person(name: str) -> None:
    raw = RAW[name]()
    answer = read(made(name, OPTIONS, raw, KEYPOINTS, SIZE), raw)
    assert answer.points[0].tolist() == [[20.0, 10.0], [24.0, 50.0]]
    assert answer.confidence[0].tolist() == pytest.approx([0.9, 0.3])
    assert answer.presence is not None
    assert answer.presence.tolist() == pytest.approx([0.8])


@pytest.mark.parametrize("name", RAW)
def test_the_evidence(name: str) -> None:
    """Score, second person, box and keypoints; the same person's next anchor is no second."""
    raw = RAW[name]()
    evidence = read(made(name, OPTIONS, raw, KEYPOINTS, SIZE), raw).evidence[0]
    assert torch.sigmoid(evidence[:2]).tolist() == pytest.approx([0.8, 0.4])
    assert (evidence[2:6] * SIZE).tolist() == pytest.approx([22.0, 30.0, 16.0, 48.0])
    assert torch.sigmoid(evidence[6:]).tolist() == pytest.approx([0.9, 0.3])


def test_a_row_for_each_anchor() -> None:
    raw = {"rows": dense()["rows"].mT.contiguous()}
    upright = read(made("yolo", OPTIONS, dense(), KEYPOINTS, SIZE), dense())
    turned = read(made("yolo", OPTIONS, raw, KEYPOINTS, SIZE), raw)
    for one, two in zip(upright, turned, strict=True):
        torch.testing.assert_close(one, two)


def test_several_classes() -> None:
    """The highest class counts."""
    rows = dense()["rows"]
    raw = {"rows": torch.cat([rows[:, :4], rows[:, 4:5] * 0.1, rows[:, 4:]], dim=1)}
    answer = read(made("yolo", {**OPTIONS, "classes": 2}, raw, KEYPOINTS, SIZE), raw)
    assert answer.points[0, 0].tolist() == [20.0, 10.0]
    assert answer.presence is not None
    assert answer.presence.tolist() == pytest.approx([0.8])


def test_nobody() -> None:
    raw = {"rows": torch.zeros(2, 6, 12)}
    answer = read(made("yolo_nms", OPTIONS, raw, KEYPOINTS, SIZE), raw)
    assert answer.presence is not None
    assert answer.presence.tolist() == [0.0, 0.0]
    assert float(answer.confidence.max()) == 0.0


@pytest.mark.parametrize("name", RAW)
def test_exported(name: str, tmp_path: Path) -> None:
    raw = RAW[name]()
    check_export(made(name, OPTIONS, raw, KEYPOINTS, SIZE), raw, tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("yolo", {**OPTIONS, "classes": 3}, "is (free, 11, 40); expected (B, 13, n) or (B, n, 13)"),
        ("yolo", {**OPTIONS, "classes": 0}, "classes: Input should be greater than or equal to 1"),
        ("yolo", {"people": "boxes"}, "no output 'boxes'; the graph has rows."),
        ("yolo_nms", {}, "people: Field required; expected people."),
        ("yolo_nms", {**OPTIONS, "classes": 1}, "classes: Unexpected keyword argument"),
        ("yolo_nms", OPTIONS, "is (free, 11, 40); expected (B, n, 12) for 2 keypoints."),
    ],
)
def test_refused(name: str, options: dict[str, Any], says: str) -> None:
    assert says in refused(name, options, dense(), KEYPOINTS, SIZE)


@pytest.mark.parametrize(
    ("keypoints", "shape", "expected"),
    [
        (17, (1, 56, 8400), "yolo"),
        (0, (1, 56, 8400), "yolo"),
        (0, (None, 8400, 56), "yolo"),
        (17, (1, 300, 57), "yolo_nms"),
        (0, (1, 300, 57), "yolo_nms"),
        (13, (1, 56, 8400), None),
        (0, (1, 84, 8400), None),  # boxes of 80 classes
        (0, (1, None, None), None),
        (0, (None,), None),  # a score for each image
    ],
)
def test_guessed(keypoints: int, shape: tuple[int | None, ...], expected: str | None) -> None:
    assert looks(keypoints, 640, out=shape) == (expected and (expected, {"people": "out"}))
