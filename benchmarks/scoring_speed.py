"""What reading costs a scoring: images/s from JPEG files against the bare forward pass.

The network has one thread and reading another. Bare is the same network on the same batches, cut
and in memory. Once in torch, as ``score`` of ``misgiving.trainer`` does it, with an untrained
network of the CPU recipe (speed does not depend on weights); once as ``misgiving score`` does it,
with the bundle that ships and into a Parquet file.

Run: python benchmarks/scoring_speed.py DATA > benchmarks/scoring_speed_cpu_<yyyymm>.md
DATA holds lsp/ and lspet/. Wants two idle cores.
"""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import CropRule
from misgiving.trainer.answers.reading import AHEAD, BATCH, batches
from misgiving.trainer.answers.scoring import score
from misgiving.trainer.data import PoseSet, join, open_data
from misgiving.trainer.models import Network
from misgiving.trainer.pool.pool_scores import score_pool
from misgiving.trainer.recipes import recipe_named
from misgiving.trainer.training import Compute

SPECS = ("lsp:{}/lsp#1-1000", "lspet:{}/lspet#1-1048")
ROUNDS = 5
RECIPE = recipe_named("cpu")

Ways = dict[str, tuple[Callable[[], object], Callable[[], object]]]
"""By name: the bare pass over all persons, and the scoring of all from their files."""


def main(data: Path) -> None:
    """Measure in interleaved rounds, so that a busy machine is busy for all, and print."""
    device = Compute(device="cpu", threads=1).prepare()
    pool = join([open_data(spec.format(data)) for spec in SPECS])
    before = os.getloadavg()
    with TemporaryDirectory() as folder:
        ways = {**_torch(pool, device), **_bundle(pool, Path(folder))}
        seconds = {name: np.empty((ROUNDS, 2)) for name in ways}
        for number in range(-1, ROUNDS):  # the first warms up, and brings the files into memory
            for name, calls in ways.items():
                taken = [_timed(call) for call in calls]
                if number >= 0:
                    seconds[name][number] = taken
    print("\n".join(_page(len(pool), seconds, before)))


def _torch(pool: PoseSet, device: torch.device) -> Ways:
    torch.manual_seed(0)
    network = Network(RECIPE.model, pool.keypoints).eval()
    cut = [torch.from_numpy(crops) for crops in _crops(pool, RECIPE.model.crop)]
    images = [crops.permute(0, 3, 1, 2).float() for crops in cut]

    @torch.no_grad()
    def bare() -> None:
        for batch in images:
            network(batch)

    return {"torch, `score`": (bare, lambda: score(network, RECIPE, pool, device))}


def _bundle(pool: PoseSet, folder: Path) -> Ways:
    estimator = Estimator.load(threads=1)
    crops = list(_crops(pool, estimator.bundle.manifest.crop))

    def bare() -> None:
        for batch in crops:
            estimator.engine.infer(batch)

    def scored() -> None:
        out = folder / "scores.parquet"
        score_pool(estimator, pool, out)
        out.unlink()

    return {"bundle, `misgiving score`": (bare, scored)}


def _crops(pool: PoseSet, rule: CropRule) -> Iterator[NDArray[np.uint8]]:
    """(B, H, W, 3) a batch."""
    samples = (pool[index] for index in range(len(pool)))
    for persons in batches(samples, rule, BATCH):
        yield np.stack([person.crop for person in persons])


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _page(
    count: int, seconds: dict[str, NDArray[np.float64]], before: tuple[float, float, float]
) -> Iterator[str]:
    bundle = Estimator.load(threads=1).bundle.manifest
    specs = " + ".join(spec.format("DATA") for spec in SPECS)
    yield f"""# Scoring speed

`python benchmarks/scoring_speed.py DATA`, {time.strftime("%Y-%m-%d")}, {platform.machine()},
{os.cpu_count()} cores, CPython {platform.python_version()}, torch {metadata.version("torch")},
onnxruntime {metadata.version("onnxruntime")}, opencv
{metadata.version("opencv-python-headless")}. {count} persons of `{specs}`, a JPEG each, in the page
cache. Batches of {BATCH}, the network on one thread, one thread that reads at most {AHEAD} persons
ahead; in torch another reads out the heatmaps of the batch before.
{ROUNDS} interleaved rounds after one to warm up; medians. The ratio is of one round: bare
seconds over seconds from files; in brackets the lowest and the highest. Load average of the machine
before and after: {before[0]:.1f} and {os.getloadavg()[0]:.1f}, of which this script is one to two.

Torch: {RECIPE.model}, untrained; `score` gives keypoints, losses, free scores, embedding and the
true loss. Bundle: `{bundle.name} {bundle.version}`, input {bundle.crop.height} ×
{bundle.crop.width}, whose graph holds decoding and free scores; into a Parquet file.

| | bare forward pass, images/s | from JPEG files, images/s | ratio |
|---|---:|---:|---:|"""
    for name, taken in seconds.items():
        bare, whole = np.median(count / taken, axis=0)
        ratio = taken[:, 0] / taken[:, 1]
        spread = f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
        yield f"| {name} | {bare:.0f} | {whole:.0f} | {spread} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
