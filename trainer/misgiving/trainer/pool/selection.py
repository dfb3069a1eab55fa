"""Pick from a score file, with the samplers of the active-learning cycle."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.trainer.pool.score_file import ScoreFile, open_scores
from misgiving.trainer.samplers import sampler_named
from misgiving.trainer.samplers.base import (
    Candidates,
    Floats,
    Sampler,
    check_budget,
    highest_signal,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What was picked, and from what; see :func:`select`."""

    ids: tuple[str, ...]
    """In the order of picking."""
    candidates: int
    unscored: int
    """Candidates without a finite predicted loss: a sampler that goes by it never picks them."""
    scores: ScoreFile


def select(
    scores: Path | str, sampler: str, budget: int, labelled: Path | str | None = None, seed: int = 0
) -> Selection:
    """Pick persons to label.

    >>> _ = score_pool(Estimator.load(), open_data("synthetic:3,8"), Path("pool.csv"))
    >>> len(select(Path("pool.csv"), "coreset", budget=3).ids)
    3

    Args:
        scores: a pool's score file.
        sampler: by name; or a free score of the file, as a foreign net has its own.
        budget: how many.
        labelled: score file, by the same bundle, of those who are labelled already. Nobody of
            them is picked, and core-set keeps away from them.
        seed: of the samplers that draw.

    Raises:
        InvalidInput: no such sampler, or fewer candidates than ``budget``.
        DataError: a file that cannot be used.
    """
    scores = Path(scores)
    labelled = Path(labelled) if labelled else None
    if budget < 1:
        raise InvalidInput(f"budget is {budget}; expected at least 1")
    file = open_scores(scores)
    run = _sampler(sampler, file)
    known = _labelled(labelled, file) if labelled else None
    candidates = _candidates(file, known)
    check_budget(budget, len(candidates), f"to choose from in {scores}")
    picked = run(candidates, budget, np.random.default_rng(seed))
    return Selection(
        ids=tuple(candidates.ids[position] for position in picked),
        candidates=len(candidates),
        unscored=int((~np.isfinite(candidates.predicted_loss)).sum()),
        scores=file,
    )


def _sampler(name: str, file: ScoreFile) -> Sampler:
    if any(name == signal.name for signal in file.record.signals):
        return lambda candidates, budget, rng: highest_signal(candidates, name, budget)
    return sampler_named(name)


def _labelled(path: Path, pool: ScoreFile) -> ScoreFile:
    file = open_scores(path)
    if file.record.bundle_digest != pool.record.bundle_digest:
        raise DataError(
            f"{path} was scored by bundle {file.record.bundle_digest[:12]}…, {pool.path} by "
            f"{pool.record.bundle_digest[:12]}…; expected the same. Score one of them again"
        )
    return file


def _candidates(pool: ScoreFile, labelled: ScoreFile | None) -> Candidates:
    ids, columns = pool.columns()
    known = set(labelled.columns()[0]) if labelled else set()
    left = [i for i, name in enumerate(ids) if name not in known]
    size = pool.record.embedding_size

    def embedding() -> Floats:
        rows = pool.embedding()
        return rows if len(left) == len(ids) else rows[left]

    return Candidates(
        ids=[ids[i] for i in left],
        predicted_loss=columns["predicted_loss"][left],
        signals={
            signal.name: columns[signal.name][left] * (-1 if signal.higher_is == "safer" else 1)
            for signal in pool.record.signals
        },
        embedding=embedding,
        labelled_embedding=lambda: (
            labelled.embedding() if labelled else np.empty((0, size), np.float32)
        ),
    )
