"""How good the bundle is that ships with the package, and when to believe its score.

Run: python benchmarks/default_bundle.py DATA > benchmarks/default_bundle_cpu_<yyyymm>.md
DATA holds lsp/ and lspet/. Ten minutes on a core. How the bundle was made stands in its model card,
runtime/misgiving/runtime/bundles/MODEL_CARD.md.
"""

import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
from nobody_there import KINDS, asked_elsewhere, scenes
from numpy.typing import NDArray

from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Region
from misgiving.trainer.data import PoseSet, Sample, open_data
from misgiving.trainer.evaluation.bundle import LEARNED, Evaluation, evaluate
from misgiving.trainer.evaluation.output import lines
from misgiving.trainer.measures.metrics import person_pck

REPORTS = {"LSPET": "lspet:{}/lspet#9001-10000", "LSP test": "lsp:{}/lsp#1001-2000"}
THRESHOLDS = ("likely", "flag_rate=0.1", "miss_rate=0.05")
SCENES = 500

Image = NDArray[np.uint8]


def blurred(image: Image, side: float, rng: np.random.Generator) -> Image:
    """By a Gaussian of 2 % of the person's size."""
    return np.asarray(cv2.GaussianBlur(image, None, 0.02 * side), np.uint8)


def dark(image: Image, side: float, rng: np.random.Generator) -> Image:
    """An eighth of the light, as a camera rounds it."""
    return image // 8


def noisy(image: Image, side: float, rng: np.random.Generator) -> Image:
    """Gaussian noise of a standard deviation of 40."""
    return np.clip(image + rng.normal(0, 40, image.shape), 0, 255).astype(np.uint8)


def compressed(image: Image, side: float, rng: np.random.Generator) -> Image:
    """JPEG at quality 5."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 5])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


CORRUPTIONS: dict[str, Callable[[Image, float, np.random.Generator], Image]] = {
    "blurred": blurred,
    "dark": dark,
    "noisy": noisy,
    "compressed": compressed,
}


def corrupted(data: PoseSet, how: Callable[[Image, float, np.random.Generator], Image]) -> PoseSet:
    """The same persons in worse pictures."""

    def read(index: int) -> Sample:
        sample = data[index]
        box = Region.around(sample.points[sample.labelled])
        side = max(box.width, box.height)
        return replace(sample, image=how(sample.image, side, np.random.default_rng(index)))

    return replace(data, read=read)


def half_covered(data: PoseSet) -> PoseSet:
    """A grey board hides a half of the person's box."""

    def read(index: int) -> Sample:
        sample, rng = data[index], np.random.default_rng(index)
        box, (height, width) = Region.around(sample.points[sample.labelled]), sample.image.shape[:2]
        x, y = (np.arange(size) + 0.5 for size in (width, height))
        across, along = (x - box.x) / box.width, (y - box.y) / box.height
        far = rng.integers(2)
        hides_x = ((across > 0.5) == far) if rng.integers(2) else np.ones(width, bool)
        hides_y = ((along > 0.5) == far) if hides_x.all() else np.ones(height, bool)
        within = ((across > 0) & (across < 1) & hides_x) & ((along > 0) & (along < 1) & hides_y)[
            :, None
        ]
        return replace(sample, image=np.where(within[..., None], np.uint8(128), sample.image))

    return replace(data, read=read)


def lying(data: PoseSet) -> PoseSet:
    """Everybody turned by a quarter, as by a camera that was mounted so."""

    def read(index: int) -> Sample:
        sample = data[index]
        turned = np.ascontiguousarray(np.rot90(sample.image, -1))
        x, y = sample.points[:, 0], sample.points[:, 1]
        return replace(sample, image=turned, points=np.stack([len(sample.image) - y, x], 1))

    return replace(data, read=read)


def main(data: Path) -> None:
    """Print the page."""
    estimator = Estimator.load(threads=1)
    manifest = estimator.bundle.manifest
    print(
        f"""# The bundle that ships

`python benchmarks/default_bundle.py DATA`, {time.strftime("%Y-%m-%d")}, {platform.machine()},
CPython {platform.python_version()}, onnxruntime {metadata.version("onnxruntime")}.
`{manifest.name}`, digest {estimator.bundle.digest[:12]}, on data that neither trained nor
calibrated it: what `misgiving evaluate` says, then the same persons in other circumstances. One
seed, one training: [five seeds](learned_score_cpu_202611.md) say how the learned score compares
with the free ones. {", ".join(THRESHOLDS)} are the bundle's thresholds, the first one its default,
set on `{manifest.provenance.validation_data}`."""
    )
    for title, spec in REPORTS.items():
        for part in section(title, open_data(spec.format(data)), estimator):
            print(part, flush=True)


def section(title: str, own: PoseSet, estimator: Estimator) -> Iterator[str]:
    """One report set: as it is, then worse and worse."""
    plain = evaluate(estimator, own)
    yield f"\n## {title}\n\n```text\n" + "\n".join(lines(plain)) + "\n```\n"
    yield f"| {title} | persons | PCK@0.2 | failed | AUROC learned | mean peak | {_heads()} |"
    yield "|---|" + "---:|" * (5 + 2 * len(THRESHOLDS))
    yield row("as it is", plain)
    for name, how in CORRUPTIONS.items():
        yield row(name, evaluate(estimator, corrupted(own, how)))
    yield row("half covered", evaluate(estimator, half_covered(own)))
    yield row("turned by 90°", evaluate(estimator, lying(own)))
    for name, where in KINDS.items():
        yield row(f"region {name}", evaluate(estimator, asked_elsewhere(own, where)))
    yield row("region without a person, procedural", evaluate(estimator, scenes(SCENES)))


def _heads() -> str:
    return " | ".join(f"{name}: flagged | failures missed" for name in THRESHOLDS)


def row(name: str, evaluation: Evaluation) -> str:
    """One circumstance; its AUROC is among its own persons."""
    report, bundle = evaluation.failures, evaluation.bundle
    shares = person_pck(evaluation.found)
    known = np.isfinite(shares)
    failed = shares[known] < bundle.manifest.failure.below
    loss = evaluation.persons.predicted_loss[known]
    cells: list[object] = [int(known.sum()), f"{report.pck.value:.3f}", f"{failed.mean():.3f}"]
    cells += [f"{report.row(one).auroc.value:.3f}" for one in (LEARNED, "-mean_peak")]
    for threshold in THRESHOLDS:
        flagged = loss >= bundle.threshold(threshold)
        cells += [f"{flagged.mean():.3f}", f"{1 - flagged[failed].mean():.3f}"]
    return f"| {name} | " + " | ".join(str(cell).replace("nan", "–") for cell in cells) + " |"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
