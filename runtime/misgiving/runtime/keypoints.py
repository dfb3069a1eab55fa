"""Keypoint sets: names, skeleton, mirror pairs and the torso that normalises distances."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from misgiving.runtime.joint_names import canonical as canonical
from misgiving.runtime.joint_names import mirror_places, side_of, without_side
from misgiving.runtime.joint_names import places_of as places_of

_OKS_SIGMAS = {
    "nose": 0.026,
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}
"""COCO's per-joint constants (cocodataset.org/#keypoints-eval), by name without side."""


class KeypointSet(BaseModel):
    """The joints that a model answers with, in order. Left and right are the person's own.

    >>> len(LSP), LSP.names[0], LSP.names[LSP.mirror[0]]
    (14, 'right_ankle', 'left_ankle')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    """Bones as pairs of indices into ``names``."""
    torso: tuple[tuple[int, int], ...]
    """Diagonals whose longer one is the torso size, pairs of indices into ``names``."""
    sigmas: tuple[float | None, ...] = ()
    """OKS constant of each joint, None for one that OKS leaves out; empty for COCO's, by name."""

    @model_validator(mode="after")
    def _check(self) -> "KeypointSet":
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"keypoint set {self.name!r} names a joint twice; rename one")
        for pair in (*self.skeleton, *self.torso):
            if not all(0 <= index < len(self.names) for index in pair):
                raise ValueError(
                    f"keypoint set {self.name!r} has bone {pair}; "
                    f"expected indices from 0 to {len(self.names) - 1}"
                )
        if self.sigmas and len(self.sigmas) != len(self.names):
            raise ValueError(
                f"keypoint set {self.name!r} has {len(self.sigmas)} sigmas; "
                f"expected {len(self.names)}, or none"
            )
        for name in self.names:
            if _mirrored(name) not in self.names and name in self.one_sided:
                raise ValueError(
                    f"keypoint set {self.name!r} has {name!r} without {_mirrored(name)!r}; "
                    "name both sides, or neither"
                )
        return self

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def mirror(self) -> NDArray[np.int64]:
        """Permutation that swaps left and right, (K,): ``points[mirror]`` of a flipped image."""
        return np.array(mirror_places(self.names), np.int64)

    @property
    def mirror_pairs(self) -> tuple[tuple[str, str], ...]:
        """The joints that change places in a mirrored image, by name."""
        named = zip(self.names, self.mirror, strict=True)
        return tuple(
            (name, self.names[other]) for i, (name, other) in enumerate(named) if i < other
        )

    @property
    def one_sided(self) -> tuple[str, ...]:
        """Joints of one side whose other side is not in the set, or more than once."""
        own = np.arange(len(self)) == self.mirror
        return tuple(n for n, lone in zip(self.names, own, strict=True) if lone and side_of(n))

    @property
    def oks_sigmas(self) -> NDArray[np.float64]:
        """OKS constant of each joint, (K,); NaN where a joint has none and OKS leaves it out."""
        own = self.sigmas or [_OKS_SIGMAS.get(without_side(name)) for name in self.names]
        return np.array([np.nan if sigma is None else sigma for sigma in own], np.float64)

    def torso_size(self, points: NDArray[np.float32], labelled: NDArray[np.bool_]) -> float:
        """Length of the longer labelled torso diagonal in the units of ``points``.

        Args:
            points: shape (K, 2).
            labelled: shape (K,).

        Returns:
            NaN where a torso joint is not labelled, because the normaliser is then undefined.
        """
        joints = sorted({index for pair in self.torso for index in pair})
        if not self.torso or not labelled[joints].all():
            return float("nan")
        return float(max(np.linalg.norm(points[a] - points[b]) for a, b in self.torso))


def _mirrored(name: str) -> str:
    side, _, rest = name.partition("_")
    swap = {"left": "right", "right": "left"}
    return f"{swap[side]}_{rest}" if side in swap else name


def torso_by_name(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Each shoulder to the opposite hip, as indices into ``names``; empty where one is missing."""
    a, b, c, d = places_of(names, ("left_shoulder", "right_hip", "right_shoulder", "left_hip"))
    return ((a, b), (c, d)) if min(a, b, c, d) >= 0 else ()


LSP = KeypointSet(
    name="lsp14",
    names=(
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
        "neck",
        "head_top",
    ),
    skeleton=(
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
        (4, 5),
        (6, 7),
        (7, 8),
        (8, 12),
        (12, 9),
        (9, 10),
        (10, 11),
        (12, 13),
        (8, 2),
        (9, 3),
    ),
    torso=((9, 2), (8, 3)),
)
"""Leeds Sports Pose, 14 joints; also the joints of the synthetic people."""

_COCO_NAMES = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)

COCO = KeypointSet(
    name="coco17",
    names=_COCO_NAMES,
    skeleton=(
        (15, 13),
        (13, 11),
        (16, 14),
        (14, 12),
        (11, 12),
        (5, 11),
        (6, 12),
        (5, 6),
        (5, 7),
        (6, 8),
        (7, 9),
        (8, 10),
        (1, 2),
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 4),
        (3, 5),
        (4, 6),
    ),
    torso=torso_by_name(_COCO_NAMES),
)
"""COCO's persons, 17 joints and its own skeleton."""

_MPII_NAMES = (
    "right_ankle",
    "right_knee",
    "right_hip",
    "left_hip",
    "left_knee",
    "left_ankle",
    "pelvis",
    "thorax",
    "upper_neck",
    "head_top",
    "right_wrist",
    "right_elbow",
    "right_shoulder",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
)

MPII = KeypointSet(
    name="mpii16",
    names=_MPII_NAMES,
    skeleton=(
        (0, 1),
        (1, 2),
        (2, 6),
        (6, 3),
        (3, 4),
        (4, 5),
        (6, 7),
        (7, 8),
        (8, 9),
        (10, 11),
        (11, 12),
        (12, 7),
        (7, 13),
        (13, 14),
        (14, 15),
    ),
    torso=torso_by_name(_MPII_NAMES),
)
"""MPII Human Pose, 16 joints. Its upper neck is not LSP's neck, so their names differ."""

SETS = {keypoints.name: keypoints for keypoints in (LSP, COCO, MPII)}
"""The sets that have a name of their own on the command line."""


def of_category(name: str, names: Sequence[str], skeleton: Sequence[Sequence[int]]) -> KeypointSet:
    """The set of a COCO category: a known one where the joints are its, else a custom one.

    Args:
        name: of the category.
        names: of the joints, in order.
        skeleton: bones as pairs of places in ``names``, counted from 1.

    Raises:
        ValidationError: a joint occurs twice or lacks its other side, or a bone ends nowhere.
    """
    for known in SETS.values():
        if known.names == tuple(names):
            return known
    bones = [tuple(place - 1 for place in bone) for bone in skeleton]
    values = {"name": name, "names": tuple(names), "skeleton": bones}
    return KeypointSet.model_validate({**values, "torso": torso_by_name(names)})
