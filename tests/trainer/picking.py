"""Pools made of numbers, for the tests of the samplers."""

from collections.abc import Iterator, Sequence

import numpy as np

from misgiving.trainer.heatmaps import SIGNALS
from misgiving.trainer.samplers.base import Candidates

NAN, INF = float("nan"), float("inf")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def candidates_of(
    predicted: Sequence[float] = (),
    embedding: object = None,
    labelled: object = None,
) -> Candidates:
    """Embeddings that are not given must not be asked for; no signals, no labels."""
    rows = np.asarray([] if embedding is None else embedding, np.float32)
    centres = np.asarray([] if labelled is None else labelled, np.float32)

    def embedded() -> np.ndarray:
        assert embedding is not None
        return rows

    def of_labelled() -> np.ndarray:
        assert embedding is not None
        return centres.reshape(-1, rows.shape[1])

    count = len(predicted) or len(rows)
    return Candidates(
        ids=[f"person/{i}" for i in range(count)],
        predicted_loss=np.array(predicted if len(predicted) else np.zeros(count), np.float32),
        signals={},
        embedding=embedded,
        labelled_embedding=of_labelled,
    )


class View:
    """A network that finds everybody alike, in two parts."""

    def __init__(self, count: int) -> None:
        self.parts = (count // 3, count - count // 3)

    def thinned_points(self, networks: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        return (np.zeros((networks, part, 14, 2)) for part in self.parts)

    def committee_points(self) -> Iterator[np.ndarray]:
        return (np.zeros((2, part, 14, 2)) for part in self.parts)

    def gradient_lengths(self, labelled: np.ndarray) -> Iterator[np.ndarray]:
        return (np.ones((part, labelled.shape[1])) for part in self.parts)


def pool_of(risk: np.ndarray, embedding: np.ndarray, labelled: np.ndarray) -> Candidates:
    """With everything that a cycle gives; all scores are the risk. Writing to any of it fails."""
    for array in (risk, embedding, labelled):
        array.flags.writeable = False
    return Candidates(
        ids=tuple(f"person/{i}" for i in range(len(risk))),
        predicted_loss=risk,
        signals=dict.fromkeys(SIGNALS, risk),
        embedding=lambda: embedding,
        labelled_embedding=lambda: labelled,
        true_loss=lambda: risk,
        predicted_losses={"gap-aleatoric": risk, "conv-links": risk},
        network=View(len(risk)),
    )


def slow_coreset(embedding: np.ndarray, labelled: np.ndarray, budget: int) -> list[int]:
    """k-centre greedy as it is defined, one distance at a time."""

    def apart(one: np.ndarray, other: np.ndarray) -> float:
        return sum((float(a) - float(b)) ** 2 for a, b in zip(one, other, strict=True))

    picked: list[int] = []
    while len(picked) < budget:
        left = [i for i in range(len(embedding)) if i not in picked]
        centres = [*labelled, *embedding[picked]]
        if centres:
            near = {i: min(apart(embedding[i], centre) for centre in centres) for i in left}
        else:
            mean = embedding.astype(np.float64).mean(axis=0)
            near = {i: -apart(embedding[i], mean) for i in left}
        picked.append(max(left, key=lambda i: near[i]))  # the first among equals
    return picked
