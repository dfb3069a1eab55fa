"""A network as the samplers see it that ask it again: see ``samplers.base.NetworkView``.

Axes: B batch of the pool, N persons of the pool, M labelled, J neighbours, T networks, K keypoints,
C channels, H W heatmap cells.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer import heatmaps
from misgiving.trainer.config import Recipe
from misgiving.trainer.data.base import PoseSet, subset
from misgiving.trainer.data.crops import evaluation_crop
from misgiving.trainer.models import Network, PoseOutput
from misgiving.trainer.samplers.base import Floats, NetworkView

BATCH = 32
INJECTED_DROPOUT = 0.2
"""Share of the channels that are dropped in a network that was trained without dropout."""

Counted = Callable[[int, str], Iterable[int]]


def network_view(
    network: Network,
    recipe: Recipe,
    data: PoseSet,
    labelled: PoseSet,
    device: torch.device,
    members: Sequence[Network] = (),
    counted: Counted = lambda count, what: range(count),
) -> NetworkView:
    """Show a network to the samplers; nothing is read or computed before one asks.

    Args:
        network: the one that scored the pool; ``device`` is where it stays.
        recipe: gives the crop rule.
        data: the pool, in the order of the candidates.
        labelled: in the order of the labelled embeddings.
        device: where to compute.
        members: further networks of the committee, with the same crops and keypoints.
        counted: gives the positions below a count, and may show progress under a name.

    Raises:
        InvalidInput: a member has other crops or keypoints.
    """
    for member in members:
        if (member.config.crop, member.keypoints) != (network.config.crop, network.keypoints):
            raise InvalidInput(
                f"a member of the committee takes {_taken(member)}, the network "
                f"{_taken(network)}; expected the same. Train both with one recipe"
            )
    return _View(network, recipe, data, labelled, device, tuple(members), counted)


def _taken(network: Network) -> str:
    crop = network.config.crop
    return f"{crop.width} px with padding {crop.padding} and gives {network.keypoints.name}"


@dataclass(frozen=True, slots=True)
class _View:
    network: Network
    recipe: Recipe
    data: PoseSet
    labelled: PoseSet
    device: torch.device
    members: tuple[Network, ...]
    counted: Counted

    def thinned_points(self, networks: int, rng: np.random.Generator) -> Iterator[Floats]:
        """T thinned read-outs are one, with T times as many maps: one pass serves all."""
        pose, share = self.network.pose, self.network.config.dropout or INJECTED_DROPOUT
        kept = (rng.random((networks, 1, pose.channels)) >= share) / (1 - share)
        read_out = pose.read_out
        weight = read_out.weight.detach()[..., 0, 0]
        thin = (torch.from_numpy(kept).to(weight) * weight).flatten(0, 1)[..., None, None]
        bias = None if read_out.bias is None else read_out.bias.detach().repeat(networks)
        for images in self._images(self.data, "dropping out"):
            maps = functional.conv2d(_ask(self.network, images).features, thin, bias)
            by_network = maps.reshape(len(maps), networks, -1, *maps.shape[2:])
            yield _points(by_network.transpose(0, 1))

    def committee_points(self) -> Iterator[Floats]:
        """One pass for each member; in the first network's cells."""
        if not self.members:
            raise InvalidInput(
                "sampler committee found a network without further members; expected at least "
                "one. Train it again from another seed"
            )
        networks = (self.network, *self.members)
        own = self.network.config.stride
        for images in self._images(self.data, "asking the committee"):
            maps = (_ask(member, images).heatmaps[:, -1:].transpose(0, 1) for member in networks)
            cells = [
                _points(m) * (n.config.stride / own) for m, n in zip(maps, networks, strict=True)
            ]
            yield np.concatenate(cells)

    def gradient_lengths(self, labelled: NDArray[np.int64]) -> Iterator[Floats]:
        """Of the mean squared error of the last stack's maps, with respect to the read-out.

        The heatmaps are W F + b for features F, (C, HW). With the residual R = W F + b − target,
        (K, HW), the gradients are 2 / KHW times R Fᵀ and the row sums of R.
        """
        used, place = np.unique(labelled, return_inverse=True)
        targets = self._heatmaps(used)
        rows = torch.from_numpy(place.reshape(labelled.shape))
        start = 0
        for images in self._images(self.data, "gradients"):
            pose = _ask(self.network, images)
            chosen = rows[start : start + len(images)]
            start += len(images)
            pairs = zip(pose.features, pose.heatmaps[:, -1], chosen, strict=True)
            yield np.stack([_lengths(f, h, targets[which]) for f, h, which in pairs])

    def _heatmaps(self, positions: NDArray[np.int64]) -> Tensor:
        """The network's own, of some of the labelled, (·, K, H, W); half floats on the CPU."""
        chosen = subset(self.labelled, positions)
        parts = [
            _ask(self.network, images).heatmaps[:, -1].half().cpu()
            for images in self._images(chosen, "reading the labelled")
        ]
        return torch.cat(parts) if parts else torch.empty(0)

    def _images(self, data: PoseSet, what: str) -> Iterator[Tensor]:
        """(B, 3, H, W) in 0–255, cut as for scoring."""
        pending: list[NDArray[np.uint8]] = []
        for index in self.counted(len(data), what):
            pending.append(evaluation_crop(data[index], self.recipe.model.crop)[0])
            if len(pending) == BATCH or index + 1 == len(data):
                images = torch.from_numpy(np.stack(pending)).to(self.device)
                yield images.permute(0, 3, 1, 2).float()
                pending = []


def _ask(network: Network, images: Tensor) -> PoseOutput:
    """One pass in evaluation mode, without gradient; the network's own mode comes back."""
    network.to(images.device)
    with _evaluating(network), torch.no_grad():
        pose: PoseOutput = network.pose(network.normalise(images))
    return pose


@contextmanager
def _evaluating(network: Network) -> Iterator[None]:
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _points(maps: Tensor) -> Floats:
    """(T, B, K, H, W) → (T, B, K, 2) in cells, NaN where a map is."""
    points, peaks = heatmaps.decode(maps.flatten(0, 1).float())
    points = torch.where(peaks.isfinite()[..., None], points, torch.nan)
    cells: Floats = points.reshape(*maps.shape[:3], 2).cpu().numpy()
    return cells


def _lengths(features: Tensor, maps: Tensor, targets: Tensor) -> Floats:
    """(C, H, W), (K, H, W) and (J, K, H, W) → (J,)."""
    residual = (maps - targets.to(maps)).flatten(2) * (2 / maps.numel())
    by_weight = residual @ features.flatten(1).T
    squared = by_weight.square().sum((1, 2)) + residual.sum(2).square().sum(1)
    lengths: Floats = squared.cpu().numpy()
    return lengths
