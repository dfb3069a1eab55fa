"""Whether `misgiving suspects` finds wrong labels, and whether a training without them gains.

Run: nice python benchmarks/suspects.py DATA OUT [NETS | CHECKPOINT]
DATA holds lsp/ and lspet/; OUT takes nets and pictures of the data's people (not for commits). What
is there is not made again. With NETS, prints what the first so many nets in OUT said, and trains
nothing. With CHECKPOINT, of a training on TRAINING, asks that net about UNSEEN instead.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.keypoints import LSP
from misgiving.trainer import Compute, Estimate, find_suspects
from misgiving.trainer.answers.scoring import Floats, Scores, joined, score
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.cycle.scores import read_scores
from misgiving.trainer.data import join, open_data
from misgiving.trainer.data.base import PoseSet, Sample, subset
from misgiving.trainer.measures import metrics
from misgiving.trainer.measures.bootstrap import Key, estimates
from misgiving.trainer.measures.ranking import Failures, Ranking
from misgiving.trainer.recipes import recipe_named
from misgiving.trainer.suspects.judging import Judgement, Suspicion, ways
from misgiving.trainer.suspects.lists import exchanged
from misgiving.trainer.training import train

LITE = recipe_named("lite", epochs=2)
RECIPE = replace(
    LITE,
    name="lite-16",
    model=replace(
        LITE.model,
        input_size=128,
        net=replace(LITE.model.net, deepest=16),
        heads=LITE.model.heads[:1],
    ),
    fit=replace(LITE.fit, epochs=2, continued_epochs=2, head_epochs=0, frozen_blocks=3),
)
FOLDS = 3
KINDS = ("sides exchanged", "one limb's sides exchanged", "joints moved")
PLANTED = 0.05
"""Share of the persons of each kind of planted error."""
MOVED = 3
"""Joints at most, by 0.5 to 1.5 torso lengths."""
TRAINING = "lsp:{}/lsp#1-1000", "lspet:{}/lspet#1-8000"
UNSEEN = "lsp:{}/lsp#1001-1500", "lspet:{}/lspet#8001-9000"
VALIDATION = "lspet:{}/lspet#8001-9000"
TESTS = {"LSP test": "lsp:{}/lsp#1001-2000", "LSPET 9001–10000": "lspet:{}/lspet#9001-10000"}
SEED = 17
COMPUTE = Compute(device="cpu", threads=1)
FIRST = (10, 20, 50, 100)
LIMBS = (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))


def main(data: Path, out: Path, asked: str = "") -> None:
    """Print the page."""
    specs = UNSEEN if asked and not asked.isdigit() else TRAINING
    given = [open_data(spec.format(data)) for spec in specs]
    lsp, planted = plant(given[0], SEED)
    parts = [lsp, given[1]]
    persons = _persons(parts, out / "suspects", asked)
    print("\n".join([*_planted(persons, planted), *_others(persons)]))
    if not asked:
        print("\n".join(_trainings(data, out, join(given), persons)))


def _persons(parts: list[PoseSet], out: Path, asked: str) -> tuple[Suspicion, ...]:
    """The most suspect first."""
    if not asked:
        return find_suspects(RECIPE, parts, out, COMPUTE, folds=FOLDS).persons
    if asked.isdigit():
        names = [out / f"answers-{number + 1}.npz" for number in range(int(asked))]
        told = [read_scores(name, LSP) for name in names]
    else:
        network, recipe, _ = load_checkpoint(Path(asked))
        told = [score(network, recipe, part, COMPUTE.prepare()) for part in parts]
    judged = Judgement(joined(told, sum(len(one.ids) for one in told)))
    return tuple(judged.of(at) for at in judged.order)


def _planted(persons: tuple[Suspicion, ...], planted: Mapping[str, str]) -> Iterator[str]:
    """Precision and recall among LSP's persons."""
    ours = [one for one in persons if one.id.startswith("lsp/")]
    wrong = np.array([one.id in planted for one in ours])
    suspects = sum(one.suspect for one in ours)
    yield f"{len(ours)} persons of LSP, {wrong.sum()} with planted errors:"
    yield ""
    yield "| the first | with planted errors | precision | recall |"
    yield "|---|---|---|---|"
    for count in (*FIRST, suspects):
        right, name = int(wrong[:count].sum()), f"{count}, the suspects" * (count == suspects)
        share, recall = right / max(1, count), right / wrong.sum()
        yield f"| {name or count} | {right} | {share:.2f} | {recall:.2f} |"
    yield ""
    for kind in KINDS:
        of_kind = [one for one in ours if planted.get(one.id) == kind]
        told = sum(one.suspect for one in of_kind)
        turned = sum(bool(one.exchanged) for one in of_kind)
        yield f"- {kind}: {told} of {len(of_kind)} are suspects, {turned} as sides exchanged"
    turned = sum(bool(one.exchanged) for one in ours if one.id not in planted)
    yield f"- nothing planted: {turned} of {len(ours) - wrong.sum()} are told as sides exchanged"
    yield ""


