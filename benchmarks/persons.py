"""How many persons a detector finds, and what its boxes are worth to the pose net.

Run: python benchmarks/persons.py DATA DETECTOR.toml > benchmarks/persons_cpu_<yyyymm>.md
DATA holds coco_ccby/ and lsp/. Two minutes on a core.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import images
from misgiving.runtime.engines.onnx import PROVIDERS, open_session
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Region
from misgiving.runtime.nouns import Person
from misgiving.runtime.persons import following
from misgiving.runtime.persons.detector import Detector
from misgiving.runtime.persons.detector_toml import DetectorTable, parsed
from misgiving.trainer.data import PoseSet, Sample, open_data
from misgiving.trainer.measures.metrics import hits, pck

IOU = 0.5
SCORES = (0.3, 0.45, 0.6)
FOLLOWED = 100
"""Persons of LSP's test set, evenly spread."""
FRAMES = (0, 1, 5, 25)
GROWTHS = (1.0, 1.1, 1.25)

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Picture:
    """A picture and the boxes of everybody who is annotated in it, crowds left out."""

    image: NDArray[np.uint8]
    boxes: tuple[Region, ...]
    posed: tuple[bool, ...]
    """Who has labelled joints."""


def pictures(folder: Path) -> list[Picture]:
    said = json.loads((folder / "person_keypoints.json").read_text("utf-8"))
    found = []
    for one in said["images"]:
        people = [
            person
            for person in said["annotations"]
            if person["image_id"] == one["id"] and not person["iscrowd"]
        ]
        found.append(
            Picture(
                images.read(folder / "images" / one["file_name"]),
                tuple(Region(*person["bbox"]) for person in people),
                tuple(person["num_keypoints"] > 0 for person in people),
            )
        )
    return found


def overlap(a: Region, b: Region) -> float:
    """Intersection over union."""
    wide = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    high = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    shared = max(wide, 0.0) * max(high, 0.0)
    return shared / (a.width * a.height + b.width * b.height - shared)


def matched(true: Sequence[Region], found: Sequence[Region]) -> list[Region | None]:
    """The box that found each person, the surest box first, none for two."""
    at: list[Region | None] = [None] * len(true)
    for box in found:
        free = [i for i, taken in enumerate(at) if taken is None]
        best = max(free, key=lambda i: overlap(true[i], box), default=None)
        if best is not None and overlap(true[best], box) >= IOU:
            at[best] = box
    return at


def detector_at(table: DetectorTable, path: Path, **changed: float) -> Detector:
    """A detector with other ideas of who is a person."""
    session = open_session(path.parent / table.file, PROVIDERS["cpu"], 1)
    person = table.person.model_copy(update=changed)
    return Detector(table.model_copy(update={"person": person}), session, table.file)


def recall_rows(scenes: Sequence[Picture], table: DetectorTable, path: Path) -> Iterator[str]:
    yield "| score | all | with joints | higher than 96 px | boxes on nobody annotated |"
    yield "|---:|---:|---:|---:|---:|"
    for score in SCORES:
        detector = detector_at(table, path, score=score, most=64, smallest_px=1)
        hit: list[bool] = []
        posed: list[bool] = []
        large: list[bool] = []
        spare = 0
        for scene in scenes:
            found = detector.find(scene.image)
            at = matched(scene.boxes, found)
            hit += [one is not None for one in at]
            posed += scene.posed
            large += [box.height > 96 for box in scene.boxes]
            spare += len(found) - sum(one is not None for one in at)
        groups = (np.ones(len(hit), bool), np.array(posed), np.array(large))
        cells = " | ".join(_share(np.array(hit)[group]) for group in groups)
        yield f"| {score} | {cells} | {spare} |"


def _share(hit: NDArray[np.bool_]) -> str:
    return f"{hit.mean():.2f} ({hit.sum()} of {len(hit)})"


