"""How often the alarm of drift is false and what it finds; how far embeddings are from each other.

Run: python benchmarks/flags.py DATA > benchmarks/flags_cpu_<yyyymm>.md
DATA holds lsp/. Four minutes on a busy core.
"""

import platform
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import Estimator
from misgiving.runtime.flags.drift import WINDOW, DriftWatch
from misgiving.trainer.data import open_data

Image = NDArray[np.uint8]

WINDOWS, SHIFTED = 10_000, 500
PERSONS, BINS, IMAGES = 1_000, 20, 300
QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)


def windows_with_alarm(windows: int, shift: float, rng: np.random.Generator) -> int:
    """Of normal scores, compared with a reference of its own for each window."""
    raised = 0
    for _ in range(windows):
        edges = np.quantile(rng.normal(size=PERSONS), np.arange(1, BINS) / BINS)
        watch = DriftWatch(tuple(edges.tolist()), (1 / BINS,) * BINS, PERSONS)
        for score in (rng.normal(size=WINDOW) + shift).tolist():
            watch = watch.seen(score)
        raised += watch.alarm
    return raised


def later(image: Image, rng: np.random.Generator) -> Image:
    """What a still scene looks like in another frame: 3 px on, and with noise of 4 levels."""
    return _noisy(_warped(image, np.array([[1, 0, 3], [0, 1, 2]], np.float32)), rng)


def moved(image: Image, rng: np.random.Generator) -> Image:
    """The person turned by 6 degrees, a tenth larger, and a twentieth of the width on."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 6, 1.1)
    matrix[0, 2] += width / 20
    return _noisy(_warped(image, matrix.astype(np.float32)), rng)


def _warped(image: Image, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    height, width = image.shape[:2]
    moved = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return moved.astype(np.float64)


def _noisy(image: NDArray[np.float64], rng: np.random.Generator) -> Image:
    noisy: Image = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    return noisy


def distances(data: Path, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Cosine distances of embeddings, by what is compared."""
    estimator, people = Estimator.load(), open_data(f"lsp:{data}/lsp#1001-2000")

    def row(image: Image) -> NDArray[np.float64]:
        embedding = estimator.infer(image).persons[0].embedding.astype(np.float64)
        unit: NDArray[np.float64] = embedding / np.linalg.norm(embedding)
        return unit

    images = [people[i].image for i in range(IMAGES)]
    first = np.stack([row(image) for image in images])
    others = 1 - first @ first.T
    picks = (rng.choice(np.delete(np.arange(IMAGES), i), 16, False) for i in range(IMAGES))
    return {
        "a still scene, later": 1 - (first * [row(later(x, rng)) for x in images]).sum(1),
        "the same person, moved": 1 - (first * [row(moved(x, rng)) for x in images]).sum(1),
        "the nearest of 16 others": np.array([others[i, at].min() for i, at in enumerate(picks)]),
        "somebody else": others[np.triu_indices(IMAGES, 1)],
    }


def page(data: Path) -> list[str]:
    rng = np.random.default_rng(0)
    heads = [f"{100 * q:g} %" for q in QUANTILES]
    return [
        "# Flags, CPU",
        "",
        f"`python benchmarks/flags.py DATA`, {time.strftime('%Y-%m-%d')}, {platform.machine()}, "
        f"CPython {platform.python_version()}, seed 0.",
        "",
        "## Drift",
        "",
        f"Windows of {WINDOW} normal scores, each with a reference of its own, {PERSONS} persons.",
        "",
        "| shift, in standard deviations | windows | with an alarm |",
        "|---:|---:|---:|",
        *(
            f"| {shift} | {windows} | {windows_with_alarm(windows, shift, rng)} |"
            for shift, windows in [(0, WINDOWS), (0.25, SHIFTED), (0.5, SHIFTED), (1, SHIFTED)]
        ),
        "",
        "## Near-duplicates",
        "",
        f"Cosine distances between embeddings of the bundle in the package; {IMAGES} whole "
        "pictures of LSP's test set.",
        "",
        f"| quantiles | {' | '.join(heads)} |",
        "|---|" + "---:|" * len(heads),
        *(
            f"| {name} | {' | '.join(f'{q:.4f}' for q in np.quantile(away, QUANTILES))} |"
            for name, away in distances(data, rng).items()
        ),
    ]


if __name__ == "__main__":
    print("\n".join(page(Path(sys.argv[1]))))
