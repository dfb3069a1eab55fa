"""What a bundle said of its calibration data, as the histograms that drift is told by.

Axes: N persons, S signals, D embedding.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.bundles.calibration import EmbeddingReference, Histogram, Reference

Floats = NDArray[np.floating]

BINS = 20


def reference(
    data: str, scores: dict[str, Floats], embedding: Floats, weights: Floats
) -> Reference:
    """Histograms of scores (N,) by name, and of how far embeddings (N, D) are from their mean.

    Weights (N,) say how many persons each stands for.
    """
    centre = embedding_reference(embedding, weights)
    distance = centre.distance(embedding)
    columns = {**scores, "embedding_distance": distance}
    return Reference(
        data=data,
        persons=len(embedding),
        histograms=tuple(histogram(name, each, weights) for name, each in columns.items()),
        embedding=centre,
    )


def histogram(name: str, values: Floats, weights: Floats) -> Histogram:
    """Bins between the quantiles of values (N,), fewer than BINS where many values are equal."""
    inner = np.arange(1, BINS) / BINS
    quantiles = np.quantile(values, inner, weights=weights, method="inverted_cdf")
    edges = np.unique(_short(quantiles))
    place = np.searchsorted(edges, values, side="right")
    counts = np.bincount(place, weights, len(edges) + 1)
    return Histogram(name=name, edges=_short(edges), shares=_short(counts / weights.sum()))


def embedding_reference(embedding: Floats, weights: Floats) -> EmbeddingReference:
    """Mean and standard deviation of each number of embeddings (N, D)."""
    mean = np.average(embedding, axis=0, weights=weights)
    deviation = np.sqrt(np.average((embedding - mean) ** 2, axis=0, weights=weights))
    return EmbeddingReference(mean=_short(mean), deviation=_short(deviation))


def _short(numbers: Floats | Sequence[float]) -> tuple[float, ...]:
    """Six digits: the manifest stays small, and nothing here is known better."""
    return tuple(float(f"{number:.6g}") for number in numbers)
