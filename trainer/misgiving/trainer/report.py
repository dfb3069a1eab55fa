"""Tables of a run: every learned score beside the free ones, random and the oracle."""

from dataclasses import dataclass

import numpy as np

from misgiving.trainer import metrics
from misgiving.trainer.scoring import Floats, Scores

PICKED_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """How well one score finds the persons that a pose net fails on."""

    name: str
    picked_pck: float
    """PCK@0.2 of the share with the highest score; lower is better."""
    auroc: float
    spearman: float


def score_rows(scores: Scores) -> list[ScoreRow]:
    """One row a score, over the persons whose torso is labelled; random first, oracle last."""
    shares = metrics.person_pck(scores.found)
    defined = np.isfinite(shares)
    failed = shares[defined] < metrics.FAILURE_BELOW
    true_loss = scores.true_loss[defined]
    random = np.random.default_rng(0).random(len(failed))
    named = {name: risk[defined] for name, risk in scores.risk_scores().items()}
    found = scores.found[defined]
    columns = {"random": random, **named, "true loss (oracle)": true_loss}
    return [
        ScoreRow(
            name,
            metrics.pck(found[picked(risk, PICKED_SHARE)]),
            metrics.auroc(risk, failed),
            metrics.spearman(risk, true_loss),
        )
        for name, risk in columns.items()
    ]


def picked(risk: Floats, share: float) -> list[int]:
    """Positions of the riskiest share, at least one, riskiest first."""
    count = max(1, round(share * len(risk)))
    return [int(i) for i in np.argsort(-risk, kind="stable")[:count]]


def score_table(scores: Scores) -> str:
    """The rows as text, with the numbers that they rest on.

    >>> network, recipe, _ = load_checkpoint(Path("runs/first"))
    >>> device = Compute(device="cpu", threads=1).prepare()
    >>> print(score_table(score(network, recipe, open_data("synthetic:3,20"), device)))
    PCK@0.2 ... over 20 persons; ... failures among the 20 whose torso is labelled
    score                  PCK of top 10 %   AUROC  Spearman
    random                 ...
    true loss (oracle)     ...
    """
    shares = metrics.person_pck(scores.found)
    defined = shares[np.isfinite(shares)]
    failures = int((defined < metrics.FAILURE_BELOW).sum())
    lines = [
        f"PCK@0.2 {metrics.pck(scores.found):.3f} over {len(shares)} persons; "
        f"{failures} failures among the {len(defined)} whose torso is labelled",
        f"{'score':22} {'PCK of top 10 %':>15} {'AUROC':>7} {'Spearman':>9}",
    ]
    lines += [
        f"{row.name:22} {_text(row.picked_pck):>15} {_text(row.auroc):>7} {_text(row.spearman):>9}"
        for row in score_rows(scores)
    ]
    return "\n".join(lines)


def _text(value: float) -> str:
    """Undefined, for example for want of failures, is a dash."""
    return f"{value:.3f}" if np.isfinite(value) else "–"
