"""What a frozen pose net says of people, as far as the methods of ``referee_methods`` read it.

Axes: N persons, K joints, C channels of the pose net's features, I inputs of the evidence head,
H W heatmap cells. Points and lengths are in cells.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional

from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer import heatmaps
from misgiving.trainer.config import HeadConfig
from misgiving.trainer.heads.head_objectives import Truth, torso_lengths
from misgiving.trainer.heads.loss_heads import EvidenceHead
from misgiving.trainer.measures.metrics import PCK_THRESHOLD
from misgiving.trainer.models import Network, NetworkOutput
from misgiving.trainer.pose import PoseOutput

OURS = HeadConfig(kind="evidence", objective="miss")
USUAL_TORSO = 0.35
"""Of the heatmap's side; the median of LSP and LSPET. A crop is cut to its person's size."""
SPREAD = PCK_THRESHOLD / math.sqrt(2 * math.log(2))
"""Torso lengths: the standard deviation of a similarity that is ½ where PCK@0.2 begins to miss."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a pose net says of N persons, as far as the methods read it."""

    evidence: Tensor
    """(N, I): what the head ``evidence`` sees."""
    pooled: Tensor
    """(N, C): the embedding of a bundle."""
    local: Tensor
    """(N, K(C + 1)): the features at each joint's peak, and the peak."""
    energy: Tensor
    """(N,), see :func:`energy`."""
    expected: Tensor
    """(N, K), see :func:`expected_similarity`."""
    gradient: Tensor
    """(N, 2K, 2K), see :func:`gradient_covariance`."""
    cells: Tensor
    """(N, K, 2): the predicted points."""

    def __getitem__(self, rows: Tensor) -> "Facts":
        """Those of some persons."""
        return Facts(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Iterable["Facts"]) -> "Facts":
        """The parts' persons, one after another."""
        each = list(parts)
        return cls(*(torch.cat([getattr(p, f.name) for p in each]) for f in fields(cls)))


@dataclass(frozen=True, slots=True)
class Views:
    """Augmented training persons: what is said of them, and what is true."""

    facts: Facts
    points: Tensor
    """(N, K, 2), labelled."""
    labelled: Tensor
    """(N, K) bool."""
    astray: Tensor
    """(N,) bool: crops that miss their person; only what is defined there learns from them."""
    size: int
    """H = W."""

    def __getitem__(self, rows: Tensor) -> "Views":
        """Some of them."""
        points, labelled, astray = self.points[rows], self.labelled[rows], self.astray[rows]
        return Views(self.facts[rows], points, labelled, astray, self.size)

    def truth(self) -> Truth:
        """What our own objectives read."""
        no_loss = torch.zeros(len(self.points))
        return Truth(no_loss, self.facts.cells, self.points, self.labelled, self.size)


class Listener:
    """Keeps the facts of every batch that a network answers, whoever asks."""

    def __init__(self, network: Network) -> None:
        head = network.heads[OURS.name]
        assert isinstance(head, EvidenceHead)
        self.network, self.parts = network, list[Facts]()
        head.regressor.register_forward_pre_hook(self._sees)
        network.register_forward_hook(self._answers)

    def taken(self) -> Facts:
        """All since the last time."""
        facts = Facts.joined(self.parts)
        self.parts.clear()
        return facts

    def _sees(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        self._evidence = inputs[0].detach()

    def _answers(self, module: nn.Module, inputs: object, output: NetworkOutput) -> None:
        with torch.no_grad():
            self.parts.append(facts_of(self.network, output.pose, self._evidence))


def facts_of(network: Network, pose: PoseOutput, evidence: Tensor) -> Facts:
    """The facts of one batch."""
    maps, (cells, peaks) = pose.heatmaps[:, -1].float(), pose.decoded()
    return Facts(
        evidence=evidence,
        pooled=network.embed(pose),
        local=torch.cat([at_peaks(pose.features, cells).flatten(1), peaks], dim=1),
        energy=energy(maps),
        expected=expected_similarity(maps),
        gradient=gradient_covariance(maps, network.pose.read_out.weight.flatten(1)),
        cells=cells,
    )


def at_peaks(features: Tensor, cells: Tensor) -> Tensor:
    """(N, C, H, W), (N, K, 2) → (N, K, C)."""
    side = features.shape[-1]
    x, y = cells.long().clamp(0, side - 1).unbind(-1)
    at = (y * side + x)[:, None].expand(-1, features.shape[1], -1)
    return features.flatten(2).gather(2, at).mT


def energy(maps: Tensor) -> Tensor:
    """Free energy, −log Σ exp of the logits (Liu et al., NeurIPS 2020, temperature 1; one of the
    scores that arXiv 2603.15574 compares under a shift), mean over the joints.

    Simplified: there a classifier's logits are summed, and a pose net has none. Each heatmap stands
    for a classifier of cells, its values in the paper's units (peaks at 30) for the logits.

    (N, K, H, W) → (N,).
    """
    return -torch.logsumexp(heatmaps.PEAK_SCALE * maps.flatten(2), dim=2).mean(1)


def expected_similarity(maps: Tensor) -> Tensor:
    """The largest expected similarity of any answer, joint by joint (ProbPose, CVPR 2025): the map
    as probabilities of the joint's place, blurred by OKS' kernel; its maximum is what an answer
    there may expect.

    Simplified: ProbPose trains its map for this; here it is a map that learnt to be a Gaussian,
    without its negative part, over its sum. The kernel has one width for all joints, see SPREAD,
    and takes the person to be as large as usual in the crop.

    (N, K, H, W) → (N, K).
    """
    mass = maps.clamp(min=1e-6)
    share = (mass / mass.sum(dim=(2, 3), keepdim=True)).flatten(0, 1)[:, None]
    spread = SPREAD * USUAL_TORSO * maps.shape[-1]
    reach = math.ceil(3 * spread)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / spread) ** 2)[None, None, None]
    blurred = functional.conv2d(share, kernel, padding=(0, reach))
    blurred = functional.conv2d(blurred, kernel.mT, padding=(reach, 0))
    return blurred.amax(dim=(1, 2, 3)).view(maps.shape[:2])


def gradient_covariance(maps: Tensor, weights: Tensor) -> Tensor:
    """J Jᵀ, where J is the gradient of the soft-argmax of all joints by the features that the
    heatmaps are read from: how features that are a little off move the pose. The first term of
    TIC; see :class:`Covariance`.

    The heatmaps are a linear function of the features, so that no derivative needs autograd.

    (N, K, H, W), and the read-out's weights (K, C) → (N, 2K, 2K).
    """
    side = maps.shape[-1]
    share = torch.softmax(heatmaps.PEAK_SCALE * maps.flatten(2), dim=2)
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    places = torch.stack([x, y]).flatten(1)
    means = share @ places.T
    moves = heatmaps.PEAK_SCALE * share[:, :, None] * (places - means[..., None])
    moves = moves.flatten(1, 2)
    alike = (weights @ weights.T).repeat_interleave(2, 0).repeat_interleave(2, 1)
    covariance: Tensor = (moves @ moves.mT) * alike
    return covariance


def similarity(views: Views, keypoints: KeypointSet) -> Tensor:
    """The true similarity of each joint's answer, (N, K); anything where it is not labelled."""
    points = torch.where(views.labelled[..., None], views.points, 0.0)
    torso, known = torso_lengths(points, views.labelled, keypoints)
    torso = torch.where(known, torso, USUAL_TORSO * views.size).clamp(min=1.0)
    apart = (views.facts.cells - points).norm(dim=-1) / torso[:, None]
    return torch.exp(-0.5 * (apart / SPREAD) ** 2)
