"""Do the scores say that nobody is there, or that a person is badly in the picture?

Run: python benchmarks/nobody_there.py DATA OUT > benchmarks/nobody_there_cpu_<yyyymm>.md
DATA holds lsp/ and lspet/; OUT what benchmarks/learned_score.py left there. Ten minutes on a core.
"""

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
from learned_score import COMPUTE, HEADS, NAMES, REPORTS, SEEDS, mean
from numpy.typing import NDArray

from misgiving.runtime.geometry import Region
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.answers.scoring import Scores, score
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.data import PoseSet, Sample, open_data
from misgiving.trainer.data.base import subset
from misgiving.trainer.data.rendering.scenery import backdrop, photograph
from misgiving.trainer.measures.metrics import person_pck
from misgiving.trainer.report import FailureReport, failure_report

Asked = Region | None
"""None where an image has no such region."""
TRIES = 50
SCENE_PX = 192
SHOWN = {
    name: NAMES[name]
    for name in ("evidence-miss", "conv-kl", "gap-margin", "-mean_peak", "-min_peak", "entropy")
}


def beside(sample: Sample, rng: np.random.Generator) -> Asked:
    """A square of the picture that none of the person's limbs crosses; of persons who are labelled
    completely."""
    height, width = sample.image.shape[:2]
    if not sample.labelled.all():
        return None
    limbs = _limbs(sample)
    for _ in range(TRIES):
        side = rng.uniform(0.2, 0.6) * min(height, width)
        x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
        inside = ((limbs > [x, y]) & (limbs < [x + side, y + side])).all(1)
        if side >= 32 and not inside.any():
            return _shrunk(x, y, side)
    return None


def _shrunk(x: float, y: float, side: float) -> Region:
    """The region whose window, a quarter larger, is this square."""
    return Region(x + 0.1 * side, y + 0.1 * side, 0.8 * side, 0.8 * side)


def _limbs(sample: Sample) -> NDArray[np.floating]:
    """Points along every link of the skeleton, (N, 2)."""
    steps = np.linspace(0, 1, 9)[:, None, None]
    first, second = (sample.points[list(ends)] for ends in zip(*LSP.skeleton, strict=True))
    return ((1 - steps) * first + steps * second).reshape(-1, 2)


def half(sample: Sample, rng: np.random.Generator) -> Asked:
    """The person's own region, moved until at most half of the joints are in it."""
    box = _box(sample)
    for _ in range(TRIES):
        x, y = (rng.uniform(-0.9, 0.9, 2) * [box.width, box.height]).tolist()
        moved = Region(box.x + x, box.y + y, box.width, box.height)
        points = sample.points[sample.labelled] - [moved.x, moved.y]
        share = ((points > 0) & (points < [box.width, box.height])).all(1).mean()
        if 0 < share <= 0.5:
            return moved
    return None


def far_too_small(sample: Sample, rng: np.random.Generator) -> Asked:
    """A region three times as large as the person."""
    box = _box(sample)
    return _scaled(box, (box.x + box.width / 2, box.y + box.height / 2), 3.0)


def far_too_large(sample: Sample, rng: np.random.Generator) -> Asked:
    """A region of three tenths of the person's size, at one of the joints."""
    joint = rng.choice(sample.points[sample.labelled])
    return _scaled(_box(sample), (float(joint[0]), float(joint[1])), 0.3)


def _scaled(box: Region, centre: tuple[float, float], factor: float) -> Region:
    width, height = factor * box.width, factor * box.height
    return Region(centre[0] - width / 2, centre[1] - height / 2, width, height)


def _box(sample: Sample) -> Region:
    return Region.around(sample.points[sample.labelled])


KINDS: dict[str, Callable[[Sample, np.random.Generator], Asked]] = {
    "beside the person": beside,
    "at most half of the joints in view": half,
    "far too small in the region": far_too_small,
    "far too large in the region": far_too_large,
}


