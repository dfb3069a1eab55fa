"""What a head is there for: how many numbers it gives for an image, what they are trained on, and
the risk that is read from them.

Axes: B batch, K keypoints, L links of the skeleton, H W heatmap cells. Points and lengths are in
heatmap cells.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.config import FitConfig, HeadConfig
from misgiving.trainer.heads import objectives
from misgiving.trainer.measures import metrics

_WIDEST = 8.0
"""Bound of a log-variance: standard deviations from 0.02 to 55 cells, so that no exp overflows."""


_USUAL_TORSO = 0.35
"""Of the heatmap's side, where a person's torso is not labelled; the median of LSP and LSPET."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a training step knows of its images; no gradient reaches any of it."""

    loss: Tensor
    """(B,): the pose net's own."""
    predicted: Tensor
    """(B, K, 2), by the last stack."""
    points: Tensor
    """(B, K, 2), labelled; anything where not."""
    labelled: Tensor
    """(B, K) bool."""
    size: int
    """H = W."""

    def first(self, count: int) -> "Truth":
        """The same of the first so many."""
        loss, predicted = self.loss[:count], self.predicted[:count]
        return Truth(loss, predicted, self.points[:count], self.labelled[:count], self.size)


class Objective(Protocol):
    """One objective, for one head."""

    @property
    def outputs(self) -> int:
        """O, how many numbers the head gives for an image."""

    @property
    def astray(self) -> bool:
        """Whether it learns from crops that miss the person, too. A loss of heatmaps must not:
        where nobody is, an empty heatmap is right."""

    def loss(self, outputs: Tensor, truth: Truth, fit: FitConfig) -> Tensor:
        """What the head is trained on: (B, O) → shape ()."""

    def risk(self, outputs: Tensor, points: Tensor) -> Tensor:
        """(B, O) and the predicted points (B, K, 2) → (B,), higher is riskier."""

    def keypoint_risk(self, outputs: Tensor) -> Tensor | None:
        """(B, O) → (B, K), each joint's own, or None where the head does not tell joints apart."""


class _Whole:
    """The head speaks of the person as a whole."""

    astray = False

    def keypoint_risk(self, outputs: Tensor) -> Tensor | None:
        return None


class _Scalar(_Whole):
    """The head gives the risk itself."""

    outputs = 1

    def __init__(self, head: HeadConfig, keypoints: KeypointSet, taught: Collection[str]) -> None:
        self.pairs = head.pairs

    def risk(self, outputs: Tensor, points: Tensor) -> Tensor:
        return outputs[:, 0]


class Margin(_Scalar):
    """See ``objectives.margin_ranking``."""

    def loss(self, outputs: Tensor, truth: Truth, fit: FitConfig) -> Tensor:
        return objectives.margin_ranking(outputs[:, 0], truth.loss, fit.margin, self.pairs)


class Kl(_Scalar):
    """See ``objectives.pairwise_kl``."""

    def loss(self, outputs: Tensor, truth: Truth, fit: FitConfig) -> Tensor:
        return objectives.pairwise_kl(outputs[:, 0], truth.loss, self.pairs)


class Regression(_Scalar):
    """See ``objectives.regression``."""

    def loss(self, outputs: Tensor, truth: Truth, fit: FitConfig) -> Tensor:
        return objectives.regression(outputs[:, 0], truth.loss)


class _EachJoint:
    """The head gives one number for each joint, and the risk is the mean of those it learnt."""

    def __init__(self, head: HeadConfig, keypoints: KeypointSet, taught: Collection[str]) -> None:
        self.outputs = len(keypoints)
        self.keypoints = keypoints
        self.places = [i for i, name in enumerate(keypoints.names) if name in taught]
        self.all_taught = len(self.places) == len(keypoints)

    def risk(self, outputs: Tensor, points: Tensor) -> Tensor:
        each = self._each(outputs)
        return each.mean(1) if self.all_taught else each[:, self.places].mean(1)

    def keypoint_risk(self, outputs: Tensor) -> Tensor | None:
        """A joint that nobody labels is as risky as the others are on average."""
        each = self._each(outputs)
        if self.all_taught:
            return each
        taught = torch.tensor([i in self.places for i in range(self.outputs)], device=each.device)
        return torch.where(taught, each, each[:, self.places].mean(1, keepdim=True))

    def _each(self, outputs: Tensor) -> Tensor:
        """(B, K) → (B, K): each joint's risk."""
        raise NotImplementedError


class Aleatoric(_EachJoint):
    """Log-variance of each joint's error (Kendall & Gal, NeurIPS 2017; for poses Gundavarapu et
    al., CVPR Workshops 2019). The risk is its mean over the joints.

    Its best answer is the logarithm of the mean squared distance between prediction and label.
    """

    astray = False

    def loss(self, outputs: Tensor, truth: Truth, fit: FitConfig) -> Tensor:
        squared = _apart(truth).square().sum(-1)
        return _likelihood_loss(squared, _bounded(outputs), truth.labelled)

    def _each(self, outputs: Tensor) -> Tensor:
        return _bounded(outputs)


