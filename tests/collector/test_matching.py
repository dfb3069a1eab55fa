"""Nobody is mistaken for another, and nobody is lost, however far annotators moved them."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from misgiving.collector.annotations.matching import Persons, copies, is_untouched, match

K = 3
KEY = ("d", 0)


def persons(
    *rows: float | tuple[float, float],
    ids: Sequence[int | str] | None = None,
    keys: Sequence[tuple[str, int] | None] | None = None,
    tolerance: float = 0.01,
) -> Persons:
    """A row is x, or x and y: a person of K joints on a line of 4 px, without a box."""
    corners = np.array([(*np.atleast_1d(row), 0)[:2] for row in rows], float).reshape(-1, 1, 2)
    count = len(rows)
    return Persons(
        ids=ids or list(range(100, 100 + count)),
        keys=keys or [None] * count,
        points=corners + np.arange(K)[:, None] * [2.0, 1.0],
        visibility=np.full((count, K), 2, np.int8),
        boxes=np.zeros((count, 4)),
        tolerances=np.full((count, 2), tolerance),
    )


@pytest.mark.parametrize(
    ("corrected", "exported", "expected"),
    [
        ([], [], []),
        ([], [0], []),
        ([0], [], [-1]),  # added where nobody was exported
        ([500], [0], [0]),  # moved far, but nobody else is there
        ([0, 100], [100, 0], [1, 0]),
        ([3, 1], [0], [-1, 0]),  # the nearer one, and one added
        ([500], [0, 50], [1]),  # moved far among others: one of them was deleted
        ([60, 200], [0, 100], [0, 1]),  # not each the nearest, all together
        ([60, 70, 200], [0, 100], [0, 1, -1]),
    ],
)
def test_places(corrected: list[float], exported: list[float], expected: list[int]) -> None:
    assert match(persons(*corrected), persons(*exported)) == expected


def test_ids_decide_between_equal_places_only() -> None:
    assert match(persons(0, 0, ids=[2, 1]), persons(0, 0, ids=[1, 2])) == [1, 0]
    assert match(persons(0, 9, ids=[2, 1]), persons(0, 9, ids=[1, 2])) == [0, 1]
    assert match(persons(0, 0, ids=["b", "a"]), persons(0, 0, ids=[1, 2])) in ([0, 1], [1, 0])


def test_a_key_goes_before_every_place() -> None:
    keys = [KEY, ("d", 1)]
    swapped = persons(100, 0, keys=keys)
    assert match(swapped, persons(0, 100, keys=keys)) == [0, 1]
    # A copy that was moved to somebody new keeps the key of the first: it is added.
    assert match(persons(0, 90, keys=[KEY, KEY]), persons(0, 100, keys=keys)) == [0, -1]
    # A copy from another frame has a key that nobody here has: it says nothing.
    assert match(persons(90, keys=[("other", 0)]), persons(0, 100, keys=keys)) == [1]
    # What has no key takes whoever is left.
    assert match(persons(100, 0, keys=[KEY, None]), persons(0, 100, keys=keys)) == [0, 1]


def test_the_region_tells_who_had_the_neighbours_joints() -> None:
    """The network found one person twice; the annotator put the joints of the other in place."""
    exported = persons(100, 101)
    exported.boxes[:] = [[0, 0, 20, 20], [95, 0, 20, 20]]
    assert match(persons(102, 8), exported) == [1, 0]


def test_as_good_as_trying_all() -> None:
    random = np.random.default_rng(3)
    for corrected, exported in itertools.product(range(1, 5), range(1, 5)):
        ours = persons(*random.uniform(0, 300, (corrected, 2)))
        theirs = persons(*random.uniform(0, 300, (exported, 2)))
        found = match(ours, theirs)
        places = [*range(exported), *[-1] * max(0, corrected - exported)]
        best = min(
            _cost(ours, theirs, choice) for choice in itertools.permutations(places, corrected)
        )
        assert _cost(ours, theirs, found) == pytest.approx(best)
        assert sum(one >= 0 for one in found) == min(corrected, exported)


def _cost(ours: Persons, theirs: Persons, choice: Sequence[int]) -> float:
    pairs = [(one, other) for one, other in enumerate(choice) if other >= 0]
    return sum(2 * math.dist(ours.points[a, 0], theirs.points[b, 0]) for a, b in pairs)


def test_copies() -> None:
    assert copies(persons(0, 5, 0, 0)) == {2: 0, 3: 0}
    assert copies(persons(0, 0, keys=[None, KEY])) == {0: 1}  # who kept the key stays
    hidden = persons(0, 0)
    hidden.visibility[1, 0] = 0
    assert copies(hidden) == {}


@pytest.mark.parametrize(
    ("moved", "visibility", "untouched"),
    [
        (0, 2, True),
        (0.009, 2, True),  # a tool's rounding
        (0.02, 2, False),
        (-5, 2, False),
        (0, 1, False),  # only the visibility was changed
        (0, 0, False),
    ],
)
def test_untouched(moved: float, visibility: int, untouched: bool) -> None:
    exported, corrected = persons(7, 0), persons(0)
    corrected.points[0, 1, 1] += moved
    corrected.visibility[0, 1] = visibility
    assert is_untouched(corrected, 0, exported, 1) is untouched
    assert not is_untouched(corrected, 0, exported, 0)
