"""The family of direct regression: BlazePose's columns, MoveNet's, and nets without a score."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.foreign.reading import check_export, looks, made, read, refused

BLAZEPOSE: dict[str, Any] = {
    "points": "rows",
    "columns": ["x", "y", "z", "visibility", "presence"],
    "unit": "px",
    "logits": ["visibility", "presence"],
    "presence": "flag",
}
ROWS = torch.tensor([[[10.0, 20.0, -3.0, 2.0, 4.0], [30.0, 40.0, 5.0, -1.0, 3.0], [9.0] * 5]])
"""Two keypoints, and a row that is none."""


def blazepose() -> dict[str, Tensor]:
    return {"rows": ROWS, "flag": torch.tensor([[0.9]])}


def movenet() -> dict[str, Tensor]:
    return {"rows": torch.tensor([[[[0.25, 0.5, 0.9], [0.75, 0.125, 0.2]]]])}


MOVENET: dict[str, Any] = {"points": "rows", "columns": ["y", "x", "score"], "unit": "share"}


@pytest.mark.parametrize("shape", [(1, 15), (1, 3, 5), (1, 1, 3, 5)])
def test_blazepose_in_every_shape(shape: tuple[int, ...]) -> None:
    raw = {**blazepose(), "rows": ROWS.reshape(shape)}
    answer = read(made("regression", BLAZEPOSE, raw, 2, 64), raw)
    assert answer.points[0].tolist() == [[10.0, 20.0], [30.0, 40.0]]
    torch.testing.assert_close(answer.confidence, torch.sigmoid(torch.tensor([[2.0, -1.0]])))
    assert answer.presence is not None
    assert answer.presence.tolist() == pytest.approx([0.9])


def test_the_evidence_is_whatever_it_says() -> None:
    evidence = read(made("regression", BLAZEPOSE, blazepose(), 2, 64), blazepose()).evidence[0]
    places, depths, logits, flag = evidence.split([4, 2, 4, 1])
    torch.testing.assert_close(places * 64, torch.tensor([10.0, 20.0, 30.0, 40.0]))
    assert depths.tolist() == [-3.0, 5.0]
    assert logits.tolist() == [2.0, -1.0, 4.0, 3.0]
    assert float(torch.sigmoid(flag)) == pytest.approx(0.9)


def test_movenet_with_its_own_decoding() -> None:
    answer = read(made("regression", MOVENET, movenet(), 2, 64), movenet())
    assert answer.points[0].tolist() == [[32.0, 16.0], [8.0, 48.0]]
    assert answer.confidence[0].tolist() == pytest.approx([0.9, 0.2])
    assert answer.presence is None


def test_a_presence_that_is_a_logit() -> None:
    family = made("regression", {**BLAZEPOSE, "presence_logit": True}, blazepose(), 2, 64)
    presence = read(family, blazepose()).presence
    assert presence is not None
    assert presence.tolist() == pytest.approx([0.710950])


def test_no_score_is_no_doubt() -> None:
    """A column that is not read is none."""
    options = {"points": "rows", "columns": ["x", "y", "_", "_", "_"], "unit": "px"}
    answer = read(made("regression", options, blazepose(), 2, 64), blazepose())
    assert answer.confidence[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("form", ["blazepose", "movenet"])
def test_exported(form: str, tmp_path: Path) -> None:
    options, raw = (BLAZEPOSE, blazepose()) if form == "blazepose" else (MOVENET, movenet())
    check_export(made("regression", options, raw, 2, 64), raw, tmp_path)


@pytest.mark.parametrize(
    ("options", "keypoints", "says"),
    [
        ({**BLAZEPOSE, "columns": ["x", "z"]}, 2, "columns = ['x', 'z']; expected x and y"),
        ({**BLAZEPOSE, "columns": ["x", "y", "y"]}, 2, "and each name once."),
        ({**BLAZEPOSE, "columns": ["x", "w"]}, 2, "columns.1: Input should be 'x', 'y', 'z'"),
        ({**BLAZEPOSE, "logits": ["z"]}, 2, "logits = ['z']; expected scores among the columns"),
        (
            BLAZEPOSE,
            4,
            "output 'rows' is (free, 3, 5); expected at least K rows of 5 columns for 4",
        ),
        ({**BLAZEPOSE, **MOVENET, "logits": []}, 2, "expected at least K rows of 3 columns"),
        ({**BLAZEPOSE, "presence": "there"}, 2, "no output 'there'; the graph has rows, flag."),
        ({**BLAZEPOSE, "presence": "rows"}, 2, "output 'rows' is (free, 3, 5); expected (B, 1)"),
        ({"points": "rows", "columns": ["x", "y"]}, 2, "unit: Field required"),
    ],
)
def test_refused(options: dict[str, Any], keypoints: int, says: str) -> None:
    assert says in refused("regression", options, blazepose(), keypoints, 64)


def test_guessed() -> None:
    name, options = looks(33, 256, world=(1, 117), rows=(1, 195), flag=(1, 1))
    assert (name, options) == ("regression", {**BLAZEPOSE, "points": "rows"})
    assert looks(17, 192, rows=(1, 1, 17, 3)) == ("regression", MOVENET)
    found = looks(16, 256, rows=(None, 32))
    assert found == ("regression", {"points": "rows", "columns": ["x", "y"], "unit": "share"})
    assert looks(0, 256, rows=(None, 32)) is None
    assert looks(0, 224, classes=(None, 1000)) is None
