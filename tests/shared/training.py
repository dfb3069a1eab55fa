"""What the trainer's and the exporter's tests share: a tiny checkpoint, people, scores.

Everything computes on one thread: these networks are so small that more only wait on each other.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.keypoints import LSP
from misgiving.trainer.answers.scoring import Scores
from misgiving.trainer.config import AugmentConfig, FitConfig, HeadConfig, ModelConfig, Recipe
from misgiving.trainer.data import PoseSet, Sample
from misgiving.trainer.data.synthetic import open_synthetic
from misgiving.trainer.heatmaps import SIGNALS
from misgiving.trainer.net_config import (
    DeepposeConfig,
    EdgeConfig,
    HourglassConfig,
    HrnetConfig,
    LiteConfig,
    ResnetConfig,
    TompsonConfig,
)
from misgiving.trainer.training import Compute, train
from shared.once import made_once

JOINTS = len(LSP)
CPU = Compute(device="cpu", threads=1)

CONV_KL = HeadConfig(kind="conv", objective="kl")
GAP_MARGIN = HeadConfig(kind="gap", objective="margin")
STILL = AugmentConfig(rotation_deg=0.0, scale=0.0, shift=0.0, flip=0.0, colour=0.0)
TINY_MODEL = ModelConfig(
    input_size=32,
    net=HourglassConfig(stacks=1, channels=16, depth=2, stride=2),
    heads=(CONV_KL, GAP_MARGIN),
)
NETS = {
    "hourglass": TINY_MODEL,
    "hrnet": replace(TINY_MODEL, input_size=64, net=HrnetConfig(width=4, modules=(1, 1, 1))),
    # with plain blocks, and with bottlenecks
    "resnet": replace(TINY_MODEL, input_size=64, net=ResnetConfig(layers=18, width=4)),
    "resnet-50": replace(TINY_MODEL, input_size=64, net=ResnetConfig(layers=50, width=4)),
    "edge": replace(TINY_MODEL, input_size=64, net=EdgeConfig(width=8)),
    "lite": replace(TINY_MODEL, input_size=64, net=LiteConfig(width=32, pretrained=None)),
    "deeppose": replace(
        TINY_MODEL, input_size=64, net=DeepposeConfig(layers=18, width=4, sigma=1.0)
    ),
    "tompson": replace(TINY_MODEL, input_size=64, net=TompsonConfig(width=4, reach=6)),
}
"""Every pose net, tiny."""
TINY = Recipe(
    name="tiny",
    model=TINY_MODEL,
    fit=FitConfig(
        epochs=2, continued_epochs=1, batch_size=8, learning_rate=3e-3, sigma=1.0, seed=5
    ),
)
TRAINING_SPEC = "synthetic:1,48,0-0.5"


@cache
def people(seed: int, count: int, low: float = 0.0, high: float = 0.5) -> PoseSet:
    """Synthetic people, each rendered once in a test session."""
    data = open_synthetic(seed, count, (low, high))
    return PoseSet(data.spec, data.keypoints, data.ids, cache(data.read))


def tiny_checkpoint(root: Path) -> Path:
    """A checkpoint of TINY, trained once below a run's temporary folder."""
    return made_once(
        root / "tiny" / "checkpoint",
        lambda folder: train(TINY, people(1, 48), people(2, 8), folder, CPU),
    )


def real_data(name: str) -> Path:
    """The folder of a real data set; skips the test where there is none."""
    root = os.environ.get("MISGIVING_DATA")
    if not root:
        pytest.skip("MISGIVING_DATA is not set; it names the folder with lsp/ and lspet/")
    folder = Path(root) / name
    if not folder.is_dir():
        pytest.skip(f"MISGIVING_DATA has no {name}/")
    return folder


def pose_set(samples: Sequence[Sample], spec: str = "made") -> PoseSet:
    """Samples as a set."""
    kept = tuple(samples)
    return PoseSet(spec, LSP, tuple(sample.id for sample in kept), lambda index: kept[index])


def standing(left: float = 40.0, top: float = 20.0, height: float = 150.0) -> NDArray[np.float32]:
    """The 14 joints of somebody who stands upright, image px, (14, 2)."""
    x = (0.3, 0.32, 0.35, 0.6, 0.63, 0.65, 0.05, 0.1, 0.25, 0.7, 0.85, 0.9, 0.48, 0.47)
    y = (0.98, 0.75, 0.52, 0.52, 0.74, 0.97, 0.55, 0.37, 0.2, 0.2, 0.36, 0.54, 0.15, 0.02)
    share = np.stack([np.array(x) * 0.5, np.array(y)], axis=-1)
    return (share * height + [left, top]).astype(np.float32)


def scores_of(
    predicted: Sequence[float],
    true_loss: Sequence[float] | None = None,
    moved_px: Sequence[float] | None = None,
) -> Scores:
    """Scores of people who stand; person i's joints are predicted ``moved_px[i]`` too far right."""
    count = len(predicted)
    true_points = np.repeat(standing()[None], count, axis=0)
    shift = np.zeros((count, 1, 2))
    shift[:, 0, 0] = moved_px if moved_px is not None else 0.0
    # Every score is a distinct number, so that a mixed-up column shows.
    signals = np.arange(count)[:, None] + np.arange(len(SIGNALS))[None] / 10
    return Scores(
        ids=tuple(f"person/{i}" for i in range(count)),
        keypoints=LSP,
        points=true_points + shift,
        confidence=np.ones((count, JOINTS)),
        predicted_losses={"conv-kl": np.array(predicted, float), "gap-margin": np.zeros(count)},
        keypoint_loss=np.zeros((count, 0)),
        signals=signals,
        embedding=np.zeros((count, 4)),
        true_points=true_points,
        labelled=np.ones((count, JOINTS), bool),
        true_loss=np.array(true_loss if true_loss is not None else predicted, float),
    )
