"""Our bundle beside MediaPipe's BlazePose on the same pictures: joints, failures found, time.

Run: nice python benchmarks/against_others.py DATA --env ENV --answers FILE [--bundle DIR]
> benchmarks/against_others_cpu_<yyyymm>.md
DATA holds lsp/, lspet/, coco_ccby/ and mpii_sample/. ENV is a virtual environment for MediaPipe,
which is made where it lacks it (PyPI, half a GB, no system library). FILE (.npz) keeps what
BlazePose says, so that another bundle is compared in minutes. All on one core.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple
from functools import partial
from importlib import metadata
from multiprocessing import Pipe
from pathlib import Path

import cv2
import numpy as np
from limbs import (
    ALWAYS,
    BLAZEPOSE,
    KINDS,
    LIMBS,
    OURS,
    Comparison,
    Said,
    Truth,
    compare,
    limb_places,
    of_landmarks,
    rows,
)
from numpy.typing import NDArray

from misgiving.runtime.bundles.manifest import Manifest
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import CropRule, Region, Window, window_of
from misgiving.runtime.nouns import Person
from misgiving.trainer.data import PoseSet, Sample, open_data
from misgiving.trainer.data.base import subset
from misgiving.trainer.data.spec import without_folders

PEER = Path(__file__).parent / "peers" / "blazepose.py"
MEDIAPIPE = "mediapipe==0.10.14"
NEEDS = (
    "protobuf>=4.25.3,<5",
    "numpy",
    "attrs",
    "absl-py",
    "flatbuffers",
    "matplotlib",
    "opencv-contrib-python-headless",
)
"""What its poses need of its requirements. The headless OpenCV needs no libGL; without jax and
sounddevice half of the disk is enough."""
HOME = {"LSP test": "lsp:{}/lsp#1001-2000", "LSPET, held out": "lspet:{}/lspet#9001-10000"}
OUTSIDE = {
    "Eleven pictures of COCO": "coco:{0}/coco_ccby/person_keypoints.json@{0}/coco_ccby/images",
    "Five pictures of MPII": "mpii:{0}/mpii_sample/test_mpii.json@{0}/mpii_sample",
}
WHOLE, BOXED = "whole picture", "true box"
HEADING = """\
| net | joints found ↑ | of those found | answered | failures | score | AUROC ↑ | of those found |
|---|---|---|---:|---:|---|---|---|
"""
TIMED, ROUNDS, WARM_UP = 100, 2, 10
CONFIDENCES = {BLAZEPOSE: 0.5, ALWAYS: 0.0}
"""From which on BlazePose takes a person for one; the first is its default."""

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]
Times = tuple[float, float]
"""Wall and CPU, s."""


class BlazePose:
    """The peer's process."""

    def __init__(self, python: Path) -> None:
        self._pipe, theirs = Pipe()
        command = [str(python), str(PEER), str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        self.version, self.names = self._pipe.recv()

    def __enter__(self) -> "BlazePose":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.wait()

    def ask(self, image: Image, confidence: float) -> tuple[Floats, Times]:
        """x, y in px and visibility of each of ``names``, (33, 3); NaN where nobody is found."""
        self._pipe.send((confidence, image.shape, image.tobytes()))
        rows, taken = self._pipe.recv()
        return np.full((len(self.names), 3), np.nan) if rows is None else np.array(rows), taken


def environment(folder: Path) -> Path:
    """The Python that has MediaPipe; ours cannot, as it wants an older protobuf."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    for what in (NEEDS, ("--no-deps", MEDIAPIPE)):
        subprocess.run([python, "-m", "pip", "install", "-q", *what], check=True, stdout=sys.stderr)
    return python


def with_torso(data: PoseSet) -> PoseSet:
    """Those whose torso is labelled: of the others no joint counts."""
    assert data.labelled is not None
    torso = sorted({joint for pair in LIMBS.torso for joint in pair})
    return subset(data, np.flatnonzero(data.labelled[:, torso].all(1)))


def region_of(sample: Sample, way: str) -> Region | None:
    return sample.region if way == BOXED else None


def window_shown(region: Region | None, image: Image, rule: CropRule) -> Window:
    """What BlazePose sees of a picture: of a region what ours sees, without the black outside."""
    height, width = image.shape[:2]
    if region is None:
        return Window(0, 0, width, height)
    ours = window_of(region, height, width, rule)
    left, top = max(ours.left, 0), max(ours.top, 0)
    right, bottom = min(ours.left + ours.width, width), min(ours.top + ours.height, height)
    return Window(left, top, right - left, bottom - top)


def shown(image: Image, window: Window) -> Image:
    """That window, in the picture's own resolution."""
    return image[window.top : window.top + window.height, window.left : window.left + window.width]


def ours(estimator: Estimator, data: PoseSet, way: str) -> tuple[Said, Truth, list[Window]]:
    """Ask as a user would, about a region or without one; and what BlazePose is to be shown."""
    manifest = estimator.bundle.manifest
    truths, persons, windows = [], [], []
    for index in range(len(data)):
        sample = data[index]
        region = region_of(sample, way)
        (person,) = estimator.infer(sample.image, [region] if region else []).persons
        persons.append(person)
        truths.append((str(sample.path or sample.id), sample.points, sample.labelled))
        windows.append(window_shown(region, sample.image, manifest.crop))
    images, points, labelled = zip(*truths, strict=True)
    return said(persons, manifest), Truth(images, np.stack(points), np.stack(labelled)), windows


def said(persons: Sequence[Person], manifest: Manifest) -> Said:
    """The limb joints of answers, by their names, and our two scores."""
    places = limb_places(manifest.keypoints.names)
    peak = [signal.name for signal in manifest.signals].index("mean_peak")
    return Said(
        np.stack([person.keypoints[places, :2] for person in persons]),
        {
            "predicted_loss": np.array([person.predicted_loss for person in persons]),
            "mean peak": -np.array([person.signals[peak] for person in persons]),
        },
    )


def landmarks(peer: BlazePose, data: PoseSet, windows: Sequence[Window], net: str) -> Floats:
    """What BlazePose says of each window, (N, 33, 3), in px of the window."""
    pictures = (shown(data[index].image, window) for index, window in enumerate(windows))
    return np.stack([peer.ask(picture, CONFIDENCES[net])[0] for picture in pictures])


def kept(file: Path, name: str, windows: Sequence[Window], make: Callable[[], Floats]) -> Floats:
    """The file's answers of that name where they are of the same windows, else made and filed."""
    places = np.array([astuple(window) for window in windows])
    filed = dict(np.load(file)) if file.exists() else {}
    if name not in filed or not np.array_equal(filed[f"{name}: windows"], places):
        filed |= {name: make(), f"{name}: windows": places}
        np.savez_compressed(file, **filed)
    return np.asarray(filed[name])


def timed(estimator: Estimator, peer: BlazePose, data: PoseSet) -> dict[tuple[str, str], Floats]:
    """Wall and CPU ms of each call, (ROUNDS × TIMED, 2), by way and net; all take turns."""
    chosen = np.linspace(0, len(data) - 1, TIMED).astype(int)
    samples = [data[int(index)] for index in chosen]
    taken: dict[tuple[str, str], list[Times]] = {}
    for sample in samples[:WARM_UP] + samples * ROUNDS:
        for way in (WHOLE, BOXED):
            mine, other = ask_both(estimator, peer, sample, region_of(sample, way))
            taken.setdefault((way, OURS), []).append(mine)
            taken.setdefault((way, BLAZEPOSE), []).append(other)
    return {key: 1e3 * np.array(each[WARM_UP:]) for key, each in taken.items()}


def ask_both(
    estimator: Estimator, peer: BlazePose, sample: Sample, region: Region | None
) -> tuple[Times, Times]:
    """What the answers of both took; ours cuts within it, for BlazePose that is free."""
    wall, cpu = time.perf_counter(), time.process_time()
    estimator.infer(sample.image, [region] if region else [])
    mine = time.perf_counter() - wall, time.process_time() - cpu
    window = window_shown(region, sample.image, estimator.bundle.manifest.crop)
    return mine, peer.ask(shown(sample.image, window), CONFIDENCES[BLAZEPOSE])[1]


def main() -> None:
    """Ask, measure and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--env", type=Path, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # BlazePose's threads inherit it
    cv2.setNumThreads(1)
    estimator = Estimator.load(given.bundle, threads=1)
    with BlazePose(environment(given.env)) as peer:
        for part in page(estimator, peer, given.data, given.answers):
            print(part, flush=True)


def page(estimator: Estimator, peer: BlazePose, data: Path, answers: Path) -> Iterator[str]:
    """The Markdown page."""
    yield header(estimator, peer)
    results = {}
    for title, spec in {**HOME, **OUTSIDE}.items():
        everybody = open_data(spec.format(data), LIMBS)
        persons = with_torso(everybody)
        for way in (WHOLE, BOXED) if title in HOME else (BOXED,):
            result = compared(estimator, peer, persons, way, answers)
            about = f"`{spec.format('DATA')}`, {len(everybody)} persons, of them"
            yield f"\n## {title}, {way}\n\n{about} {result.measured} with a labelled torso.\n"
            yield HEADING + "\n".join(rows(result))
            results[f"{title}, {way}"] = result
    yield "\n".join(joint_lines(results))
    yield time_section(timed(estimator, peer, open_data(HOME["LSP test"].format(data), LIMBS)))


def compared(
    estimator: Estimator, peer: BlazePose, data: PoseSet, way: str, answers: Path
) -> Comparison:
    """All nets on one data set, asked about in one way."""
    mine, truth, windows = ours(estimator, data, way)
    nets = {OURS: mine}
    for net in CONFIDENCES:
        name = f"{MEDIAPIPE}, {without_folders(data.spec)}, {way}, {net}"
        found = kept(answers, name, windows, partial(landmarks, peer, data, windows, net))
        nets[net] = of_landmarks(found, peer.names, windows)
    return compare(nets, truth)


def joint_lines(results: Mapping[str, Comparison]) -> Iterator[str]:
    """A table of the joints by what they are."""
    yield "\n## By joint\n\nShare found, both sides together.\n"
    yield f"| pictures | net | {' | '.join(KINDS)} |"
    yield f"|---|---|{'---:|' * len(KINDS)}"
    for title, result in results.items():
        for net, shares in result.by_kind.items():
            yield f"| {title} | {net} | {' | '.join(f'{share:.3f}' for share in shares)} |"


def header(estimator: Estimator, peer: BlazePose) -> str:
    """What was asked, and how it is counted."""
    manifest = estimator.bundle.manifest
    cpu = f"{platform.machine()}, CPython {platform.python_version()}"
    trained = " + ".join(dict.fromkeys(manifest.provenance.training_data))
    return f"""# Our bundle beside BlazePose, CPU

`nice python benchmarks/against_others.py DATA --env ENV --answers FILE`,
{time.strftime("%Y-%m-%d")}, {cpu}, onnxruntime {metadata.version("onnxruntime")}.
Ours: bundle `{manifest.name}` {manifest.version}, digest {estimator.bundle.digest[:12]}, fp32,
{manifest.crop.height} px, recipe {manifest.provenance.recipe}, trained on
{trained}.
{BLAZEPOSE}: mediapipe {peer.version}, `mp.solutions.pose`, static_image_mode, model_complexity 1.
{ALWAYS}: the same with min_detection_confidence and min_tracking_confidence 0.0 in place of 0.5.

- Whole picture: no region for anybody, each in its own way. BlazePose detects a person; ours
  answers the picture, and looks closer where its answer asks for that.
- True box: ours is given the box as its region. BlazePose has no such input, and is given the
  picture cut to what ours sees of it: the box padded {manifest.crop.padding} × and made square. It
  detects in that, and finds fewer persons than in whole pictures: the row favours ours.
- Joints found: PCK@0.2 of the twelve limb joints, matched by name; a fifth of the longer labelled
  torso diagonal. Labelled joints alone count, and persons whose torso is labelled. A person whom
  BlazePose does not find counts as all joints missed; ours answers always.
- Failure: less than half of a person's labelled limb joints found, each net's own failures. AUROC
  by its own score; not found is BlazePose's surest failure, and an easy one. `mp.solutions` gives
  visibilities, and leaves its presence empty.
- Of those found: the same over the persons whom BlazePose finds as it comes.
- [ ]: 95 % intervals over resampled pictures, the same for all nets, so that differences (ours
  less theirs) are paired. Best visibility: of the two the one with the higher AUROC on the very
  data of the cell, which is in BlazePose's favour. Bold: who is ahead, the interval has no zero.
- None of these pictures trained or calibrated our bundle, but LSP and LSPET are the family that
  trained it, and its joints are LSP's. BlazePose learnt other data, with shoulders and hips by its
  own convention. Nothing is corrected for that; [by joint](#by-joint) shows where it could matter.
  COCO's and MPII's pictures are too few to decide anything."""


def time_section(taken: Mapping[tuple[str, str], Floats]) -> str:
    """Medians of both."""
    lines = [
        f"| {way} | {net} | {np.median(each[:, 0]):.1f} | {np.median(each[:, 1]):.1f} | "
        f"{each[:, 1].mean():.1f} |"
        for (way, net), each in taken.items()
    ]
    return f"""
## Time

{TIMED} pictures of LSP test, evenly spread, {ROUNDS} interleaved rounds after {WARM_UP} pictures to
warm up. From RGB pixels to joints on one thread: ONNX Runtime has one, and all of MediaPipe's
threads share one core by affinity, as `mp.solutions` has no option for them. CPU: of all threads of
the process; the median of the clock on the wall suffers from whatever else the machine does.

| asked | net | median ms | median CPU ms | mean CPU ms |
|---|---|---:|---:|---:|
""" + "\n".join(lines)


if __name__ == "__main__":
    main()