def _others(persons: tuple[Suspicion, ...]) -> Iterator[str]:
    others = [one for one in persons if one.id.startswith("lspet/")]
    found = [one for one in others if one.suspect]
    turned = sum(bool(one.exchanged) for one in found)
    said = f"{len(found)} of {len(others)} persons of LSPET are suspects"
    yield f"{said}, {turned} as sides exchanged"


def _trainings(
    data: Path, out: Path, whole: PoseSet, persons: tuple[Suspicion, ...]
) -> Iterator[str]:
    """Equal trainings on all labels, without LSPET's suspects, and with their sides mended."""
    found = {one.id: one for one in persons if one.suspect and one.id.startswith("lspet/")}
    rest = [at for at, name in enumerate(whole.ids) if name not in found]
    arms = {
        "all": whole,
        "left out": subset(whole, rest, f"{whole.spec} without suspects"),
        "mended": _mended(whole, found),
    }
    validation = open_data(VALIDATION.format(data))
    for name, persons_of in arms.items():
        if not (out / name).exists():
            train(RECIPE, persons_of, validation, out / name, COMPUTE)
    yield ""
    yield "| test | arm | joints found | AUROC | less all: joints | less all: AUROC |"
    yield "|---|---|---|---|---|---|"
    for test, spec in TESTS.items():
        told = {name: _numbers(out / name, open_data(spec.format(data))) for name in arms}
        for name, own in told.items():
            less = [str(own[key] - told["all"][key]) if name != "all" else "" for key in own]
            yield "| " + " | ".join([test, name, *map(str, own.values()), *less]) + " |"


def _mended(whole: PoseSet, found: Mapping[str, Suspicion]) -> PoseSet:
    way = {one.id: ways(LSP)[one.exchanged] for one in found.values() if one.exchanged}

    def read(index: int) -> Sample:
        sample = whole.read(index)
        return exchanged(sample, way[sample.id], LSP) if sample.id in way else sample

    return replace(whole, read=read, spec=f"{whole.spec} with sides mended")


def _numbers(checkpoint: Path, data: PoseSet) -> dict[Key, Estimate]:
    network, recipe, _ = load_checkpoint(checkpoint)
    scores = score(network, recipe, data, COMPUTE.prepare())
    defined = metrics.failed(scores.found)[1]
    kept = [name for name, keep in zip(scores.ids, defined, strict=True) if keep]
    return estimates(partial(_measure, scores, defined), kept)


def _measure(scores: Scores, defined: NDArray[np.bool_], weights: Floats) -> dict[Key, Floats]:
    found = scores.found[defined]
    failed, _ = metrics.failed(found)
    ranking = Ranking.of(scores.predicted_loss[defined])
    return {
        "joints": metrics.weighted_pck(found, weights),
        "auroc": Failures.of(ranking, failed, weights).auroc(),
    }


def plant(data: PoseSet, seed: int) -> tuple[PoseSet, dict[str, str]]:
    """The same persons, some labels of whom are made wrong; and what was done, by id."""
    random = np.random.default_rng(seed)
    each = round(PLANTED * len(data))
    chosen = random.permutation(len(data))[: each * len(KINDS)]
    planted = {data.ids[at]: KINDS[rank // each] for rank, at in enumerate(chosen.tolist())}

    def read(index: int) -> Sample:
        sample = data.read(index)
        kind = planted.get(sample.id)
        if kind is None:
            return sample
        return replace(sample, points=_wrong(sample, kind, data, seed + index))

    return replace(data, read=read, spec=f"{data.spec} with planted errors"), planted


def _wrong(sample: Sample, kind: str, data: PoseSet, seed: int) -> NDArray[np.float32]:
    random, points, names = np.random.default_rng(seed), sample.points.copy(), data.keypoints.names
    if kind == KINDS[0]:
        return points[data.keypoints.mirror]
    if kind == KINDS[1]:
        limb = LIMBS[random.integers(len(LIMBS))]
        joints = [at for at, name in enumerate(names) if name.split("_")[-1] in limb]
        points[joints] = points[data.keypoints.mirror[joints]]
        return points
    torso = data.keypoints.torso_size(sample.points, sample.labelled)
    joints = random.choice(12, random.integers(1, MOVED + 1), replace=False)
    for joint in joints:
        angle, length = random.uniform(0, 2 * np.pi), torso * random.uniform(0.5, 1.5)
        points[joint] += length * np.array([np.cos(angle), np.sin(angle)], np.float32)
    return points


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
