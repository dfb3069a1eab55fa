"""The benchmark's methods against slow references, and on made-up persons."""

import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer import heatmaps
from misgiving.trainer.answers.scoring import score
from misgiving.trainer.measures.metrics import auroc
from misgiving.trainer.models import Network
from shared.training import CPU, NETS, TINY, people

N, K, SIZE, CHANNELS = 512, 4, 12, 5
SQUARE = KeypointSet(name="square", names=("a", "b", "c", "d"), skeleton=(), torso=((0, 2), (1, 3)))
PLACES = torch.tensor([[3.0, 3.0], [9.0, 3.0], [9.0, 9.0], [3.0, 9.0]])
TORSO = math.hypot(6, 6)


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return import_module("referee_facts")


@pytest.fixture
def methods(facts: Any) -> Any:
    return import_module("referee_methods")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def views_of(facts: Any, hardness: Tensor, labelled: Tensor | None = None) -> Any:
    """Persons whose joints are the farther off the harder they are, which every input tells."""
    apart = drawn(N, K, 2, seed=1) * hardness[:, None, None]
    told = torch.cat([hardness[:, None], drawn(N, 3, seed=2)], dim=1)
    known = torch.ones(N, K, dtype=torch.bool) if labelled is None else labelled
    said = facts.Facts(
        evidence=told,
        pooled=drawn(N, 3, seed=3) * hardness[:, None],
        local=told,
        energy=hardness,
        expected=torch.ones(N, K) / (1 + hardness[:, None]),
        gradient=torch.eye(2 * K).expand(N, -1, -1) * hardness.square()[:, None, None],
        cells=PLACES + apart,
    )
    astray = torch.arange(N) % 8 == 7
    points = torch.where(astray[:, None, None], PLACES + 2 * SIZE, PLACES)
    return facts.Views(said, torch.where(known[..., None], points, math.nan), known, astray, SIZE)


def test_gradient_covariance_is_that_of_autograd(facts: Any) -> None:
    features, weights = drawn(CHANNELS, SIZE, SIZE), drawn(K, CHANNELS, seed=1)

    def pose(features: Tensor) -> Tensor:
        maps = torch.einsum("kc,chw->khw", weights, features)
        share = torch.softmax(heatmaps.PEAK_SCALE * maps.flatten(1), 1).view(maps.shape)
        along = torch.arange(SIZE) + 0.5
        return torch.stack([share.sum(1) @ along, share.sum(2) @ along], dim=1).flatten()

    # Low enough maps that the softmax has more than one cell.
    features = features / 30
    jacobian = torch.autograd.functional.jacobian(pose, features).flatten(1)
    maps = torch.einsum("kc,chw->khw", weights, features)[None]
    found = facts.gradient_covariance(maps, weights)[0]
    torch.testing.assert_close(found, jacobian @ jacobian.T, rtol=1e-3, atol=1e-3)


def test_expected_similarity_is_that_of_every_answer_in_turn(facts: Any) -> None:
    maps = torch.rand(2, K, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) ** 8
    spread = facts.SPREAD * facts.USUAL_TORSO * SIZE
    places = [(y, x) for y in range(SIZE) for x in range(SIZE)]
    for person, joint in ((0, 0), (1, K - 1)):
        share = maps[person, joint] / maps[person, joint].sum()
        best = max(
            sum(
                float(share[at]) * math.exp(-0.5 * math.dist(at, answer) ** 2 / spread**2)
                for at in places
            )
            for answer in places
        )
        found = facts.expected_similarity(maps)[person, joint]
        assert found == pytest.approx(best, rel=0.02)  # the kernel ends at three deviations


def test_similarity_is_a_half_where_pck_begins_to_miss(facts: Any) -> None:
    views = views_of(facts, torch.zeros(N))
    views.facts.cells[:, 0, 0] += 0.2 * TORSO
    found = facts.similarity(views, SQUARE)[~views.astray]
    assert found[0].tolist() == pytest.approx([0.5, 1, 1, 1])


def test_energy_is_lower_where_a_map_has_a_peak(facts: Any) -> None:
    flat, peaked = torch.zeros(1, K, SIZE, SIZE), torch.zeros(1, K, SIZE, SIZE)
    peaked[..., 5, 5] = 1.0
    assert facts.energy(flat)[0] == pytest.approx(-math.log(SIZE**2))
    assert facts.energy(peaked)[0] == pytest.approx(-math.log(SIZE**2 - 1 + math.exp(30)))


