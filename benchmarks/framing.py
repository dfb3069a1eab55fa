"""What closer looks at a whole frame find that the first look does not.

Run: python benchmarks/framing.py DATA [BUNDLE] > benchmarks/framing_cpu_<yyyymm>.md
DATA holds lsp/ and lspet/; without BUNDLE the one in the package answers. Five minutes on a core.
"""

import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.answer.answerer import Model, answer
from misgiving.runtime.engines.base import Engine, Prediction, Provider
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Region
from misgiving.runtime.nouns import Person, make_frame
from misgiving.trainer.data import PoseSet, Sample, open_data
from misgiving.trainer.data.rendering.scenery import backdrop, photograph
from misgiving.trainer.measures.bootstrap import Estimate, estimates
from misgiving.trainer.measures.metrics import auroc, hits, person_pck, weighted_pck

REPORTS = {"LSPET": "lspet:{}/lspet#9001-10000", "LSP test": "lsp:{}/lsp#1001-2000"}
STRIPS = "lspet:{}/lspet#8001-9000"
PERSONS = 250
"""Of each set, evenly spread over those who are labelled completely."""
FILLS = (0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
FRAMES = {"square frames, 480 × 480": (480, 480), "wide frames, 854 × 480": (480, 854)}
OWN_BELOW = (480, 480)
"""Below which table the data set's own pictures stand."""
SCENE_PX = 240
FEATHER = 0.06
"""Of the pasted picture's side."""
STRIP_PX = 16

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]


class Counting:
    """An engine that counts the crops it answers."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.crops = engine, 0

    @property
    def provider(self) -> Provider:
        return self.engine.provider

    @property
    def max_batch(self) -> int:
        return self.engine.max_batch

    def infer(self, images: Image) -> Prediction:
        self.crops += len(images)
        return self.engine.infer(images)


@dataclass
class Answers:
    """What one way of asking says of N frames."""

    points: list[Floats] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    doubts: list[float] = field(default_factory=list)
    """Probabilities of failure, as the bundle has them."""

    def take(self, person: Person) -> None:
        known = person.failure_probability
        self.points.append(person.keypoints[:, :2])
        self.losses.append(person.predicted_loss)
        self.doubts.append(np.nan if known is None else known)


@dataclass
class Fill:
    """N frames of one size in which the persons fill the same share."""

    names: list[str] = field(default_factory=list)
    true: list[Floats] = field(default_factory=list)
    first: Answers = field(default_factory=Answers)
    kept: Answers = field(default_factory=Answers)
    boxed: Answers = field(default_factory=Answers)
    passes: list[int] = field(default_factory=list)
    """Crops that the kept answer took."""

    def __add__(self, other: "Fill") -> "Fill":
        def both(one: Answers, two: Answers) -> Answers:
            points, losses = one.points + two.points, one.losses + two.losses
            return Answers(points, losses, one.doubts + two.doubts)

        return Fill(
            self.names + other.names,
            self.true + other.true,
            both(self.first, other.first),
            both(self.kept, other.kept),
            both(self.boxed, other.boxed),
            self.passes + other.passes,
        )


def composed(
    sample: Sample, scene: Image, fill: float, rng: np.random.Generator
) -> tuple[Image, Floats]:
    """A person's picture pasted into a scene, and the joints there, (K, 2).

    The box of the joints lies at a random place and fills a share of the frame's height, or of
    its width where that is more. What leaves the frame is cut off.
    """
    size, box = np.array(scene.shape[1::-1]), Region.around(sample.points)
    extent = np.array([box.width, box.height])
    scale = fill * (size / extent).min()
    wanted = np.maximum(np.rint(np.array(sample.image.shape[1::-1]) * scale), 1).astype(int)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    patch = cv2.resize(sample.image, tuple(wanted.tolist()), interpolation=method)
    place = rng.random(2) * (size - scale * extent) - scale * np.array([box.x, box.y])
    shift = np.rint(place).astype(int)
    points = sample.points * (wanted / sample.image.shape[1::-1]) + shift
    return _pasted(patch, scene, shift), points


def _pasted(patch: Image, scene: Image, shift: NDArray[np.int_]) -> Image:
    high = np.minimum(shift + patch.shape[1::-1], scene.shape[1::-1])
    low = np.maximum(shift, 0)
    there = tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))
    here = tuple(
        slice(a, b) for a, b in zip((low - shift)[::-1], (high - shift)[::-1], strict=True)
    )
    share = np.outer(_ramp(patch.shape[0]), _ramp(patch.shape[1]))[here][..., None]
    frame = scene.astype(np.float32)
    frame[there] = share * patch[here] + (1 - share) * frame[there]
    return np.rint(frame).astype(np.uint8)


def _ramp(side: int) -> Floats:
    edge = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5)
    return np.clip(edge / (FEATHER * side), 0, 1)


def enlarged_strip(data: PoseSet, shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """A strip beside the labelled person of a random image, stretched to a whole frame."""
    while True:
        sample = data[int(rng.integers(len(data)))]
        strip = max(_strips(sample), key=lambda part: part.shape[0] * part.shape[1])
        if min(strip.shape[:2]) >= STRIP_PX:
            enlarged = cv2.resize(strip, shape[::-1], interpolation=cv2.INTER_CUBIC)
            return np.asarray(enlarged, np.uint8)


def _strips(sample: Sample) -> list[Image]:
    """Left of, right of, above and below the joints, a quarter of their box away."""
    box, image = Region.around(sample.points[sample.labelled]), sample.image
    left, right = box.x - box.width / 4, box.x + 1.25 * box.width
    top, bottom = box.y - box.height / 4, box.y + 1.25 * box.height
    return [
        image[:, : max(0, int(left))],
        image[:, max(0, int(right)) :],
        image[: max(0, int(top))],
        image[max(0, int(bottom)) :],
    ]


def rendered(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """A procedural scene without a person."""
    difficulty = rng.random()
    scene = np.moveaxis(backdrop(rng, difficulty, SCENE_PX).astype(np.float32), 2, 0)
    picture = photograph(rng, np.ascontiguousarray(scene), difficulty)
    return np.asarray(cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def persons_of(data: PoseSet) -> list[Sample]:
    assert data.labelled is not None
    whole = np.flatnonzero(data.labelled.all(axis=1))
    chosen = whole[np.linspace(0, len(whole) - 1, min(PERSONS, len(whole))).astype(int)]
    return [data[int(index)] for index in chosen]


Frame = tuple[str, Image, Floats]
"""A person's name, the frame, and the joints in it, (K, 2)."""