def by_picture(data: PoseSet) -> dict[str, list[Sample]]:
    """The persons of each picture."""
    groups: dict[str, list[Sample]] = {}
    for sample in (data[index] for index in range(len(data))):
        groups.setdefault(str(sample.path), []).append(sample)
    return groups


Asked = Callable[[Sequence[Sample]], list[Person | None]]
"""The answer to each person of one picture; None where there is none."""


def ways(estimator: Estimator, detector: Detector) -> dict[str, Asked]:
    def boxed(boxes: Callable[[Sample], Region | None]) -> Asked:
        return lambda people: [
            estimator.infer(one.image, [box]).persons[0] if (box := boxes(one)) else None
            for one in people
        ]

    def detected(people: Sequence[Sample]) -> list[Person | None]:
        answer = estimator.infer(people[0].image, detector.find(people[0].image))
        said = {person.region: person for person in answer.persons}
        true = [one.region or Region(0, 0, 1, 1) for one in people]
        return [said[box] if box else None for box in matched(true, list(said))]

    def whole(people: Sequence[Sample]) -> list[Person | None]:
        (person,) = estimator.infer(people[0].image).persons
        nearest = max(range(len(people)), key=lambda i: _near(person, people[i]))
        return [person if i == nearest else None for i in range(len(people))]

    return {
        "annotated box": boxed(lambda one: one.region),
        "box of the labelled joints": boxed(lambda one: Region.around(one.points[one.labelled])),
        "detector": detected,
        "whole frame": whole,
    }


def _near(person: Person, sample: Sample) -> float:
    return overlap(Region.around(person.keypoints[:, :2]), sample.region or Region(0, 0, 1, 1))


def pck_rows(data: PoseSet, estimator: Estimator, detector: Detector) -> Iterator[str]:
    groups = list(by_picture(data).values())
    people = [one for group in groups for one in group]
    true = np.stack([one.points for one in people])
    labelled = np.stack([one.labelled for one in people])
    answers = {
        name: [person for group in groups for person in ask(group)]
        for name, ask in ways(estimator, detector).items()
    }
    found = {
        name: hits(_points(said, true.shape), true, labelled, data.keypoints)
        for name, said in answers.items()
    }
    reached = np.array([person is not None for person in answers["detector"]])
    defined = np.isfinite(next(iter(found.values()))).any(axis=1)
    yield f"| region | answered, of {defined.sum()} | PCK@0.2 | of those whom the detector found |"
    yield "|---|---:|---:|---:|"
    for name, one in found.items():
        count = sum(person is not None for person in np.array(answers[name], object)[defined])
        yield f"| {name} | {count} | {pck(one):.3f} | {pck(one[reached]):.3f} |"


def _points(said: Sequence[Person | None], shape: tuple[int, ...]) -> Floats:
    """(N, K, 2), infinitely far away where nobody was answered."""
    points = np.full(shape, np.inf)
    for row, person in zip(points, said, strict=True):
        if person is not None:
            row[:] = person.keypoints[:, :2]
    return points


def following_rows(data: PoseSet, estimator: Estimator) -> Iterator[str]:
    """The same picture again and again, each time where the last answer says."""
    yield "| growth | " + " | ".join(f"frame {frame}" for frame in FRAMES) + " |"
    yield "|---:|" + "---:|" * len(FRAMES)
    people = [data[int(i)] for i in np.linspace(0, len(data) - 1, FOLLOWED)]
    true = np.stack([one.points for one in people])
    labelled = np.stack([one.labelled for one in people])
    for growth in GROWTHS:
        following.GROWTH = growth
        answers = [_followed(estimator, one) for one in people]
        cells = []
        for frame in FRAMES:
            said = [answer[frame] for answer in answers]
            kept = np.array([person is not None for person in said])
            found = hits(_points(said, true.shape), true, labelled, data.keypoints)
            cells.append(f"{pck(found[kept]):.3f} of {kept.sum()}")
        yield f"| {growth} | {' | '.join(cells)} |"