def test_features_are_those_of_each_joints_own_peak(facts: Any) -> None:
    features = drawn(2, CHANNELS, SIZE, SIZE)
    cells = torch.tensor([[[0.2, 11.9], [5.5, 3.1]], [[12.0, 0.0], [7.0, 7.9]]])
    expected = [
        [features[0, :, 11, 0], features[0, :, 3, 5]],
        [features[1, :, 0, 11], features[1, :, 7, 7]],
    ]
    found = facts.at_peaks(features, cells)
    assert found.tolist() == [[one.tolist() for one in row] for row in expected]


def test_mahalanobis_is_numpys(facts: Any, methods: Any) -> None:
    views = views_of(facts, torch.linspace(0.1, 2, N))
    pooled = views.facts.pooled.double().numpy()
    covariance = np.cov(pooled.T)
    covariance += methods.RIDGE * covariance.diagonal().mean() * np.eye(3)
    apart = pooled - pooled.mean(0)
    expected = np.einsum("ni,ij,nj->n", apart, np.linalg.inv(covariance), apart)
    found = methods.Mahalanobis(views.facts.pooled).risk(views.facts)
    np.testing.assert_allclose(found.numpy(), expected)


def test_covariance_is_learnt_by_the_likelihood_of_labelled_joints(
    facts: Any, methods: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "EPOCHS", 1)
    labelled = torch.rand(N, K, generator=torch.Generator().manual_seed(4)) < 0.7
    views = views_of(facts, torch.linspace(0.1, 2, N), labelled)
    views = views[~views.astray]
    head = methods.Covariance(views, SQUARE, seed=0)
    outputs = drawn(len(views.points), head.outputs)
    whole = head.matrix(outputs, views.facts)
    total, count = 0.0, 0
    for person, known in enumerate(views.labelled.repeat_interleave(2, 1)):
        at = known.nonzero()[:, 0]
        apart = ((views.points - views.facts.cells)[person] / head.scale).flatten()[at]
        normal = torch.distributions.MultivariateNormal(
            torch.zeros(len(at)), whole[person][at][:, at], validate_args=False
        )
        constant = 0.5 * len(at) * math.log(2 * math.pi)
        total -= float(normal.log_prob(apart)) + constant if len(at) else 0.0
        count += len(at)
    assert float(head.loss(outputs, views)) == pytest.approx(total / count, rel=1e-4)


def test_every_method_tells_who_is_hard(
    facts: Any, methods: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "EPOCHS", 20)
    hardness = torch.rand(N, generator=torch.Generator().manual_seed(5)) * 4
    views = views_of(facts, hardness)
    asked = methods.risks(views, {"same": views.facts}, SQUARE, 0)["same"]
    assert set(asked) == {*methods.LEARNED, "Mahalanobis", "energy", "expected similarity"}
    for name, risk in asked.items():
        assert auroc(risk.double().numpy(), hardness.numpy() > 2) > 0.85, name


def test_presence_learns_where_persons_are_cut_off(
    facts: Any, methods: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "EPOCHS", 20)
    views = views_of(facts, torch.ones(N))
    views.facts.evidence[:, 0] = views.astray.float()
    head = methods.Presence(views, SQUARE, seed=0)
    inside = torch.sigmoid(head.head(views.facts.evidence)).mean(1)
    assert inside[views.astray].max() < 0.5 < inside[~views.astray].min()


def test_a_listener_keeps_the_facts_in_the_order_of_the_scores(facts: Any) -> None:
    model = replace(NETS["edge"], heads=(facts.OURS,))
    data, recipe = people(1, 20), replace(TINY, model=model)
    torch.manual_seed(0)
    network = Network(model, data.keypoints)
    listener = facts.Listener(network)
    scores = score(network, recipe, data, CPU.prepare())
    said = listener.taken()
    np.testing.assert_array_equal(said.pooled.numpy(), scores.embedding)
    joints = len(data.keypoints)
    assert said.evidence[:, :joints].numpy() == pytest.approx(
        scores.confidence.clip(1e-3, 1 - 1e-3)
    )
    assert said.local.shape == (20, joints * (network.pose.channels + 1))
    assert listener.parts == []
