"""The paper's tables and figures: digit for digit, and as files of the verb ``theory``."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from misgiving.runtime.errors import DataError
from misgiving.trainer.cli import app
from misgiving.trainer.theory.examples import figure_1, figure_2
from misgiving.trainer.theory.gamma import GammaLosses
from misgiving.trainer.theory.output import KEYS, lines, record
from misgiving.trainer.theory.pictures import figures
from misgiving.trainer.theory.tables import (
    TABLE_1,
    TABLE_2,
    Fit,
    best_of,
    fits,
    rounded_as,
)


@pytest.fixture(scope="module")
def found() -> list[Fit]:
    return fits()


@pytest.fixture(scope="module")
def fitted(found: list[Fit]) -> GammaLosses:
    return best_of(found).losses


@pytest.mark.parametrize(
    ("gap", "printed"),
    [
        (0.02, "0.094"),
        (0.04, "0.185"),
        (0.06, "0.274"),
        (0.08, "0.358"),
        (0.1, "0.437"),
        (0.125, "0.527"),
        (0.15, "0.607"),
    ],
)
def test_table_1(gap: float, printed: str, fitted: GammaLosses) -> None:
    assert f"{float(fitted.close_pairs(gap)):.3f}" == printed == TABLE_1[gap]


@pytest.mark.parametrize(
    ("gap", "printed"),
    [(0.0, "0.5"), (0.1, "0.39"), (0.2, "0.30"), (0.3, "0.25"), (0.4, "0.21"), (0.5, "0.18")],
)
def test_table_2(gap: float, printed: str, fitted: GammaLosses) -> None:
    share = float(fitted.expected_share(gap))
    assert rounded_as(share, printed) == printed == TABLE_2[gap]


def test_only_alpha_4_has_every_printed_digit(found: list[Fit]) -> None:
    assert [one.losses.alpha for one in found] == [*range(1, 11)]
    assert [one.losses.alpha for one in found if one.beta_range] == [4]
    assert best_of(found).losses.alpha == 4


def test_the_range_of_beta_ends_where_a_digit_does(found: list[Fit]) -> None:
    low, high = best_of(found).beta_range or (0.0, 0.0)
    assert (round(low, 3), round(high, 3)) == (15.005, 15.016)
    assert low < best_of(found).losses.beta < high

    def wrong(beta: float) -> list[str]:
        pairs = zip(TABLE_1.values(), GammaLosses(4, beta).close_pairs([*TABLE_1]), strict=True)
        return [printed for printed, value in pairs if rounded_as(value, printed) != printed]

    assert wrong(low + 1e-6) == wrong(high - 1e-6) == []
    assert wrong(low - 1e-6) == ["0.094"]
    assert wrong(high + 1e-6) == ["0.358"]


@pytest.mark.parametrize(
    ("alpha", "beta", "error"),
    [(2, 9.781, 0.0067), (4, 15.013, 0.00045), (5, 17.058, 0.00097), (10, 24.905, 0.0028)],
)
def test_the_best_beta_of_an_alpha(alpha: int, beta: float, error: float, found: list[Fit]) -> None:
    fit = found[alpha - 1]
    grid = np.linspace(beta - 0.5, beta + 0.5, 2001)
    printed = np.array([[float(text)] for text in TABLE_1.values()])
    gaps = np.array([[gap] for gap in TABLE_1])
    values = GammaLosses(alpha, 1.0).close_pairs(gaps * grid)  # they depend on beta · gap alone
    worst = np.abs(values - printed).max(axis=0)
    assert fit.losses.beta == pytest.approx(grid[int(np.argmin(worst))], abs=0.0006)
    assert fit.losses.beta == pytest.approx(beta, abs=0.0006)
    assert fit.largest_error == pytest.approx(worst.min(), rel=0.05)
    assert fit.largest_error == pytest.approx(error, rel=0.05)


def test_curve_of_figure_3(fitted: GammaLosses) -> None:
    """The paper's has its mode near 0.2, its peak near 3.37."""
    assert fitted.mode == pytest.approx(0.2, abs=0.0005)
    assert float(fitted.density(fitted.mode)) == pytest.approx(3.37, abs=0.01)


