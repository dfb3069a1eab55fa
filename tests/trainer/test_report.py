"""The table of scores: every learned score beside the free ones, random and the oracle."""

import math

import numpy as np
import pytest

from export.helpers import scores_of
from misgiving.trainer.report import picked, score_rows, score_table

FAR = 500.0


@pytest.mark.parametrize(
    ("risk", "share", "expected"),
    [
        ([1, 5, 3, 4], 0.5, [1, 3]),  # riskiest first
        ([1, 5, 3, 4], 0.01, [1]),  # at least one
        ([2, 2, 2, 2], 0.5, [0, 1]),  # equals in their order
        ([7], 0.1, [0]),
        ([], 0.1, []),  # nobody
    ],
)
def test_picked(risk: list[float], share: float, expected: list[int]) -> None:
    assert picked(np.array(risk, float), share) == expected


def test_rows_by_hand() -> None:
    """Twenty people, the last four wrong; the head knows, the oracle of course as well."""
    moved = [0.0] * 16 + [FAR] * 4
    scores = scores_of(list(range(20)), moved_px=moved)
    rows = {row.name: row for row in score_rows(scores)}
    names = list(rows)
    assert names[0] == "random"
    assert names[1:3] == ["conv-kl", "gap-margin"]
    assert names[-1] == "true loss (oracle)"
    for name in ("conv-kl", "true loss (oracle)"):
        assert (rows[name].picked_pck, rows[name].auroc) == (0.0, 1.0)
        assert rows[name].spearman == pytest.approx(1.0)
    assert rows["gap-margin"].auroc == 0.5  # a constant tells nothing
    assert math.isnan(rows["gap-margin"].spearman)
    assert rows["−mean_peak"].auroc == 0.0  # its signals rise with the index: "safer"


def test_persons_without_torso_are_left_out() -> None:
    scores = scores_of([1.0, 2.0, 3.0], moved_px=[0.0, FAR, FAR])
    scores.labelled[2, 8] = False
    rows = {row.name: row for row in score_rows(scores)}
    assert rows["conv-kl"].auroc == 1.0
    text = score_table(scores)
    assert "over 3 persons; 1 failures among the 2 whose torso is labelled" in text
    assert len(text.splitlines()) == 2 + len(rows)


def test_a_table_of_one_person() -> None:
    assert "nan" not in score_table(scores_of([1.0]))
