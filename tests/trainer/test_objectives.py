"""The two objectives against numbers worked out by hand and against the paper's gradients."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.heads.objectives import margin_ranking, pairwise_kl, regression

F64 = torch.float64


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("predicted", "observed", "margin", "expected"),
    [
        # right order, gap beyond the margin: nothing to learn
        ((3.0, 1.0), (5.0, 2.0), 1.0, 0.0),
        # right order, gap within the margin: what lacks
        ((1.4, 1.0), (5.0, 2.0), 1.0, 0.6),
        # wrong order: margin and gap
        ((1.0, 3.0), (5.0, 2.0), 1.0, 3.0),
        # the observed losses decide the sign, not their size
        ((1.0, 3.0), (2.001, 2.0), 1.0, 3.0),
        # a tie costs the margin, whatever is predicted
        ((9.0, -9.0), (2.0, 2.0), 1.0, 1.0),
        # another margin
        ((1.4, 1.0), (5.0, 2.0), 0.5, 0.1),
        # figure 2 of the paper: 6 and 3 predicted, in either order
        ((6.0, 3.0), (2.0, 1.0), 1.0, 0.0),
        ((6.0, 3.0), (1.0, 2.0), 1.0, 4.0),
        # two pairs (0, 2) and (1, 3): the mean of 0 and 3
        ((3.0, 1.0, 1.0, 3.0), (5.0, 5.0, 2.0, 2.0), 1.0, 1.5),
    ],
)
def test_margin_by_hand(
    predicted: tuple[float, ...], observed: tuple[float, ...], margin: float, expected: float
) -> None:
    loss = margin_ranking(vector(*predicted), vector(*observed), margin)
    assert loss.shape == ()
    assert float(loss) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("gap", "first", "second"),
    [
        (0.0, 1.0, 3.0),  # undecided
        (-math.log(3), 1.0, 3.0),  # exactly the log of the ratio: zero
        (2.0, 1.0, 3.0),  # wrong order
        (-9.0, 1.0, 3.0),  # far too sure
        (0.0, 2.0, 2.0),  # a tie, recognised
        (0.7, 2.0, 2.0),  # a tie, not recognised
    ],
)
def test_kl_by_hand(gap: float, first: float, second: float) -> None:
    p, q = first / (first + second), sigmoid(gap)
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    loss = pairwise_kl(vector(gap + 4.0, 4.0), vector(first, second))
    assert loss.shape == ()
    assert float(loss) == pytest.approx(expected, abs=1e-12)


def test_regression_by_hand() -> None:
    loss = regression(vector(1.0, 2.0, 3.0, 4.0), vector(1.0, 1.0, 5.0, 4.0))
    assert loss.shape == ()
    assert float(loss) == pytest.approx((0 + 1 + 4 + 0) / 4)


def test_regression_leaves_the_observed_loss_alone() -> None:
    predicted, observed = vector(1.0, 2.0).requires_grad_(), vector(3.0, 3.0).requires_grad_()
    regression(predicted, observed).backward()
    assert observed.grad is None
    assert predicted.grad is not None
    assert predicted.grad.tolist() == pytest.approx([-2.0, -1.0])


def test_kl_is_the_mean_over_pairs() -> None:
    """Not over the 2 · B/2 terms, which would be half of it."""
    one = pairwise_kl(vector(1.0, 0.0), vector(1.0, 3.0))
    other = pairwise_kl(vector(-2.0, 0.0), vector(1.0, 3.0))
    both = pairwise_kl(vector(1.0, -2.0, 0.0, 0.0), vector(1.0, 1.0, 3.0, 3.0))
    assert float(both) == pytest.approx(float(one + other) / 2)


@pytest.mark.parametrize("objective", [margin_ranking, pairwise_kl])
def test_image_i_is_paired_with_i_plus_half(objective: type) -> None:
    """Only the predictions of a pair whose order is wrong get a gradient."""
    # Pairs (0, 2) and (1, 3); with (0, 1) and (2, 3), or (0, 3) and (1, 2), others would move.
    predicted = vector(math.log(4), math.log(2), math.log(1), math.log(9)).requires_grad_()
    objective(predicted, vector(4.0, 6.0, 1.0, 3.0)).backward()
    assert predicted.grad is not None
    if objective is pairwise_kl:
        assert predicted.grad[[0, 2]].abs().max() < 1e-12  # log 4 / 1 already
    else:
        assert predicted.grad[[0, 2]].abs().max() == 0  # log 4 is beyond the margin of 1
    assert predicted.grad[1] < -0.1  # image 1 has the higher loss and must rise
    assert float(predicted.grad[3]) == pytest.approx(-float(predicted.grad[1]))


@pytest.mark.parametrize("objective", [margin_ranking, pairwise_kl])
@pytest.mark.parametrize("count", [2, 4, 8])
def test_all_pairs_are_the_mean_over_each_pair_alone(objective: type, count: int) -> None:
    rng = np.random.default_rng(count)
    predicted, observed = vector(*rng.normal(size=count)), vector(*rng.gamma(2, size=count))
    alone = [
        objective(predicted[[i, j]], observed[[i, j]])
        for i in range(count)
        for j in range(i + 1, count)
    ]
    torch.testing.assert_close(
        objective(predicted, observed, pairs="all"), torch.stack(alone).mean()
    )
    halves = [
        objective(predicted[i :: count // 2], observed[i :: count // 2]) for i in range(count // 2)
    ]
    torch.testing.assert_close(objective(predicted, observed), torch.stack(halves).mean())


@pytest.mark.parametrize("objective", [margin_ranking, pairwise_kl])
def test_no_gradient_reaches_the_observed_loss(objective: type) -> None:
    observed = vector(4.0, 6.0, 1.0, 9.0).requires_grad_()
    predicted = vector(0.1, 0.2, 0.3, 0.4).requires_grad_()
    objective(predicted, observed).backward()
    assert observed.grad is None
    assert predicted.grad is not None
    assert predicted.grad.abs().sum() > 0


def test_a_tie_has_no_margin_gradient() -> None:
    predicted = vector(9.0, -9.0).requires_grad_()
    margin_ranking(predicted, vector(2.0, 2.0)).backward()
    assert predicted.grad is not None
    assert predicted.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("observed", "predicted", "coefficient"),
    [
        # figure 1 of the paper, images a and b: nearly a tie, nearly no gradient
        ((0.45, 0.47), (1.48, 1.51), 0.0034),
        # images a and c: far apart
        ((0.45, 2.87), (1.48, 1.63), 0.3270),
    ],
)
def test_figure_1(
    observed: tuple[float, float], predicted: tuple[float, float], coefficient: float
) -> None:
    soft, hard = vector(*predicted).requires_grad_(), vector(*predicted).requires_grad_()
    pairwise_kl(soft, vector(*observed)).backward()
    margin_ranking(hard, vector(*observed)).backward()
    assert soft.grad is not None
    assert hard.grad is not None
    assert float(soft.grad[0]) == pytest.approx(coefficient, abs=5e-5)
    assert float(hard.grad[0]) == 1.0  # the margin pulls as hard at a tie as at a gulf


@pytest.mark.parametrize("ratio", [0.2, 1.0, 7.0])
def test_kl_is_least_at_the_log_ratio(ratio: float) -> None:
    gaps = np.linspace(-4, 4, 1601)
    losses = [float(pairwise_kl(vector(gap, 0.0), vector(ratio, 1.0))) for gap in gaps]
    assert gaps[int(np.argmin(losses))] == pytest.approx(math.log(ratio), abs=0.0051)
    assert min(losses) == pytest.approx(0.0, abs=1e-4)


def test_kl_does_not_know_the_scale_of_a_loss() -> None:
    predicted = vector(0.3, -1.0, 0.8, 2.0)
    observed = vector(1.0, 2.0, 3.0, 4.0)
    assert float(pairwise_kl(predicted, observed)) == pytest.approx(
        float(pairwise_kl(predicted, 1000 * observed))
    )


@pytest.mark.parametrize(
    ("observed", "target"),
    [
        ((0.0, 0.0), 0.5),  # two perfect images: a tie, not 0 / 0
        ((0.0, 2.0), 0.0),  # one perfect image
        ((2.0, 0.0), 1.0),
    ],
)
def test_perfect_images_make_no_nan(observed: tuple[float, float], target: float) -> None:
    predicted = vector(0.3, 0.1).requires_grad_()
    loss = pairwise_kl(predicted, vector(*observed))
    loss.backward()
    assert torch.isfinite(loss)
    assert predicted.grad is not None
    assert float(predicted.grad[0]) == pytest.approx(sigmoid(0.2) - target, abs=1e-7)


@pytest.mark.parametrize("objective", [margin_ranking, pairwise_kl])
@pytest.mark.parametrize(
    ("predicted", "observed"),
    [
        ((0,), (0,)),  # nothing
        ((1,), (1,)),  # nobody to be paired with
        ((3,), (3,)),  # odd
        ((4,), (2,)),  # two lengths
        ((4, 1), (4, 1)),  # a forgotten axis
        ((), ()),  # scalars
    ],
)
def test_shapes_that_cannot_be_paired(
    objective: type, predicted: tuple[int, ...], observed: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidInput, match=r"expected two vectors of one even length") as error:
        objective(torch.zeros(predicted), torch.zeros(observed))
    assert str(predicted) in str(error.value)
    assert "\n" not in str(error.value)
