"""What a kept frame costs: bytes and time of its coding, what JPEG moves, and what redaction takes.

Run: python benchmarks/kept_coding.py DATA > benchmarks/kept_coding_cpu_<yyyymm>.md
DATA holds lsp/. Three minutes on a core.
"""

import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import Estimator, KeptFrame, Region, make_frame
from misgiving.runtime.images import decode, encode_jpeg, encode_png
from misgiving.runtime.keypoints import LSP
from misgiving.runtime.privacy.keeping import Keeping
from misgiving.runtime.privacy.policy import PrivacyPolicy
from misgiving.runtime.wire.collected import to_message
from misgiving.trainer.data import Sample, open_data

SPEC = "lsp:{}/lsp#1001-2000"
QUALITIES = (75, 85, 92, 97)
FRAME = (720, 1280)
REPEATS = 30
POLICIES = {
    "nothing": PrivacyPolicy(),
    "`crop`": PrivacyPolicy(crop=True),
    "`blur_heads`": PrivacyPolicy(blur_heads=True),
    "both": PrivacyPolicy(crop=True, blur_heads=True),
}

Image = NDArray[np.uint8]


def region_of(sample: Sample) -> Region:
    return Region.around(sample.points[sample.labelled])


def moved(estimator: Estimator, sample: Sample, image: Image) -> NDArray[np.floating]:
    """How far each joint is from where the raw image has it, in torso sizes, (K,)."""
    regions = [region_of(sample)]
    (raw,), (coded,) = (estimator.infer(one, regions).persons for one in (sample.image, image))
    apart = np.linalg.norm(raw.keypoints[:, :2] - coded.keypoints[:, :2], axis=1)
    return apart / LSP.torso_size(sample.points, sample.labelled)


def codings(data: Path) -> None:
    """A row for each way to code the pictures of LSP, which were JPEGs before."""
    estimator = Estimator.load()
    samples = [sample for sample in (open_data(SPEC.format(data))[i] for i in range(1000))]
    raw = sum(sample.image.nbytes for sample in samples) / len(samples)
    print(f"| raw | {raw / 1e3:.1f} | – | – | – |")
    pngs = sum(len(encode_png(sample.image)) for sample in samples) / len(samples)
    print(f"| PNG | {pngs / 1e3:.1f} | 0 | 0 | 0 |")
    for quality in QUALITIES:
        bodies = [encode_jpeg(sample.image, quality) for sample in samples]
        shift = np.concatenate(
            [
                moved(estimator, sample, decode(body))
                for sample, body in zip(samples, bodies, strict=True)
            ]
        )
        shift = shift[np.isfinite(shift)]
        size = np.mean([len(body) for body in bodies])
        half, most = np.quantile(shift, [0.5, 0.99])
        print(
            f"| JPEG {quality} | {size / 1e3:.1f} | {half:.4f} | {most:.3f} "
            f"| {(shift > 0.2).mean():.4f} |"
        )


def milliseconds(work: Callable[[], object]) -> str:
    """The median of some runs, in time of one core."""
    taken = []
    for _ in range(REPEATS):
        began = time.thread_time()
        work()
        taken.append(time.thread_time() - began)
    return f"{1e3 * np.median(taken):.1f}"


def costs(data: Path) -> None:
    """A row for each policy: a raw frame of a photograph, with one person in a third of it."""
    cv2.setNumThreads(1)
    estimator = Estimator.load()
    sample, (height, width) = open_data(SPEC.format(data))[0], FRAME
    image = np.asarray(cv2.resize(sample.image, (width, height)), np.uint8)
    region = Region(width / 3, height / 6, width / 3, height * 2 / 3)
    answer = estimator.infer(image, [region])
    manifest = estimator.bundle.manifest
    for name, policy in POLICIES.items():
        cells = []
        for quality in (0, 92):
            kept = KeptFrame(
                make_frame(image),
                answer.persons,
                answer.bundle_digest,
                keypoint_names=tuple(manifest.keypoints.names),
                finish=Keeping(policy, quality).finishing(manifest.crop),
            )
            size = to_message(kept).ByteSize() / 1e3
            cells += [milliseconds(lambda kept=kept: to_message(kept)), f"{size:.0f}"]
        print(f"| {name} | {' | '.join(cells)} |")


def main(data: Path) -> None:
    """Measure and print the page."""
    manifest = Estimator.load().bundle.manifest
    print(
        f"""# What a kept frame costs, CPU

`python benchmarks/kept_coding.py DATA`, {time.strftime("%Y-%m-%d")}, {platform.machine()},
{os.cpu_count()} cores, CPython {platform.python_version()}, OpenCV {cv2.__version__};
{manifest.name} {manifest.version}. No seed: nothing is drawn.

## Bytes, and what JPEG moves

LSP 1001-2000, decoded, and answered again after each coding in the labelled person's box. The data
set's pictures were JPEGs before; im1001 has the tables of quality 75, on which 75 falls again.
Distances in sizes of the torso.

| coding | kB a frame | median distance of a joint | 99 % below | share beyond 0.2 |
|---|---:|---:|---:|---:|"""
    )
    codings(data)
    print(
        f"""
## Time

From the decision to the bytes that the spool stores, in the spool's thread: a raw frame of
{FRAME[1]} × {FRAME[0]} px with one person in two ninths of it, enlarged from LSP's im1001.
Time of one core, medians of {REPEATS}.

| redaction | PNG, ms | kB | JPEG 92, ms | kB |
|---|---:|---:|---:|---:|"""
    )
    costs(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