def _followed(estimator: Estimator, sample: Sample) -> list[Person | None]:
    """A person's answers, frame by frame; None from where the person is lost."""
    answers: list[Person | None] = []
    regions: tuple[Region, ...] = (sample.region or Region(0, 0, 1, 1),)
    for _ in range(max(FRAMES) + 1):
        persons = estimator.infer(sample.image, regions).persons if regions else ()
        answers.append(persons[0] if persons else None)
        trail = following.Trail().after(persons, every=2)
        regions = trail.within(*sample.image.shape[:2])
    return answers


def cost(scenes: Sequence[Picture], estimator: Estimator, detector: Detector) -> Iterator[str]:
    one = Region(0, 0, 200, 200)
    work: dict[str, Callable[[Picture], object]] = {
        "the detector, a picture": lambda scene: detector.find(scene.image),
        "the pose net, one person": lambda scene: estimator.infer(scene.image, [one]),
        "the pose net, eight persons": lambda scene: estimator.infer(scene.image, [one] * 8),
    }
    yield "| | CPU-ms |"
    yield "|---|---:|"
    for name, run in work.items():
        yield f"| {name} | {np.median([_timed(run, s) for _ in range(10) for s in scenes]):.1f} |"


def _timed(run: Callable[[Picture], object], scene: Picture) -> float:
    started = time.thread_time()
    run(scene)
    return 1e3 * (time.thread_time() - started)


def main(data: Path, path: Path) -> None:
    """Print the page."""
    estimator, table = Estimator.load(threads=1), parsed(path)
    detector = detector_at(table, path)
    manifest, coco = estimator.bundle.manifest, data / "coco_ccby"
    scenes = pictures(coco)
    spec = f"coco:{coco}/person_keypoints.json@{coco}/images"
    people = open_data(spec, keypoints=manifest.keypoints)
    print(
        f"""# Who is in the frame, CPU

`python benchmarks/persons.py DATA DETECTOR.toml`, {time.strftime("%Y-%m-%d")}, \
{platform.machine()}, {os.cpu_count()} cores, CPython {platform.python_version()}, onnxruntime \
{metadata.version("onnxruntime")}, OpenCV {cv2.__version__}. Bundle `{manifest.name}` \
{manifest.version}, digest {estimator.bundle.digest[:12]}. Detector `{table.file}`, family \
{table.output.family}, its TOML as on the page [persons](../docs/persons.md).

The pictures are the {len(scenes)} of COCO 2017 under CC BY 2.0 that the tests have: **far too few
for a figure of the detector's own**, enough to see that it is read rightly and what its boxes are
worth. Most of the missed persons are spectators a few pixels high.

## Persons found

A person is found by a box that overlaps the annotated one by {IOU} (intersection over union), a box
finds one person. Crowds are left out, so that boxes on their members count as boxes on nobody. Here
`most` is 64 and `smallest_px` 1.
"""
    )
    print("\n".join(recall_rows(scenes, table, path)), flush=True)
    print(
        """
## Joints found in its boxes

PCK@0.2 of those joints of the bundle that COCO has too (it lacks neck and head top), means over the
joints, of the persons whose torso is labelled. The bundle learnt sports photographs; what counts
here is one row beside another. A person who is not answered counts as not found. The whole frame
gets one answer, which counts for the person whose box it overlaps most.
"""
    )
    print("\n".join(pck_rows(people, estimator, detector)), flush=True)
    print(
        f"""
## Following

{FOLLOWED} persons of LSP's test set, who do not move: the same picture again and again, first with
the box of the joints, then each time with the region that following makes of the last answer.
PCK@0.2 of those who are still followed, and how many. `growth` is the side of that region over the
side of the joints' box; the runtime has {following.GROWTH}.
"""
    )
    lsp = open_data(f"lsp:{data}/lsp#1001-2000")
    print("\n".join(following_rows(lsp, estimator)), flush=True)
    print("\n## What it costs\n\nMedians of the thread's own CPU time, pictures already decoded.\n")
    print("\n".join(cost(scenes, estimator, detector)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