def frames_of(
    persons: Sequence[Sample], strips: PoseSet, shape: tuple[int, int], fill: float
) -> Iterator[Frame]:
    """Each person in a frame of that shape, (height, width)."""
    for index, sample in enumerate(persons):
        rng = np.random.default_rng([index, round(100 * fill), *shape])
        scene = enlarged_strip(strips, shape, rng) if index % 2 else rendered(shape, rng)
        yield sample.id, *composed(sample, scene, fill, rng)


def asked(estimator: Estimator, frames: Iterable[Frame]) -> Fill:
    """Ask about each frame: once, with closer looks, and with the true box."""
    engine = Counting(estimator.engine)
    model = Model(estimator.bundle, engine)
    found = Fill()
    for name, image, points in frames:
        frame, before = make_frame(image), engine.crops
        found.kept.take(answer(model, frame).persons[0])
        found.passes.append(engine.crops - before)
        found.first.take(answer(model, frame, rounds=0).persons[0])
        boxed = make_frame(image, [Region.around(points)])
        found.boxed.take(answer(model, boxed).persons[0])
        found.names.append(name)
        found.true.append(points)
    return found


def row(name: str, fill: Fill, estimator: Estimator) -> tuple[str, Estimate]:
    """A line of the table, and what closer looks add to PCK."""
    manifest = estimator.bundle.manifest
    ways = {"first": fill.first, "kept": fill.kept, "boxed": fill.boxed}
    true, labelled = np.stack(fill.true), np.ones(np.shape(fill.true)[:2], bool)
    found = {
        way: hits(np.stack(answers.points), true, labelled, manifest.keypoints)
        for way, answers in ways.items()
    }
    pck = estimates(
        lambda weights: {way: weighted_pck(one, weights) for way, one in found.items()}, fill.names
    )
    gain = pck["kept"] - pck["first"]
    failed = {way: person_pck(one) < manifest.failure.below for way, one in found.items()}
    passes = np.array(fill.passes)
    cells = [
        *(f"{pck[way].value:.3f}" for way in ("first", "kept")),
        _signed(gain),
        f"{pck['boxed'].value:.3f}",
        *(f"{auroc(np.array(ways[way].losses), failed[way]):.3f}" for way in ways),
        f"{failed['kept'].mean():.2f}",
        f"{np.mean(fill.kept.doubts):.2f}",
        f"{100 * (passes > 1).mean():.0f} %",
        f"{passes.mean():.1f}",
    ]
    return f"| {name} | {len(passes)} | " + " | ".join(cells).replace("nan", "–") + " |", gain