class Miss(_EachJoint):
    """Whether each joint is missed, as PCK@0.2 counts it. The risk is the share of the joints that
    the head expects to be missed: one minus the PCK that it expects.

    Learnt by cross-entropy. Farther off than 0.2 torso lengths is a miss, but not at one stroke: at
    d torso lengths the target is d⁴ / (d⁴ + 0.2⁴), because labels are some way off themselves.
    A joint that is not in the crop is missed by any answer far enough from where it would be.
    """

    astray = True

    def loss(self, outputs: Tensor, truth: Truth, fit: FitConfig) -> Tensor:
        apart = _apart(truth).norm(dim=-1) / self._scale(truth)[:, None]
        ratio = (apart / metrics.PCK_THRESHOLD) ** 4
        terms = functional.binary_cross_entropy_with_logits(
            outputs, ratio / (1 + ratio), reduction="none"
        )
        known = truth.labelled
        return torch.where(known, terms, 0.0).sum() / known.sum().clamp(min=1)

    def _each(self, outputs: Tensor) -> Tensor:
        return torch.sigmoid(outputs)

    def _scale(self, truth: Truth) -> Tensor:
        """(B,): each person's torso, or a usual one where it is not labelled."""
        usual = truth.points.new_full((len(truth.points),), _USUAL_TORSO * truth.size)
        if not self.keypoints.torso:
            return usual
        lengths, known = torso_lengths(_blank(truth), truth.labelled, self.keypoints)
        return torch.where(known, lengths, usual).clamp(min=1.0)


class Links(_Whole):
    """Length of each link of the skeleton, as a Gaussian (VL4Pose: Shukla, Roy, Singh, Ahmed &
    Alahi, BMVC 2022). The risk is minus the log-likelihood of the predicted pose.

    A joint has one proposal, its highest peak, whose share is 1, as in the authors' configuration:
    how many peaks a map has is what ``multi_peak_entropy`` tells. The product goes over all links
    of the skeleton, which need not be a tree.
    """

    def __init__(self, head: HeadConfig, keypoints: KeypointSet, taught: Collection[str]) -> None:
        names = keypoints.names
        links = [(a, b) for a, b in keypoints.skeleton if names[a] in taught and names[b] in taught]
        if not links:
            raise InvalidInput(
                f"head is {head.name!r}, but keypoint set {keypoints.name!r} has no skeleton; "
                "expected links between its joints. Add them, or take another objective"
            )
        self.first, self.second = (list(ends) for ends in zip(*links, strict=True))
        self.outputs = 2 * len(links)

    def loss(self, outputs: Tensor, truth: Truth, fit: FitConfig) -> Tensor:
        mean, log_variance = self._read(outputs)
        missed = (mean - self._lengths(_blank(truth))).square()
        both = truth.labelled[:, self.first] & truth.labelled[:, self.second]
        return _likelihood_loss(missed, log_variance, both)

    def risk(self, outputs: Tensor, points: Tensor) -> Tensor:
        mean, log_variance = self._read(outputs)
        missed = (mean - self._lengths(points)).square()
        terms = math.log(2 * math.pi) + log_variance + missed * torch.exp(-log_variance)
        return 0.5 * terms.sum(1)

    def _read(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of each link's length, (B, L) both."""
        mean, log_variance = outputs.float().chunk(2, dim=1)
        return mean, _bounded(log_variance)

    def _lengths(self, points: Tensor) -> Tensor:
        """(B, K, 2) → (B, L)."""
        return (points[:, self.first] - points[:, self.second]).square().sum(-1).sqrt()


OBJECTIVES: dict[str, Callable[[HeadConfig, KeypointSet, Collection[str]], Objective]] = {
    "margin": Margin,
    "kl": Kl,
    "mse": Regression,
    "aleatoric": Aleatoric,
    "links": Links,
    "miss": Miss,
}


def make_objective(
    head: HeadConfig, keypoints: KeypointSet, taught: Collection[str] | None = None
) -> Objective:
    """The objective that a head's configuration asks for.

    Args:
        head: names it.
        keypoints: of the pose net.
        taught: the joints that labels will teach; None for all.

    Raises:
        InvalidInput: it needs a skeleton, and the keypoints have none.
    """
    taught = keypoints.names if taught is None else taught
    return OBJECTIVES[head.objective](head, keypoints, taught)


def torso_lengths(
    points: Tensor, labelled: Tensor, keypoints: KeypointSet
) -> tuple[Tensor, Tensor]:
    """The scale of PCK, (B,), in the points' unit, and where it is labelled, (B,).

    Args:
        points: (B, K, 2), finite.
        labelled: (B, K).
        keypoints: with a torso.
    """
    pairs = [(points[:, a] - points[:, b]).norm(dim=-1) for a, b in keypoints.torso]
    joints = sorted({index for pair in keypoints.torso for index in pair})
    return torch.stack(pairs).amax(0), labelled[:, joints].all(1)


def _likelihood_loss(squared: Tensor, log_variance: Tensor, known: Tensor) -> Tensor:
    """½ d² e^−s + ½ s, mean over what is known of all images; zero where nothing is."""
    terms = 0.5 * (squared * torch.exp(-log_variance) + log_variance)
    return torch.where(known, terms, 0.0).sum() / known.sum().clamp(min=1)


def _bounded(log_variance: Tensor) -> Tensor:
    """Within ± _WIDEST, and unlike a clamp with a gradient everywhere."""
    return _WIDEST * torch.tanh(log_variance.float() / _WIDEST)


def _apart(truth: Truth) -> Tensor:
    """(B, K, 2): from what is predicted to what is labelled; zero where nothing is."""
    return _blank(truth) - truth.predicted * truth.labelled[..., None]


def _blank(truth: Truth) -> Tensor:
    """The labelled points with zeros elsewhere: what stands there may be a NaN."""
    return torch.where(truth.labelled[..., None], truth.points, 0.0).float()
