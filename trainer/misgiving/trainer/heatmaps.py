"""Heatmaps: encode and decode side by side, and the free scores that they carry.

Axes: B batch, K keypoints, H W heatmap cells. Points are in heatmap cells, continuous: the
centre of the first cell is (0.5, 0.5). Everything here also traces into the exported graph.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

PEAK_SCALE = 30.0
"""The paper's targets peak at 30; ours at 1, and losses are given in the paper's units."""

SIGNALS = ("mean_peak", "min_peak", "entropy", "multi_peak_entropy")
SAFER_SIGNALS = frozenset(
    {"mean_peak", "min_peak", "mean_confidence", "min_confidence", "presence"}
)
"""Signals that are higher where the network is surer, foreign nets' among them; the others are
higher where it is not."""

_FLOOR = 1e-6
_PEAK_DISTANCE = 5
_MAX_PEAKS = 5


def encode(points: Tensor, labelled: Tensor, size: int, sigma: float) -> Tensor:
    """Draw one Gaussian a joint at its sub-pixel place, peak 1.

    Args:
        points: (B, K, 2), x and y in cells.
        labelled: (B, K) bool; the map of a joint that is not labelled is zero.
        size: H = W.
        sigma: standard deviation in cells.

    Returns:
        (B, K, H, W) float32 on the points' device.
    """
    centres = torch.arange(size, device=points.device, dtype=torch.float32) + 0.5
    spread = -0.5 / sigma**2
    # What stands for the place of an unlabelled joint may be a NaN.
    points = torch.where(labelled[..., None], points.float(), 0.0)
    along_x = torch.exp(spread * (centres - points[..., :1]) ** 2)
    along_y = torch.exp(spread * (centres - points[..., 1:]) ** 2) * labelled[..., None]
    return along_y[..., :, None] * along_x[..., None, :]


def decode(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Find each map's peak, to a fraction of a cell.

    The parabola through the logarithms of the peak and its two neighbours, in x and in y, is
    exact for a Gaussian; the shift is at most half a cell.

    Args:
        heatmaps: (B, K, H, W).

    Returns:
        points (B, K, 2) in cells, and peaks (B, K), the largest value of each map.
    """
    height, width = heatmaps.shape[-2:]
    flat = heatmaps.flatten(2)
    peaks, at = highest(heatmaps)
    row = at // width
    cell = torch.stack([at - row * width, row], dim=-1)
    last, step = at.new_tensor([width - 1, height - 1]), at.new_tensor([1, width])
    beside = torch.cat([at[..., None] - step, at[..., None] + step], dim=-1)
    near = flat.gather(-1, beside.clamp(0, flat.shape[-1] - 1))
    low, high = torch.log(near.clamp(min=_FLOOR)).chunk(2, dim=-1)
    bend = 2 * torch.log(peaks.clamp(min=_FLOOR))[..., None] - low - high
    shift = 0.5 * (high - low) / bend.clamp(min=_FLOOR)
    inner = (cell > 0) & (cell < last)
    return cell + 0.5 + torch.where(inner, shift.clamp(-0.5, 0.5), 0.0), peaks


def highest(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """The largest value of each map (B, K, H, W), and its place in the flattened map, (B, K) both.

    Row by row, then along the highest one: ONNX Runtime looks at each cell four times as fast so.
    """
    peaks, row = heatmaps.amax(3).max(dim=2)
    width = heatmaps.shape[3]
    along = heatmaps.gather(2, row[..., None, None].expand(-1, -1, 1, width))[:, :, 0]
    return peaks, row * width + along.argmax(dim=2)


def observed_loss(heatmaps: Tensor, targets: Tensor, labelled: Tensor) -> Tensor:
    """Each image's own loss: mean squared error of the labelled joints' maps, over all stacks.

    In the paper's units (targets that peak at 30): a joint that the network leaves out costs
    about 2.1 at sigma 1.75 and 64 × 64 cells, one that it puts elsewhere twice that.

    Args:
        heatmaps: (B, stacks, K, H, W).
        targets: (B, K, H, W), peak 1.
        labelled: (B, K).

    Returns:
        (B,) float32; zero where no joint is labelled.
    """
    errors = (heatmaps.float() - targets[:, None]).square().mean(dim=(1, 3, 4))
    weights = labelled.float()
    return PEAK_SCALE**2 * (errors * weights).sum(1) / weights.sum(1).clamp(min=1)


def signals(heatmaps: Tensor, peaks: Tensor) -> Tensor:
    """The free scores of (B, K, H, W) maps with (B, K) peaks, in SIGNALS' order: (B, 4)."""
    return torch.stack(
        [peaks.mean(1), peaks.amin(1), entropy(heatmaps), multi_peak_entropy(heatmaps)], dim=1
    )


def entropy(heatmaps: Tensor) -> Tensor:
    """Mean over joints of the entropy of a map's positive part, over its largest value log HW."""
    # The floor spreads a map without a positive value evenly: no answer is not a certain one.
    mass = heatmaps.clamp(min=_FLOOR).flatten(2)
    whole = mass.sum(-1)
    entropies = torch.log(whole) - (mass * torch.log(mass)).sum(-1) / whole
    return entropies.mean(1) / math.log(mass.shape[-1])


def multi_peak_entropy(heatmaps: Tensor) -> Tensor:
    """Liu & Ferrari (ICCV 2017): entropy of the softmax over a map's peaks, summed over joints.

    At most five local maxima, at least five cells apart, as in the paper authors' code, but of
    any height: a threshold would call a map without answer certain. Peaks in the paper's units.
    """
    highest = _highest_near(heatmaps)
    values = torch.where(heatmaps == highest, heatmaps, -1e4).flatten(2)
    logits = PEAK_SCALE * values.topk(_MAX_PEAKS, dim=-1).values
    share = torch.softmax(logits, dim=-1)
    return -(share * torch.log(share.clamp(min=1e-12))).sum(-1).sum(1)


def _highest_near(maps: Tensor) -> Tensor:
    """Each cell's largest value at most _PEAK_DISTANCE cells away along each axis.

    On a CPU torch's max_pool2d takes 19 times as long as the shifted maxima, whose bits are the
    same; ONNX Runtime's takes a third of their time.
    """
    if torch.compiler.is_exporting():
        size = 2 * _PEAK_DISTANCE + 1
        return functional.max_pool2d(maps, size, stride=1, padding=_PEAK_DISTANCE)
    maps = functional.pad(maps, (_PEAK_DISTANCE,) * 4, mode="replicate")
    for axis in (-2, -1):
        reach, size = 1, 2 * _PEAK_DISTANCE + 1
        while reach < size:  # the largest of two windows that touch or overlap is that of both
            step = min(reach, size - reach)
            count = maps.shape[axis] - step
            maps = torch.maximum(maps.narrow(axis, 0, count), maps.narrow(axis, step, count))
            reach += step
    return maps
