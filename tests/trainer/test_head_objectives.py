"""Objectives that are no ranking: against loops over joints and links, and in training."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.keypoints import COCO, LSP, MPII, KeypointSet
from misgiving.trainer import heatmaps
from misgiving.trainer.answers.scoring import score
from misgiving.trainer.config import HeadConfig
from misgiving.trainer.data.crops import load_crops
from misgiving.trainer.fit import EpochLog, fit
from misgiving.trainer.heads.head_objectives import OBJECTIVES, Truth, make_objective
from misgiving.trainer.models import Network
from shared.training import STILL, TINY, TINY_MODEL, people

B, K, SIZE = 4, 3, 16
CHAIN = KeypointSet(name="chain", names=("a", "b", "c"), skeleton=((0, 1), (1, 2)), torso=())
FIT = TINY.fit
ALEATORIC = HeadConfig(kind="gap", objective="aleatoric")
LINKS = HeadConfig(kind="conv", objective="links")
MISS = HeadConfig(kind="evidence", objective="miss")


def drawn(seed: int = 0, labelled: Tensor | None = None) -> tuple[Truth, Tensor]:
    """A step's truth, with NaN where nothing is labelled, and the predicted points."""
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.rand(B, K, 2, generator=generator) * 10 + 3
    points = torch.rand(B, K, 2, generator=generator) * 10 + 3
    known = torch.rand(B, K, generator=generator) < 0.6 if labelled is None else labelled
    maps = heatmaps.encode(predicted, torch.ones(B, K, dtype=torch.bool), SIZE, 1.5)
    hidden = torch.where(known[..., None], points, math.nan)
    found = heatmaps.decode(maps)[0]
    return Truth(torch.rand(B, generator=generator), found, hidden, known, SIZE), predicted


def outputs_of(count: int, seed: int = 1) -> Tensor:
    return torch.randn(B, count, generator=torch.Generator().manual_seed(seed))


def bounded(s: float) -> float:
    return 8 * math.tanh(s / 8)


def slow_aleatoric(outputs: Tensor, truth: Truth, predicted: Tensor) -> float:
    terms = []
    for image in range(B):
        for joint in range(K):
            if truth.labelled[image, joint]:
                s = bounded(float(outputs[image, joint]))
                apart = math.dist(predicted[image, joint], truth.points[image, joint])
                terms.append(0.5 * apart**2 * math.exp(-s) + 0.5 * s)
    return sum(terms) / len(terms)


def slow_links(outputs: Tensor, truth: Truth) -> float:
    terms = []
    for image in range(B):
        for link, (a, b) in enumerate(CHAIN.skeleton):
            if truth.labelled[image, a] and truth.labelled[image, b]:
                mean, s = float(outputs[image, link]), bounded(float(outputs[image, 2 + link]))
                length = math.dist(truth.points[image, a], truth.points[image, b])
                terms.append(0.5 * (mean - length) ** 2 * math.exp(-s) + 0.5 * s)
    return sum(terms) / len(terms)


@pytest.mark.parametrize("seed", range(4))
def test_aleatoric_against_a_loop(seed: int) -> None:
    truth, predicted = drawn(seed)
    objective, outputs = make_objective(ALEATORIC, CHAIN), outputs_of(K)
    assert objective.outputs == K
    loss = float(objective.loss(outputs, truth, FIT))
    assert loss == pytest.approx(slow_aleatoric(outputs, truth, predicted), rel=1e-3)
    expected = [sum(map(bounded, row)) / K for row in outputs.tolist()]
    assert objective.risk(outputs, truth.predicted).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_links_against_a_loop(seed: int) -> None:
    truth, predicted = drawn(seed)
    truth.labelled[0] = True  # else a seed may label no link at all
    truth.points[0] = predicted[0] + 1.0
    objective, outputs = make_objective(LINKS, CHAIN), outputs_of(4)
    assert objective.outputs == 4
    assert float(objective.loss(outputs, truth, FIT)) == pytest.approx(
        slow_links(outputs, truth), rel=1e-5
    )
    for image, risk in enumerate(objective.risk(outputs, truth.predicted).tolist()):
        log_likelihood = 0.0
        for link, (a, b) in enumerate(CHAIN.skeleton):
            mean, s = float(outputs[image, link]), bounded(float(outputs[image, 2 + link]))
            length = math.dist(predicted[image, a], predicted[image, b])
            density = math.exp(-0.5 * (length - mean) ** 2 / math.exp(s))
            log_likelihood += math.log(density / math.sqrt(2 * math.pi * math.exp(s)))
        assert risk == pytest.approx(-log_likelihood, rel=1e-3)


