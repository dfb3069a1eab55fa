"""What a loss head learns: to rank pairs of images by the loss that was observed, or, as the
known-bad control, that loss itself.

Axes: B batch; P pairs. The ranking objectives take an even batch: image i is paired with image
i + B/2, as in the paper, or each image with each.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from misgiving.runtime.errors import InvalidInput

Pairs = Literal["halves", "all"]


def margin_ranking(
    predicted: Tensor, observed: Tensor, margin: float = 1.0, pairs: Pairs = "halves"
) -> Tensor:
    """Learning Loss (Yoo & Kweon, CVPR 2019; equation 1 of Shukla & Ahmed, 2021).

    Args:
        predicted: head output, (B,), unitless.
        observed: each image's loss, (B,); no gradient reaches it.
        margin: smallest accepted gap, in units of ``predicted``.
        pairs: ``halves``, P = B/2, or ``all``, P = B(B − 1)/2.

    Returns:
        Mean hinge over the pairs, shape (). A tie costs the margin and has no gradient.

    Raises:
        InvalidInput: B is odd or zero, or the shapes differ.
    """
    i, j = _pairs(predicted, observed, pairs)
    first, second = predicted[i], predicted[j]
    order = torch.sign(observed.detach()[i] - observed.detach()[j])
    return functional.relu(margin - order * (first - second)).mean()


def pairwise_kl(predicted: Tensor, observed: Tensor, pairs: Pairs = "halves") -> Tensor:
    """LearningLoss++ (equation 3 of Shukla & Ahmed, 2021): soft targets instead of a margin.

    The target is p = l_i / (l_i + l_j), the prediction q = softmax of the two outputs; the
    objective is KL(p ‖ q), smallest where the outputs differ by log(l_i / l_j).

    Args:
        predicted: head output, (B,), unitless.
        observed: each image's loss, (B,), at least 0; no gradient reaches it.
        pairs: as in :func:`margin_ranking`.

    Returns:
        Mean over the pairs, shape ().

    Raises:
        InvalidInput: B is odd or zero, or the shapes differ.
    """
    i, j = _pairs(predicted, observed, pairs)
    # Two perfect images make 0 / 0; the floor, far below any real loss, calls that a tie.
    pair = torch.stack([observed[i], observed[j]], 1).detach().clamp(min=1e-8)
    target = pair / pair.sum(1, keepdim=True)
    log_q = functional.log_softmax(torch.stack([predicted[i], predicted[j]], 1), dim=1)
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
    _check(predicted, observed)
    return functional.mse_loss(predicted, observed.detach())


def _pairs(predicted: Tensor, observed: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Positions of the first and of the second of each pair, (P,) both."""
    _check(predicted, observed)
    count, device = len(predicted), predicted.device
    if pairs == "all":
        first, second = torch.triu_indices(count, count, 1, device=device)
        return first, second
    first = torch.arange(count // 2, device=device)
    return first, first + count // 2


def _check(predicted: Tensor, observed: Tensor) -> None:
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
