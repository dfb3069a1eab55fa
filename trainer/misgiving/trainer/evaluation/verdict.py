"""What an evaluation comes to: whom the bundle's thresholds catch, and which score is better."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from misgiving.trainer.evaluation.bundle import LEARNED, Evaluation
from misgiving.trainer.measures import metrics

Answer = Literal["yes", "no", "cannot be told"]


@dataclass(frozen=True, slots=True)
class Catch:
    """What flagging from a threshold on does to the evaluated persons."""

    name: str
    predicted_loss: float
    flagged: int
    persons: int
    """Whose failure is defined, as for ``flagged``."""
    caught: int
    """Failures that are flagged."""
    failures: int

    def __str__(self) -> str:
        share = f"{100 * self.flagged / self.persons:.0f} %" if self.persons else "nobody"
        return (
            f"{self.name} (predicted_loss from {self.predicted_loss:.4g} on) flags {share} of "
            f"{self.persons} persons, catches {self.caught} of {self.failures} failures"
        )

    def record(self) -> dict[str, Any]:
        """As JSON, which has no infinity."""
        said = asdict(self)
        del said["name"]
        finite = math.isfinite(self.predicted_loss)
        return said if finite else {**said, "predicted_loss": None}

    @property
    def accepted(self) -> float:
        """The share that is not flagged; NaN of nobody."""
        return 1 - self.flagged / self.persons if self.persons else math.nan

    @property
    def missed(self) -> float:
        """The share that failed of those who are not flagged; NaN where all are."""
        kept = self.persons - self.flagged
        return (self.failures - self.caught) / kept if kept else math.nan


def catches(evaluation: Evaluation) -> list[Catch]:
    """What each of the bundle's own thresholds does here, its default first."""
    manifest = evaluation.bundle.manifest
    shares = metrics.person_pck(evaluation.found)
    known = np.isfinite(shares)
    failed = shares[known] < manifest.failure.below
    score = evaluation.persons.predicted_loss[known]
    found = []
    for name, value in manifest.calibration.by_name().items():
        flagged = ~(score < value)  # NaN is flagged, as on the vehicle
        counts = (flagged, np.ones_like(failed), flagged & failed, failed)
        found.append(Catch(name, value, *(int(count.sum()) for count in counts)))
    return found


def better_than_free(evaluation: Evaluation) -> Answer:
    """Whether the learned score finds failures better than the best free one: by the interval of
    their difference in AUROC, on this data, where the free score was chosen too."""
    if (free := evaluation.best_free) is None:
        return "cannot be told"
    low, high = (evaluation.failures.row(LEARNED).auroc - free.auroc).interval
    if low > 0:
        return "yes"
    return "no" if high < 0 else "cannot be told"


def sentence(evaluation: Evaluation) -> str:
    """What the evaluation comes to, as its report begins."""
    answer, free = better_than_free(evaluation), evaluation.best_free
    if free is None:
        return (
            f"Whether {LEARNED} finds failures better than a free score cannot be told: no free "
            "score has an AUROC here."
        )
    difference = evaluation.failures.row(LEARNED).auroc - free.auroc
    end = f"than {free.name}, the best free score"
    if answer == "cannot be told":
        known = np.isfinite(difference.interval).all()
        why = "an interval that holds 0" if known else "without an interval"
        return (
            f"Whether {LEARNED} finds failures better {end}, cannot be told: AUROC difference "
            f"{difference}, {why}; more failures would say."
        )
    word = "better" if answer == "yes" else "worse"
    return f"{LEARNED} finds failures {word} {end}: AUROC difference {difference}."


def lines(evaluation: Evaluation) -> Iterator[str]:
    """What the thresholds do, in words."""
    yield "what the bundle's own thresholds do here (the first is its default)"
    yield from (f"  {one}" for one in catches(evaluation))


def record(evaluation: Evaluation) -> dict[str, Any]:
    """The verdict as JSON."""
    return {
        "thresholds": {one.name: one.record() for one in catches(evaluation)},
        "better_than_best_free": better_than_free(evaluation),
    }
