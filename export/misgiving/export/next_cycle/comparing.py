"""The bundle in the field and a new one on the same persons: which figures differ, and how surely.

The intervals are of the differences: both bundles are measured on the same resampled images.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misgiving.export.calibrating import check_unseen
from misgiving.runtime import Bundle, Estimator
from misgiving.runtime.durable import write_durably
from misgiving.runtime.errors import DataError, FailedPrecondition
from misgiving.trainer import Estimate, Evaluation, evaluate, open_data
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.evaluation.bundle import LEARNED
from misgiving.trainer.measures.bootstrap import LEVEL, RESAMPLES
from misgiving.trainer.report import table_line

MEASURES = {
    "pck": ("PCK@0.2", +1),
    "auroc": ("AUROC of failure", +1),
    "augrc": ("AUGRC", -1),
    "recall_10": ("recall in top 10 %", +1),
}
"""Name → how it is shown, and which sign of a difference is better. The last three are of the
predicted loss: how well it finds the failures."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of both bundles."""

    field: Estimate
    candidate: Estimate
    better: int
    """Sign of a difference that is better."""

    @property
    def change(self) -> Estimate:
        return self.candidate - self.field

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where the interval lies on one side of 0, else ``not told``."""
        low, high = self.change.interval
        if low > 0 or high < 0:
            return "better" if (low > 0) == (self.better > 0) else "worse"
        return "not told"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both bundles on the same persons."""

    field: Evaluation
    candidate: Evaluation
    differences: dict[str, Difference]
    obstacle: str
    """Why vehicles would not let one follow the other; empty where they do."""

    @property
    def worse(self) -> list[str]:
        """What is worse, as it is shown."""
        return [
            MEASURES[name][0] for name, one in self.differences.items() if one.verdict == "worse"
        ]


def compare(field: Bundle, candidate: Bundle, spec: str) -> Comparison:
    """Measure two bundles on persons that neither has seen, as far as that can be known.

    Raises:
        DataError: one of them has; or the bundles can read different persons.
    """
    before, after = (_measured(bundle, spec) for bundle in (field, candidate))
    if before.persons.ids != after.persons.ids:
        raise DataError(
            f"{spec}: {len(before.persons.ids)} persons can be read by the bundle in the field, "
            f"{len(after.persons.ids)} by the new one; expected the same. Mend the pictures"
        )
    numbers = [_numbers(one) for one in (before, after)]
    differences = {
        name: Difference(numbers[0][name], numbers[1][name], sign)
        for name, (_, sign) in MEASURES.items()
    }
    return Comparison(before, after, differences, obstacle_of(field, candidate))


def _measured(bundle: Bundle, spec: str) -> Evaluation:
    data = open_data(spec, bundle.manifest.keypoints)
    origin = bundle.manifest.provenance
    check_unseen(data, origin.training_data, origin.label_count)
    return evaluate(Estimator.load(bundle.path), data)


def _numbers(evaluation: Evaluation) -> dict[str, Estimate]:
    row = evaluation.failures.row(LEARNED)
    return {"pck": evaluation.failures.pck, **row.numbers()}


def obstacle_of(field: Bundle, candidate: Bundle) -> str:
    """Why vehicles would not let one bundle follow the other; empty where they do."""
    from misgiving.runtime.verbs.exchanging import check_alike  # which loads the server

    try:
        check_alike(field, candidate)
    except FailedPrecondition as error:
        return str(error)
    return ""


def lines(comparison: Comparison) -> Iterator[str]:
    """The comparison as text."""
    failures = comparison.field.failures
    yield (
        f"{without_folders(comparison.field.data.spec)}: {failures.persons} persons; "
        f"{failures.failures} fail in the field, {comparison.candidate.failures.failures} with "
        "the new bundle"
    )
    yield table_line("", ("in the field", "new", "difference (paired)"))
    for name, one in comparison.differences.items():
        shown = f"{MEASURES[name][0]} {'↑' if one.better > 0 else '↓'}"
        yield f"{table_line(shown, (one.field, one.candidate, one.change))}  {one.verdict}"
    yield f"[ ]: {LEVEL:.0%} interval from {RESAMPLES} resamples of {failures.images} images"
    if comparison.worse:
        yield f"the new bundle is WORSE in {', '.join(comparison.worse)}"
    else:
        yield "nothing is shown to be worse"
    if comparison.obstacle:
        yield f"vehicles will not take it as it is: {comparison.obstacle}"


def write_comparison(path: Path, comparison: Comparison) -> None:
    """As JSON, durably."""
    text = json.dumps(_record(comparison), indent=2) + "\n"
    write_durably(path, text.encode())


def _record(comparison: Comparison) -> dict[str, Any]:
    both = {"field": comparison.field, "new": comparison.candidate}
    return {
        "data": without_folders(comparison.field.data.spec),
        "persons": comparison.field.failures.persons,
        **{
            name: {
                "name": one.bundle.manifest.name,
                "version": one.bundle.manifest.version,
                "digest": one.bundle.digest,
                "failures": one.failures.failures,
            }
            for name, one in both.items()
        },
        "differences": {
            name: {
                "field": one.field.record(),
                "new": one.candidate.record(),
                "difference": one.change.record(),
                "verdict": one.verdict,
            }
            for name, one in comparison.differences.items()
        },
        "worse": comparison.worse,
        "obstacle": comparison.obstacle,
    }
