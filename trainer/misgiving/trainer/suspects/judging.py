"""Which labels are confidently contradicted by nets that never saw them.

Confident learning (Northcutt et al., JAIR 2021) finds wrong class labels by out-of-sample answers
that are sure of another class; ObjectLab (Tkachenko et al., 2023) carries it to boxes, and lets the
worst part of an image decide. Here an answer is a place, so *another* is a distance, and *sure* is
told by the peak and by what the head says of the joint. Form and numbers were chosen on errors
planted in LSP's labels; ``benchmarks/suspects.py`` measures them.

Axes: N persons, K joints, W ways to exchange sides.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.joint_names import without_side
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.answers.scoring import Scores
from misgiving.trainer.measures.metrics import PCK_THRESHOLD, Floats, hits, pck

SUSPECT = 0.35
"""Score from which a person is a suspect."""
ALL = "all"
"""The way to exchange sides of every joint."""
_SHOWN = 10
_BELIEVED = 0.5
"""PCK from which on a warning is spared. At .49, 38 % of the suspects had planted errors, at .75
67 %: benchmarks/suspects_cpu_202611.md."""
_POWER = 4
_JOINTS_OF_GAIN = 3.0
"""As many joints must speak for an exchange of sides as one for itself."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What is held against one person's label.

    >>> one = Suspicion("a.jpg", 0.5, "", ("left_wrist",))
    >>> one.suspect, one.words
    (True, 'contradicted: left_wrist')
    """

    id: str
    score: float
    """At least 0; mostly below 1."""
    exchanged: str
    """The way of exchanging sides with which the label fits; empty where it does with none."""
    joints: tuple[str, ...]
    """Those confidently contradicted, the surest first."""

    @property
    def suspect(self) -> bool:
        """Whether the label is to be looked at."""
        return self.score >= SUSPECT

    @property
    def words(self) -> str:
        """What is suspected."""
        if self.exchanged:
            return f"sides exchanged: {self.exchanged}"
        return f"contradicted: {', '.join(self.joints)}" if self.joints else "nothing"


@dataclass(frozen=True, slots=True)
class Suspects:
    """What :func:`misgiving.trainer.find_suspects` gives."""

    persons: tuple[Suspicion, ...]
    """Everybody who could be read, the most suspect first."""
    specs: tuple[str, ...]
    """Data specs to train on instead: without the suspects, and those whose sides are exchanged."""
    sides: str
    """Why an exchange of sides cannot be told; empty where it can."""
    pck: float
    """Joints that the nets find of persons whom they never saw, at PCK@0.2."""

    @property
    def summary(self) -> str:
        """How many there are, in a sentence.

        >>> Suspects((Suspicion("a.jpg", 0.5, "all", ()),), (), "", 0.7).summary
        '1 of 1 persons is suspect: the labels of 1 fit with sides exchanged'
        """
        found = [one for one in self.persons if one.suspect]
        turned = sum(bool(one.exchanged) for one in found)
        verb = "is" if len(found) == 1 else "are"
        said = f"{len(found)} of {len(self.persons)} persons {verb} suspect"
        return said if self.sides else f"{said}: the labels of {turned} fit with sides exchanged"

    @property
    def remarks(self) -> list[str]:
        """How far to believe it."""
        nets = f"the nets find {self.pck:.3f} of these persons' joints (PCK@0.2)"
        if not self.pck >= _BELIEVED:
            nets += ": too few to judge labels by, train longer"
        return [nets, *filter(None, [self.sides])]

    def lines(self) -> list[str]:
        """The summary, and the first ten suspects, for a terminal."""
        ten = [one for one in self.persons[:_SHOWN] if one.suspect]
        first = [f"{one.score:.3f}  {one.id}  {one.words}" for one in ten]
        return [self.summary, *self.remarks, *first]


@dataclass(frozen=True)
class Judgement:
    """Everybody's labels against the answers."""

    answers: Scores
    """Of nets that did not learn from the person."""

    @property
    def pck(self) -> float:
        """See :attr:`Suspects.pck`."""
        one = self.answers
        return pck(hits(one.points, one.true_points, one.labelled, one.keypoints))

    @property
    def order(self) -> list[int]:
        """Positions, the most suspect first."""
        score = np.maximum(self.contradiction.max(axis=1), self.gain.max(axis=1))
        return [int(index) for index in np.argsort(-score, kind="stable")]

    def of(self, index: int) -> Suspicion:
        """What is held against one person."""
        gain, joints = self.gain[index], self.contradiction[index]
        best, names = int(gain.argmax()), self.answers.keypoints.names
        sure = [at for at in np.argsort(-joints, kind="stable") if joints[at] >= SUSPECT]
        return Suspicion(
            self.answers.ids[index],
            float(max(gain.max(), joints.max())),
            list(self.ways)[best] if gain[best] >= SUSPECT else "",
            tuple(names[at] for at in sure),
        )

    @cached_property
    def ways(self) -> dict[str, NDArray[np.int64]]:
        """Ways to exchange sides; see :func:`ways`."""
        return ways(self.answers.keypoints)

    @cached_property
    def sureness(self) -> Floats:
        """(N, K) in [0, 1]: (the share of all answers that are no surer)⁴.

        How sure an answer is: its peak × the chance of a hit that the head gives. As a share,
        nets that dare more or less, as young ones do, are held to one measure. The power, because
        one joint of which a net is very sure says more than several of which it is half sure.
        """
        chance = 1 - self.answers.keypoint_loss if self.answers.keypoint_loss.size else 1.0
        sure = np.asarray(self.answers.confidence * chance)
        share = stats.rankdata(sure, "max").reshape(sure.shape) / sure.size
        return np.asarray(share**_POWER)

    @cached_property
    def contradiction(self) -> Floats:
        """(N, K): sureness × distance from the label in torso lengths, at most 1 of them.

        0 where a joint is found (PCK@0.2) or not labelled.
        """
        distance = self._distance(np.arange(len(self.answers.keypoints)))
        away = self.answers.labelled & (distance >= PCK_THRESHOLD)
        return np.where(away, self.sureness * np.minimum(distance, 1), 0.0)

    @cached_property
    def gain(self) -> Floats:
        """(N, W): how much nearer the sure answers are once sides are exchanged.

        A third of the sum over joints of sureness × distance (at most 1 torso length), before
        less after. The first column, all 0, is for no way at all.
        """
        before, after = self._cost(np.arange(len(self.answers.keypoints))), self._cost(self._mirror)
        gain = (before - after) / _JOINTS_OF_GAIN
        return np.stack([gain[:, joints].sum(axis=1) for joints in self.ways.values()], axis=1)

    @property
    def _mirror(self) -> NDArray[np.int64]:
        return self.answers.keypoints.mirror

    def _cost(self, places: NDArray[np.int64]) -> Floats:
        """(N, K), were each joint's label that of ``places``."""
        near = np.minimum(self._distance(places), 1)
        return np.where(self.answers.labelled[:, places], self.sureness * near, 0.0)

    def _distance(self, places: NDArray[np.int64]) -> Floats:
        """(N, K), of each answer from the label of another joint, in torso lengths."""
        one = self.answers
        length = np.linalg.norm(one.points - one.true_points[:, places], axis=-1)
        return np.asarray(length / self._torso[:, None])

    @cached_property
    def _torso(self) -> Floats:
        """(N,): the label's, or the answer's where the label has none; at least 1 px."""
        one, whole = self.answers, np.ones(len(self.answers.keypoints), bool)
        label = zip(one.true_points, one.labelled, strict=True)
        own = np.array([one.keypoints.torso_size(points, known) for points, known in label])
        answer = np.array([one.keypoints.torso_size(points, whole) for points in one.points])
        return np.maximum(np.where(np.isnan(own), answer, own), 1.0)


