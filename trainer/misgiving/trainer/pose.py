"""What every pose net gives: heatmaps, and the feature pyramid that loss heads read.

Axes: B batch, C channels, K keypoints, H W heatmap cells.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer import heatmaps


class PoseOutput(NamedTuple):
    """What a pose net gives; everything but the heatmaps is of its last stack."""

    heatmaps: Tensor
    """(B, stacks, K, H, W), targets peak at 1."""
    features: Tensor
    """(B, C, H, W), the map from which the heatmaps are read, by ``PoseNet.read_out``."""
    pyramid: tuple[Tensor, ...]
    """From the finest to the coarsest, each as its ``Level`` says."""
    points: Tensor | None = None
    """(B, K, 2) in cells, of a net that regresses coordinates and draws its heatmaps there."""
    found: tuple[Tensor, Tensor] | None = None
    """What ``decoded`` gives, once it has been asked for; no gradient reaches it."""
    evidence: Tensor | None = None
    """(B, E) of a foreign net, whose outputs tell it; None where the heatmaps do."""
    signals: Tensor | None = None
    """(B, S) of a foreign net, by ``PoseNet.signals``; None where the heatmaps tell."""

    def decoded(self) -> tuple[Tensor, Tensor]:
        """Each joint's place and peak in the last stack; see ``heatmaps.decode``."""
        return self.found or heatmaps.decode(self.heatmaps[:, -1].detach().float())


class Level(NamedTuple):
    """One scale of the pyramid: maps (B, channels, size, size)."""

    channels: int
    size: int


class PoseNet(nn.Module):
    """Normalised images (B, 3, input_size, input_size) → PoseOutput."""

    mean: tuple[float, float, float] = (123.7, 116.3, 103.5)
    """Of red, green and blue in 0–255, taken off each pixel; ``std`` divides what is left."""
    std: tuple[float, float, float] = (58.4, 57.1, 57.4)
    signals: tuple[str, ...] = heatmaps.SIGNALS
    """Names of the free scores."""

    def __init__(self, channels: int, levels: Sequence[Level]) -> None:
        """
        Args:
            channels: of ``features``.
            levels: of ``pyramid``, each smaller than the one before.
        """
        super().__init__()
        self.channels = channels
        self.levels = tuple(levels)

    def training_loss(
        self, output: PoseOutput, observed: Tensor, points: Tensor, labelled: Tensor
    ) -> Tensor:
        """What this net is trained on, (); the mean observed loss, unless a net says otherwise.

        Args:
            output: of this net.
            observed: (B,), of its heatmaps; see ``heatmaps.observed_loss``.
            points: (B, K, 2), the true ones, in cells.
            labelled: (B, K) bool; a point that is not labelled may be anything.
        """
        return observed.mean()

    def evidence_size(self, keypoints: int) -> int:
        """How many numbers the evidence has; ours is each heatmap's peak and its logit."""
        return 2 * keypoints

    def first_blocks(self, count: int) -> nn.Module:
        """The stem and so many first blocks, which a training may leave as they are.

        Raises:
            InvalidInput: this net has no such blocks, or less.
        """
        if count:
            raise InvalidInput(
                f"frozen_blocks is {count}; expected 0, only the net lite has a pretrained trunk"
            )
        return nn.Sequential()

    @property
    def read_out(self) -> nn.Conv2d:
        """The 1 × 1 convolution that makes the last stack's heatmaps of ``features``.

        Raises:
            InvalidInput: this net has none.
        """
        raise InvalidInput(
            "this pose net does not read its heatmaps from its features by one convolution, which "
            "dropout, mc_dropout and egl work on; choose another net"
        )
