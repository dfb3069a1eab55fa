"""Whether `misgiving suspects` finds wrong labels, and whether a training without them gains.

Run: nice python benchmarks/suspects.py DATA OUT > benchmarks/suspects_cpu_<yyyymm>.md
DATA holds lsp/ and lspet/; OUT takes nets and pictures of the data's people (not for commits). What
is there is not made again.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from misgiving.trainer.data.base import PoseSet, Sample
from misgiving.trainer.recipes import recipe_named

LITE = recipe_named("lite", epochs=2)
RECIPE = replace(
    LITE,
    name="lite-16",
    model=replace(LITE.model, net=replace(LITE.model.net, deepest=16), heads=LITE.model.heads[:1]),
    fit=replace(LITE.fit, epochs=2, continued_epochs=2, head_epochs=0, frozen_blocks=3),
)
FOLDS = 3
KINDS = ("sides exchanged", "one limb's sides exchanged", "joints moved")
PLANTED = 0.05
"""Share of the persons of each kind of planted error."""
MOVED = 3
"""Joints at most, by 0.5 to 1.5 torso lengths."""
LIMBS = (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))


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