def ways(keypoints: KeypointSet) -> dict[str, NDArray[np.int64]]:
    """Which joints change places: none, every one that has two sides, or those of one limb.

    Limbs are what the bones of one side join, without those of the torso.

    >>> from misgiving.runtime.keypoints import LSP
    >>> {name: len(joints) for name, joints in ways(LSP).items()}
    {'': 0, 'all': 12, 'ankle, knee, hip': 6, 'wrist, elbow, shoulder': 6}
    """
    paired = np.flatnonzero(keypoints.mirror != np.arange(len(keypoints)))
    found = {"": paired[:0], ALL: paired}
    limbs = _limbs(keypoints, paired.tolist())
    if len(limbs) > 1:
        found |= {name: np.array(sorted(joints)) for name, joints in limbs.items()}
    return found


def _limbs(keypoints: KeypointSet, joints: list[int]) -> dict[str, set[int]]:
    """Both sides of each limb, by the names of its joints."""
    torso = {at for pair in keypoints.torso for at in pair}
    limb = {at: {at, int(keypoints.mirror[at])} for at in joints}
    for a, b in keypoints.skeleton:
        if a in limb and b in limb and not {a, b} <= torso:
            both = limb[a] | limb[b]
            limb |= dict.fromkeys(both, both)
    return {", ".join(_unsided(keypoints, one)): one for one in limb.values()}


def _unsided(keypoints: KeypointSet, joints: set[int]) -> list[str]:
    return list(dict.fromkeys(without_side(keypoints.names[at]) for at in sorted(joints)))


def check_torso(keypoints: KeypointSet) -> None:
    """Raise InvalidInput where there is no length to tell distances in."""
    if not keypoints.torso:
        raise InvalidInput(
            f"keypoints {keypoints.name} have no torso, in whose length distances are told; "
            "expected one. Give --keypoints FILE.toml with a torso"
        )