def test_figure_1() -> None:
    (similar, different) = figure_1()
    assert similar.margin == different.margin == 1
    assert similar.kl == pytest.approx(0.0034, abs=5e-5)
    assert different.kl == pytest.approx(0.3270, abs=5e-5)


def test_figure_2() -> None:
    agreed, opposed = figure_2()
    assert (agreed.order, agreed.loss, agreed.gradient) == ("l_i > l_j", 0, (0, 0, 0))
    assert (opposed.order, opposed.loss, opposed.gradient) == ("l_i < l_j", 4, (0, 1, 0))


def test_the_record_is_json_with_every_key_explained(found: list[Fit]) -> None:
    made: dict[str, Any] = json.loads(json.dumps(record(found), allow_nan=False))
    assert [float(f"{row['probability']:.3f}") for row in made["table1"]] == [
        float(row["paper"]) for row in made["table1"]
    ]
    assert [row["gap"] for row in made["table2"]] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert made["alpha"] == 4
    assert made["inside_margin"] == pytest.approx(0.82, abs=0.005)
    explained = " ".join(KEYS).replace(",", " ").replace(".", " ").split()
    tables = {key for name in ("table1", "table2") for row in made[name] for key in row}
    assert ({*made} | tables) - {"source", "keys"} <= {*explained}


def test_the_text_has_both_tables_beside_the_paper_s(found: list[Fit]) -> None:
    said = [" ".join(line.split()) for line in lines(found)]
    assert f"paper {' '.join(TABLE_1.values())}" in said
    assert f"LL++, paper {' '.join(f'q−{text}' for text in TABLE_2.values())}" in said
    here = {line.split()[0]: line.split()[1:] for line in said if line.startswith("here")}
    assert [round(float(value), 3) for value in here["here"]] == [*map(float, TABLE_1.values())]
    assert any(line.startswith("losses follow Gamma(alpha 4, beta 15.01") for line in said)


@pytest.fixture(scope="module")
def drawn(fitted: GammaLosses) -> dict[str, Figure]:
    return figures(fitted)


def test_histograms_of_figure_3_follow_their_curves(
    drawn: dict[str, Figure], fitted: GammaLosses
) -> None:
    left, right = drawn["figure3"].axes
    for axes, density in ((left, fitted.density), (right, fitted.gap_density)):
        bars = [*axes.containers[0]]
        centres = np.array([bar.get_x() + bar.get_width() / 2 for bar in bars])
        heights = np.array([bar.get_height() for bar in bars])
        assert np.abs(heights - density(centres)).max() < 0.15  # of up to 4.7


def test_curves_of_table_2(drawn: dict[str, Figure], fitted: GammaLosses) -> None:
    (axes,) = drawn["table2"].axes
    curves = {str(line.get_label()): line.get_data() for line in axes.lines}
    leads, expected = curves["LearningLoss++, gap 0.5"]
    crossing = np.interp(0, -np.asarray(expected), leads)
    assert crossing == pytest.approx(float(fitted.balanced_lead(0.5)), abs=1e-3)
    leads, step = curves["Learning Loss,\nany gap above 0"]
    assert np.asarray(leads)[np.asarray(step) > 0].max() == pytest.approx(1, abs=0.01)


def test_the_command(tmp_path: Path) -> None:
    out = tmp_path / "new" / "theory"
    said = CliRunner().invoke(app, ["theory", "--out", str(out)], catch_exceptions=False).stdout
    assert "Table 1" in said
    assert f"numbers {out / 'theory.json'}" in said
    assert json.loads((out / "theory.json").read_text(encoding="utf-8"))["alpha"] == 4
    names = ["figure1.png", "figure2.png", "figure3.png", "table2.png"]
    assert sorted(path.name for path in out.iterdir()) == [*names, "theory.json"]
    pictures = [cv2.imread(str(out / name)) for name in names]
    assert all(picture is not None and np.std(picture) > 15 for picture in pictures)  # not blank


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.png").touch()
    with pytest.raises(DataError, match="is there already; nothing is overwritten"):
        CliRunner().invoke(app, ["theory", "--out", str(tmp_path)], catch_exceptions=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]