@pytest.mark.parametrize("head", [ALEATORIC, LINKS, MISS], ids=lambda head: head.objective)
@pytest.mark.parametrize(
    "value",
    [0.0, 1e3, -1e3],  # a log-variance far out: exp of it would overflow
)
def test_nothing_labelled_and_outputs_far_out_make_no_nan(head: HeadConfig, value: float) -> None:
    for labelled in (torch.zeros(B, K, dtype=torch.bool), torch.ones(B, K, dtype=torch.bool)):
        truth, _ = drawn(labelled=labelled)
        objective = make_objective(head, CHAIN)
        outputs = torch.full((B, objective.outputs), value, requires_grad=True)
        loss = objective.loss(outputs, truth, FIT)
        loss.backward()
        assert torch.isfinite(loss)
        assert outputs.grad is not None
        assert torch.isfinite(outputs.grad).all()
        assert torch.isfinite(objective.risk(outputs, truth.predicted)).all()
        if not labelled.any():
            assert float(loss.detach()) == 0.0
            assert not outputs.grad.any()


def test_a_link_with_one_labelled_end_teaches_nothing() -> None:
    truth, _ = drawn(labelled=torch.tensor([[True, False, True]] * B))
    outputs = outputs_of(4)
    assert float(make_objective(LINKS, CHAIN).loss(outputs, truth, FIT)) == 0.0


@pytest.mark.parametrize(
    ("keypoints", "links"),
    [(LSP, 14), (COCO, 19), (MPII, 15)],
    ids=lambda value: getattr(value, "name", None),
)
def test_outputs_of_the_known_sets(keypoints: KeypointSet, links: int) -> None:
    assert make_objective(LINKS, keypoints).outputs == 2 * links
    assert make_objective(ALEATORIC, keypoints).outputs == len(keypoints)
    assert make_objective(MISS, keypoints).outputs == len(keypoints)


TORSO = CHAIN.model_copy(update={"torso": ((0, 1),)})


def slow_miss(outputs: Tensor, truth: Truth, predicted: Tensor, keypoints: KeypointSet) -> float:
    terms = []
    for image in range(B):
        torso = 0.35 * SIZE
        if keypoints.torso and truth.labelled[image, :2].all():
            torso = max(1.0, math.dist(truth.points[image, 0], truth.points[image, 1]))
        for joint in range(K):
            if truth.labelled[image, joint]:
                apart = math.dist(predicted[image, joint], truth.points[image, joint]) / torso
                target = apart**4 / (apart**4 + 0.2**4)
                p = 1 / (1 + math.exp(-float(outputs[image, joint])))
                terms.append(-target * math.log(p) - (1 - target) * math.log(1 - p))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("keypoints", [CHAIN, TORSO], ids=["no torso", "torso"])
@pytest.mark.parametrize("seed", range(4))
def test_miss_against_a_loop(seed: int, keypoints: KeypointSet) -> None:
    truth, predicted = drawn(seed)
    outputs = outputs_of(K)
    got = float(make_objective(MISS, keypoints).loss(outputs, truth, FIT))
    assert got == pytest.approx(slow_miss(outputs, truth, predicted, keypoints), rel=1e-3)


