"""What a loss head learns: to rank pairs of images by the loss that was observed, or, as the
known-bad control, that loss itself.

Axes: B batch, even; image i is paired with image i + B/2, as in the paper.
"""

import torch
from torch import Tensor
from torch.nn import functional

from misgiving.runtime.errors import InvalidInput


def margin_ranking(predicted: Tensor, observed: Tensor, margin: float = 1.0) -> Tensor:
    """Learning Loss (Yoo & Kweon, CVPR 2019; equation 1 of Shukla & Ahmed, 2021).

    Args:
        predicted: head output, (B,), unitless.
        observed: each image's loss, (B,); no gradient reaches it.
        margin: smallest accepted gap, in units of ``predicted``.

    Returns:
        Mean hinge over the B/2 pairs, shape (). A tie costs the margin and has no gradient.

    Raises:
        InvalidInput: B is odd or zero, or the shapes differ.
    """
    first, second = _pairs(predicted, observed)
    order = torch.sign(observed.detach()[: len(first)] - observed.detach()[len(first) :])
    return functional.relu(margin - order * (first - second)).mean()


def pairwise_kl(predicted: Tensor, observed: Tensor) -> Tensor:
    """LearningLoss++ (equation 3 of Shukla & Ahmed, 2021): soft targets instead of a margin.

    The target is p = l_i / (l_i + l_j), the prediction q = softmax of the two outputs; the
    objective is KL(p ‖ q), smallest where the outputs differ by log(l_i / l_j).

    Args:
        predicted: head output, (B,), unitless.
        observed: each image's loss, (B,), at least 0; no gradient reaches it.

    Returns:
        Mean over the B/2 pairs, shape ().

    Raises:
        InvalidInput: B is odd or zero, or the shapes differ.
    """
    first, second = _pairs(predicted, observed)
    # Two perfect images make 0 / 0; the floor, far below any real loss, calls that a tie.
    pair = torch.stack([observed[: len(first)], observed[len(first) :]], 1).detach().clamp(min=1e-8)
    target = pair / pair.sum(1, keepdim=True)
    log_q = functional.log_softmax(torch.stack([first, second], 1), dim=1)
    return functional.kl_div(log_q, target, reduction="batchmean")


def regression(predicted: Tensor, observed: Tensor) -> Tensor:
    """Mean squared error of the predicted loss: the control that Yoo & Kweon (2019) start from.

    Losses shrink while the pose net learns, so that the target moves; ranking does not mind.

    Args:
        predicted: head output, (B,), in units of ``observed``.
        observed: each image's loss, (B,); no gradient reaches it.

    Returns:
        Mean over the images, shape ().

    Raises:
        InvalidInput: the shapes differ, or B is odd or zero, as for the others.
    """
    _pairs(predicted, observed)
    return functional.mse_loss(predicted, observed.detach())


def _pairs(predicted: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    if (
        predicted.shape != observed.shape
        or predicted.ndim != 1
        or len(predicted) % 2
        or not len(predicted)
    ):
        raise InvalidInput(
            f"predicted is {tuple(predicted.shape)}, observed {tuple(observed.shape)}; "
            "expected two vectors of one even length. Drop the last image of the batch"
        )
    half = len(predicted) // 2
    return predicted[:half], predicted[half:]
