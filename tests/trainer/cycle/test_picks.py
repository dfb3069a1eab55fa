"""Whom methods chose alike and alone, against counts by hand; persons are letters."""

import pytest

from misgiving.trainer.cycle.picks import chosen_alone, compare_picks
from trainer.cycle.making import picking

Runs = list[tuple[int, str, str, str]]


@pytest.mark.parametrize(
    ("runs", "stage", "shared", "alone"),
    [
        # one of two alike; a person that the other chooses later counts then, not before
        ([(0, "a", "uv", "wx"), (0, "b", "vw", "yu")], 0, [[1, 0.5], [0.5, 1]], [1, 1]),
        # a's w was chosen by b a stage earlier, b's u by a
        ([(0, "a", "uv", "wx"), (0, "b", "vw", "yu")], 1, [[1, 0.5], [0.5, 1]], [1, 1]),
        # a catches up with b, b goes on: the shares of a pair differ
        ([(0, "a", "uv", "wx"), (0, "b", "wx", "yz")], 1, [[1, 1], [0, 1]], [0, 2]),
        # the mean over repeats, never across them
        (
            [(3, "a", "uv", ""), (3, "b", "uv", ""), (4, "a", "wx", ""), (4, "b", "yz", "")],
            0,
            [[1, 0.5], [0.5, 1]],
            [1, 1],
        ),
        # what one other has is not alone
        (
            [(0, "a", "uv", ""), (0, "b", "vw", ""), (0, "c", "wx", "")],
            0,
            [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]],
            [1, 0, 1],
        ),
        # a single method
        ([(0, "a", "uv", "")], 0, [[1]], [2]),
    ],
)
def test_shares(runs: Runs, stage: int, shared: list[list[float]], alone: list[float]) -> None:
    picks = compare_picks([picking(*run) for run in runs], stage)
    assert picks.methods == tuple(dict.fromkeys(run[1] for run in runs))
    assert picks.shared.tolist() == shared
    assert picks.alone.tolist() == alone


def test_who_was_chosen_alone_in_the_order_of_choosing() -> None:
    runs = [picking(0, "a", "zyx"), picking(0, "b", "yvu"), picking(1, "b", "zyx")]
    assert chosen_alone(runs, 0, 0) == {"a": ["z", "x"], "b": ["v", "u"]}