def test_the_risk_is_the_expected_share_of_missed_joints() -> None:
    objective = make_objective(MISS, CHAIN)
    outputs = torch.tensor([[-50.0, 50.0, 0.0], [50.0, 50.0, 50.0]])
    assert objective.risk(outputs, torch.zeros(2, K, 2)).tolist() == [0.5, 1.0]
    each = objective.keypoint_risk(outputs)
    assert each is not None
    torch.testing.assert_close(each, torch.tensor([[0.0, 1.0, 0.5], [1.0, 1.0, 1.0]]))


@pytest.mark.parametrize("head", [LINKS, HeadConfig(kind="gap", objective="kl")], ids=str)
def test_heads_that_do_not_tell_joints_apart(head: HeadConfig) -> None:
    objective = make_objective(head, CHAIN)
    assert objective.keypoint_risk(torch.zeros(B, objective.outputs)) is None


def test_a_set_without_skeleton() -> None:
    bare = KeypointSet(name="bare", names=("a", "b"), skeleton=(), torso=())
    message = r"head is 'conv-links', but keypoint set 'bare' has no skeleton; expected links"
    with pytest.raises(InvalidInput, match=message) as error:
        Network(replace(TINY_MODEL, heads=(LINKS,)), bare)
    assert "\n" not in str(error.value)


def test_each_objective_of_a_configuration_is_there() -> None:
    names = HeadConfig.__annotations__["objective"].__args__
    assert tuple(OBJECTIVES) == names


@pytest.fixture(scope="module")
def trained() -> tuple[Network, list[EpochLog]]:
    """Every trunk with both objectives, on a pose net that hardly moves."""
    heads = tuple(
        HeadConfig(kind=kind, objective=objective)
        for kind in ("gap", "conv", "levels", "evidence")
        for objective in ("aleatoric", "links", "miss")
    )
    recipe = replace(
        TINY,
        model=replace(TINY.model, heads=heads),
        fit=replace(TINY.fit, learning_rate=1e-12, head_learning_rate=1e-2, weight_decay=0.0),
        augment=STILL,
    )
    crops = load_crops(people(1, 48), recipe.model.crop, torch.device("cpu"), range(16))
    torch.manual_seed(0)
    network, logs = Network(recipe.model, LSP), []
    fit(network, recipe, crops, 25, logs.append)
    return network, logs


def test_they_learn(trained: tuple[Network, list[EpochLog]]) -> None:
    _, logs = trained
    for name, first in logs[0].head_losses.items():
        last = logs[-1].head_losses[name]
        assert math.isfinite(last)
        assert last < 0.2 * first, name


def test_link_lengths_come_out_in_cells(trained: tuple[Network, list[EpochLog]]) -> None:
    network, _ = trained
    data = people(1, 48)
    crops = load_crops(data, network.config.crop, torch.device("cpu"), range(16))
    points = crops.points / network.config.stride
    first, second = zip(*LSP.skeleton, strict=True)
    lengths = (points[:, list(first)] - points[:, list(second)]).norm(dim=-1).mean(0)
    images = torch.nn.functional.interpolate(crops.images.float(), size=(32, 32))
    with torch.no_grad():
        outputs = network(images).head_outputs["gap-links"]
    means = outputs[:, : len(LSP.skeleton)].mean(0)
    assert np.corrcoef(means, lengths)[0, 1] > 0.7


def test_scores_hold_their_risks(trained: tuple[Network, list[EpochLog]]) -> None:
    network, _ = trained
    recipe = replace(TINY, model=network.config)
    scores = score(network, recipe, people(7, 5), torch.device("cpu"))
    assert list(scores.predicted_losses) == list(network.heads)
    for name, risks in scores.predicted_losses.items():
        assert risks.shape == (5,), name
        assert np.isfinite(risks).all(), name
        assert risks.std() > 0, name
    assert scores.keypoint_loss.shape == (5, len(LSP))  # the first head's: gap-aleatoric
    np.testing.assert_allclose(scores.keypoint_loss.mean(1), scores.predicted_loss, rtol=1e-5)
