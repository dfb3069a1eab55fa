"""The paper's tables and examples as text, as JSON and as pictures: the body of ``theory``."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from misgiving.runtime.durable import check_new, new_folder
from misgiving.trainer.theory import examples, tables
from misgiving.trainer.theory.gamma import Floats, GammaLosses
from misgiving.trainer.theory.tables import TABLE_1, TABLE_2, Fit

KEYS = {
    "alpha, beta": "shape and rate of the Gamma distribution of losses, fitted to table1; whole "
    "alpha, beta in 1 / unit of loss",
    "largest_error": "between table1 and what is printed, the least that a beta reaches",
    "beta_range": "betas with which every entry of table1 is rounded to what is printed; null: "
    "none",
    "mode, peak": "the most likely loss, and the density there: the curve of Figure 3",
    "inside_margin": "share of random pairs within Learning Loss's margin of 1 where the "
    "predicted losses are exactly the logarithms of the true ones",
    "fits": "the same for each whole alpha that was tried",
    "gap": "true loss of image j less that of image i, i having the lower",
    "paper": "what the paper prints",
    "table1.probability": "that the losses of two images differ by gap at most (Eq 5)",
    "table2.expected_share": "E[l_i / (l_i + l_j)] over pairs of this gap (Eq 6); the expected "
    "coefficient of LearningLoss++ is q_i less this, that of Learning Loss 1 within the margin",
    "table2.balanced_lead": "predicted loss of j less that of i at which the expected coefficient "
    "of LearningLoss++ is 0",
    "figure1": "the derivative of either objective by the predicted loss of the pair's first image",
    "figure2": "loss and gradient by w of Learning Loss for theta, w of the paper's example",
}
"""What the keys of theory.json mean; the file carries them too."""


def run(out: Path) -> None:
    """The verb: compute, print, and write ``theory.json`` and the pictures.

    Raises:
        DataError: the folder is there already, or cannot be written.
    """
    check_new(out)
    from misgiving.trainer.theory.pictures import figures  # matplotlib takes a second to load

    found = tables.fits()
    text = json.dumps(record(found), indent=2, ensure_ascii=False, allow_nan=False)
    with new_folder(out) as folder:
        (folder / "theory.json").write_text(f"{text}\n", encoding="utf-8")
        for name, figure in figures(tables.best_of(found).losses).items():
            figure.savefig(folder / f"{name}.png")
    print("\n".join(lines(found)))
    print(f"numbers {out / 'theory.json'}, pictures beside it")


def record(found: list[Fit]) -> dict[str, Any]:
    """Both tables, the fitted parameters and the examples as JSON."""
    best = tables.best_of(found)
    losses = best.losses
    return {
        "source": "Shukla & Ahmed, A Mathematical Analysis of Learning Loss for Active Learning in "
        "Regression, CVPR Workshops 2021",
        "keys": KEYS,
        **_fit_record(best),
        "mode": losses.mode,
        "peak": float(losses.density(losses.mode)),
        "inside_margin": losses.inside_margin(),
        "fits": [_fit_record(one) for one in found],
        "table1": [
            {"gap": gap, "probability": float(losses.close_pairs(gap)), "paper": printed}
            for gap, printed in TABLE_1.items()
        ],
        "table2": [_table_2_record(losses, *entry) for entry in TABLE_2.items()],
        "figure1": [_figure_1_record(one) for one in examples.figure_1()],
        "figure2": {
            "theta": examples.THETA,
            "w": examples.WEIGHTS,
            "cases": [asdict(one) for one in examples.figure_2()],
        },
    }


def _table_2_record(losses: GammaLosses, gap: float, printed: str) -> dict[str, Any]:
    return {
        "gap": gap,
        "expected_share": float(losses.expected_share(gap)),
        "paper": printed,
        "balanced_lead": float(losses.balanced_lead(gap)),
    }


def _fit_record(fit: Fit) -> dict[str, Any]:
    return {
        "alpha": fit.losses.alpha,
        "beta": fit.losses.beta,
        "largest_error": fit.largest_error,
        "beta_range": fit.beta_range,
    }


def _figure_1_record(one: examples.Coefficients) -> dict[str, Any]:
    margin, kl = examples.PAPER_COEFFICIENTS[one.pair]
    return {**asdict(one), "paper": {"margin": margin, "kl": kl}}


def lines(found: list[Fit]) -> Iterator[str]:
    """Both tables and Figure 1 as text, beside what the paper prints."""
    best = tables.best_of(found)
    yield from _fit_lines(found, best)
    yield ""
    yield from _table_1_lines(best.losses)
    yield ""
    yield from _table_2_lines(best.losses)
    yield ""
    yield from _figure_1_lines()


def _fit_lines(found: list[Fit], best: Fit) -> Iterator[str]:
    yield (
        f"losses follow Gamma(alpha {best.losses.alpha}, beta {best.losses.beta:.3f}), fitted to "
        f"Table 1; largest error {best.largest_error:.5f}"
    )
    exact = [
        f"alpha {fit.losses.alpha} with beta {fit.beta_range[0]:.4f} to {fit.beta_range[1]:.4f}"
        for fit in found
        if fit.beta_range
    ]
    ends = f"{found[0].losses.alpha} to {found[-1].losses.alpha}"
    yield f"every printed digit of Table 1, of whole alpha {ends}: {'; '.join(exact) or 'none'}"


def _table_1_lines(losses: GammaLosses) -> Iterator[str]:
    yield "Table 1: probability that the losses of two images differ by a gap at most"
    yield _line("gap", TABLE_1)
    yield _line("here", _four_places(losses.close_pairs([*TABLE_1])))
    yield _line("paper", TABLE_1.values())


def _table_2_lines(losses: GammaLosses) -> Iterator[str]:
    yield "Table 2: expected coefficient of the gradient where l_j = l_i + gap; q of i by softmax"
    yield _line("gap", TABLE_2)
    shares = _four_places(losses.expected_share([*TABLE_2]))
    yield _line("LL++, here", [f"q−{share}" for share in shares])
    yield _line("LL++, paper", [f"q−{printed}" for printed in TABLE_2.values()])
    yield _line("  0 at l̂_j−l̂_i =", _four_places(losses.balanced_lead([*TABLE_2])))
    yield "LL: 1 where l̂_j−l̂_i is below the margin, whatever the gap, else 0"


def _figure_1_lines() -> Iterator[str]:
    yield "Figure 1: coefficient of the gradient"
    for one in examples.figure_1():
        margin, kl = examples.PAPER_COEFFICIENTS[one.pair]
        yield (
            f"images {', '.join(one.pair)}: LL {one.margin:.4f} (paper {margin}), "
            f"LL++ {one.kl:.4f} (paper {kl})"
        )


def _four_places(values: Floats) -> list[str]:
    return [f"{value:.4f}" for value in values]


def _line(name: str, cells: Iterable[object]) -> str:
    return f"{name:16}" + "".join(f" {cell!s:>8}" for cell in cells)