def asked_elsewhere(
    data: PoseSet, where: Callable[[Sample, np.random.Generator], Asked]
) -> PoseSet:
    """Those persons of a set who have such a region, with it as their box."""

    def sample_of(index: int) -> Sample:
        sample = data[index]
        return replace(sample, box=where(sample, np.random.default_rng([index, len(data)])))

    kept = [index for index in range(len(data)) if sample_of(index).box is not None]
    part = subset(data, kept)
    return replace(part, read=lambda index: sample_of(kept[index]))


def scenes(count: int) -> PoseSet:
    """Procedural scenes without a person; their labels mean nothing."""
    nowhere, box = np.zeros((len(LSP), 2), np.float32), _shrunk(0.0, 0.0, SCENE_PX)

    def read(index: int) -> Sample:
        rng = np.random.default_rng([7, index])
        difficulty = rng.random()
        scene = np.moveaxis(backdrop(rng, difficulty, SCENE_PX).astype(np.float32), 2, 0)
        image = photograph(rng, np.ascontiguousarray(scene), difficulty)
        return Sample(f"scene/{index}", image, nowhere, np.ones(len(LSP), bool), box=box)

    return PoseSet("scenes", LSP, tuple(f"scene/{i}" for i in range(count)), read)


def told_apart(persons: Scores, others: Scores) -> FailureReport:
    """A report whose failures are the crops without a person who could be found."""
    risks, strange = persons.risk_scores(), others.risk_scores()
    found = np.repeat([1.0, 0.0], [len(persons.ids), len(others.ids)])[:, None]
    return failure_report(
        {name: np.concatenate([risks[name], strange[name]]) for name in risks},
        np.repeat(found, len(LSP), axis=1),
        1 - found[:, 0],
        [*persons.ids, *others.ids],
    )


def main(data: Path, out: Path) -> None:
    """Score all and print the page."""
    print(
        f"""# Nobody there, CPU

`python benchmarks/nobody_there.py DATA OUT`, {time.strftime("%Y-%m-%d")}, {platform.machine()},
{os.cpu_count()} cores, CPython {platform.python_version()}, torch {metadata.version("torch")}. The
nets and heads of `benchmarks/learned_score.py`, {len(SEEDS)} seeds. Heads that learn misses have
seen crops of the training images that go astray, an eighth of all; the ranking heads have not, as
their target calls an empty answer right where nobody is.

AUROC of telling such a region from a person's own, as a user would give it. Each is cut out as the
runtime does, black beyond the picture, which here often ends near the person. Other people may be
in it. Means over the seeds with 95 % intervals. PCK@0.2 is of the joints whether in the region or
not, where there is a torso."""
    )
    networks = [load_checkpoint(out / f"{HEADS}-{seed}")[:2] for seed in SEEDS]
    device = COMPUTE.prepare()
    for title, spec in REPORTS.items():
        own = open_data(spec.format(data))
        sets = {name: asked_elsewhere(own, where) for name, where in KINDS.items()}
        sets["procedural scenes"] = scenes(len(own))
        persons = [score(network, recipe, own, device) for network, recipe in networks]
        print(f"\n## {title}\n\n| | regions | PCK@0.2 | {' | '.join(SHOWN.values())} |")
        print(f"|---|---:|---:|{'---:|' * len(SHOWN)}")
        for name, some in sets.items():
            others = [score(network, recipe, some, device) for network, recipe in networks]
            print(f"| {name} | {len(some)} | {_pck(name, others)} | {_cells(persons, others)} |")


def _pck(name: str, others: Sequence[Scores]) -> str:
    if name not in KINDS:
        return "–"
    return f"{np.mean([np.nanmean(person_pck(scores.found)) for scores in others]):.3f}"


def _cells(persons: Sequence[Scores], others: Sequence[Scores]) -> str:
    reports = [told_apart(*both) for both in zip(persons, others, strict=True)]
    return " | ".join(str(mean(reports, name, "auroc")) for name in SHOWN)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
