"""Numbers of a cycle over its repeats, against values by hand."""

import pytest

from misgiving.trainer.cycle.record import CycleRun
from misgiving.trainer.cycle.summary import cycle_table, entries, reference, verdict
from trainer.cycle.making import stage


def runs_of(name: str, values: dict[str, list[float | None]]) -> list[CycleRun]:
    """Runs of one stage, one number of which differs: method → its value for each seed."""
    return [
        CycleRun(seed, method, (stage(**{name: value}),))
        for seed in range(len(next(iter(values.values()))))
        for method, some in values.items()
        for value in [some[seed]]
    ]


@pytest.mark.parametrize(
    ("name", "values", "cell", "against"),
    [
        # higher is better; sd of .5, .7, .6 and of the differences .1, .2, .0
        (
            "test_pck",
            {"random": [0.4, 0.5, 0.6], "other": [0.5, 0.7, 0.6]},
            "0.600 ± 0.100",
            "+0.100 ± 0.100, 2 of 3",
        ),
        # one less the PCK, and higher is better; random need not come first
        (
            "selected_pck",
            {"other": [0.1, 0.4], "random": [0.2, 0.2]},
            "0.750 ± 0.212",
            "-0.050 ± 0.212, 1 of 2",
        ),
        # without random the first is what the others are compared with
        ("test_pck", {"first": [0.5, 0.5], "other": [0.6, 0.7]}, "0.650 ± 0.071", "2 of 2"),
        # one repeat has no sd
        ("test_pck", {"random": [0.5], "other": [0.25]}, "0.250", "-0.250, 0 of 1"),
        # equal everywhere, as at the first stage
        ("test_pck", {"random": [0.5, 0.6], "other": [0.5, 0.6]}, "0.550 ± 0.071", "same"),
        # undefined for one of them, on either side: told of the others only
        ("selected_pck", {"random": [0.5, 0.5], "other": [0.25, None]}, "–", "–, 1 of 1"),
        (
            "selected_pck",
            {"random": [0.5, None], "other": [0.2, 0.4]},
            "0.700 ± 0.141",
            "–, 1 of 1",
        ),
        # undefined for everybody
        ("selected_pck", {"random": [None], "other": [None]}, "–", "–, 0 of 0"),
        ("test_pck", {"random": [None], "other": [0.5]}, "0.500", "–, 0 of 0"),
    ],
)
def test_a_number_and_how_it_compares(
    name: str, values: dict[str, list[float | None]], cell: str, against: str
) -> None:
    number = "selected_missed" if name == "selected_pck" else name
    entry = entries(runs_of(name, values), 0)["other"][number]
    assert str(entry.cell) == cell
    assert str(entry.against).endswith(against)


def test_what_is_not_compared() -> None:
    """The reference with itself, and the pool, of which no method is better."""
    table = entries(runs_of("test_pck", {"random": [0.5], "other": [0.6]}), 0)
    assert {entry.against for entry in table["random"].values()} == {None}
    assert table["other"]["pool_missed"].against is None


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        (["coreset", "random"], "random"),
        (["coreset", "learned_loss"], "coreset"),
        (["coreset", "random:conv-kl"], "coreset"),  # not the plain one
        (["coreset"], "coreset"),
    ],
)
def test_reference(methods: list[str], expected: str) -> None:
    assert reference([CycleRun(0, method, (stage(),)) for method in methods]) == expected


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"random": [0.512], "other": [0.5]},
            "random is ahead of other by 0.012 in test PCK after 100 labels; one seed: no "
            "evidence.",
        ),
        # the best of the others is compared with the reference, and was chosen
        (
            {"random": [0.5, 0.6], "a": [0.6, 0.71], "b": [0.4, 0.4]},
            "a is ahead of random by 0.105 in test PCK after 100 labels; the 95% interval over 2 "
            "seeds, [0.041 0.169], does not hold 0, but for the choice of the best of 2.",
        ),
        # where the reference is ahead, it is so of the best other one
        (
            {"random": [0.6, 0.6], "a": [0.5, 0.4], "b": [0.5, 0.6]},
            "random is ahead of b by 0.050 in test PCK after 100 labels; the 95% interval over 2 "
            "seeds, [-0.585 0.685], holds 0: no evidence.",
        ),
        ({"random": [0.5], "other": [0.5]}, "random and other are level: 0.500 test PCK after 100"),
        ({"random": [0.5]}, "random is compared with nothing: 0.500 test PCK after 100 labels."),
        (
            {"random": [None], "other": [0.5]},
            "Which method is ahead is not known: nobody has a test PCK after 100 labels.",
        ),
    ],
)
def test_the_verdict(values: dict[str, list[float | None]], said: str) -> None:
    """Two differences of .1 and .11: .105 ± 12.706 · .00707 / √2."""
    assert verdict(runs_of("test_pck", values)).startswith(said)


def test_the_verdict_is_of_the_last_stage() -> None:
    runs = [CycleRun(0, m, (stage(1), stage(2, last))) for m, last in (("random", 0.5), ("a", 0.6))]
    assert verdict(runs).startswith("a is ahead of random by 0.100 in test PCK after 110 labels")


def test_table() -> None:
    """Stages that all runs have, mean ± sd, wins in brackets."""
    values = {"random": (0.4, 0.6), "other": (0.5, 0.5)}
    runs = [
        CycleRun(seed, method, (stage(1), stage(2, test_pck=some[seed])))
        for seed in (0, 1)
        for method, some in values.items()
    ]
    runs[-1] = CycleRun(1, "other", (*runs[-1].stages, stage(3)))
    first, head, *rows, note = cycle_table(runs).splitlines()
    assert first == verdict(runs)
    assert [row.split()[:3] for row in rows] == [
        ["1", "100", "random"],
        ["1", "100", "other"],
        ["2", "110", "random"],
        ["2", "110", "other"],
    ]
    assert [("(" in row) for row in rows] == [False, False, False, True]
    assert "0.500 ± 0.141" in rows[2]
    assert "0.500 ± 0.000 (1/2)" in rows[3]
    assert note == "(w/n): better than random in w of n repeats"
    end = head.index("of the pool") + len("of the pool")  # numbers stand below their titles
    assert {row[end - 14 : end] for row in rows} == {" 0.250 ± 0.000"}


def test_a_single_method_is_compared_with_nothing() -> None:
    lines = cycle_table([CycleRun(0, "random", (stage(),))]).splitlines()
    assert len(lines) == 3
    assert "±" not in lines[2]