def _fill(sample: Sample) -> float:
    box, (height, width) = Region.around(sample.points), sample.image.shape[:2]
    return max(box.height / height, box.width / width)


def _signed(difference: Estimate) -> str:
    low, high = difference.interval
    return f"{difference.value:+.3f} [{low:+.3f} {high:+.3f}]"


def section(
    title: str, persons: Sequence[Sample], strips: PoseSet, estimator: Estimator
) -> Iterator[str]:
    for size, shape in FRAMES.items():
        yield f"\n## {title}, {size}\n"
        yield (
            "| fill | frames | PCK first look | with closer looks | difference | true box "
            "| AUROC first look | with closer looks | true box | failed | said | asked | passes |"
        )
        yield "|---|" + "---:|" * 12
        every, gains = Fill(), {}
        for fill in FILLS:
            frames, name = frames_of(persons, strips, shape, fill), f"{100 * fill:.0f} %"
            found = asked(estimator, frames)
            every += found
            line, gains[name] = row(name, found, estimator)
            yield line
        yield row("all", every, estimator)[0]
        if shape == OWN_BELOW:
            own = [(sample.id, sample.image, sample.points) for sample in persons]
            share = np.mean([_fill(sample) for sample in persons])
            yield row(f"own picture, {100 * share:.0f} %", asked(estimator, own), estimator)[0]
        level = [
            name for name, gain in gains.items() if min(gain.interval) <= 0 <= max(gain.interval)
        ]
        worse = [name for name, gain in gains.items() if max(gain.interval) < 0]
        yield (
            f"\nThe difference's interval holds zero at: {', '.join(level) or 'no fill'}. "
            f"Worse at: {', '.join(worse) or 'no fill'}."
        )


def main(data: Path, bundle: Path | None) -> None:
    """Print the page."""
    estimator = Estimator.load(bundle, threads=1)
    manifest, origin = estimator.bundle.manifest, estimator.bundle.manifest.provenance
    given = "DATA BUNDLE" if bundle else "DATA"
    print(
        f"""# Closer looks at a whole frame, CPU

`python benchmarks/framing.py {given}`, {time.strftime("%Y-%m-%d")}, {platform.machine()},
{os.cpu_count()} cores, CPython {platform.python_version()}, onnxruntime \
{metadata.version("onnxruntime")}, OpenCV {cv2.__version__}. Bundle `{manifest.name}` \
{manifest.version}, digest {estimator.bundle.digest[:12]}, recipe {origin.recipe}, \
{manifest.crop.height} px, trained on {" + ".join(dict.fromkeys(origin.training_data))}.

No region is given. **The frames are composed**: each person's picture is scaled and pasted with a
feathered edge at a seeded random place of a person-free scene, half of them procedural, half strips
of other LSPET images stretched to a frame, so that the box of the joints fills that share of the
frame's height (of its width, where that is more). Pasting leaves a visible edge around the person,
which real frames do not have. {PERSONS} persons of a set, of those with all joints labelled. What
asks and where it looks next was chosen on persons of LSPET 8001–9000 in such frames; nobody below
was looked at for it.

- PCK: at 0.2, means over the joints; difference: with a 95 % interval over resampled persons.
- Own picture: the person's picture as the data set has it, nothing pasted; with the mean fill.
- True box: with the joints' box as the region, what a person detector without fault would give.
- AUROC: of the predicted loss, for failures of each way's own answers: {manifest.failure}.
  All fills together, it also tells small persons from large ones.
- Failed: share of the answers with closer looks; said: their mean failure probability. It was
  fitted on persons with their own boxes, and the luckiest of several looks is kept.
- Asked: frames that got a closer look. Passes: crops answered a frame, the first look included."""
    )
    strips = open_data(STRIPS.format(data))
    for title, spec in REPORTS.items():
        persons = persons_of(open_data(spec.format(data)))
        for part in section(title, persons, strips, estimator):
            print(part, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
