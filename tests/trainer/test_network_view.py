"""The network as samplers ask it: against slow references, and it stays as it was."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.keypoints import LSP
from misgiving.trainer import heatmaps, network_view
from misgiving.trainer.answers.scoring import score
from misgiving.trainer.config import HeadConfig, ModelConfig
from misgiving.trainer.data import PoseSet, subset
from misgiving.trainer.data.crops import evaluation_crop
from misgiving.trainer.models import Network
from misgiving.trainer.net_config import HourglassConfig
from misgiving.trainer.samplers import egl, sampler_named
from misgiving.trainer.samplers.base import Candidates, NetworkView, spread
from shared.training import CONV_KL, TINY, TINY_MODEL, people, pose_set

CPU = torch.device("cpu")
NAN, INF = float("nan"), float("inf")
POOL, LABELLED = people(7, 7), people(1, 6)
ASKING = ["mc_dropout", "committee", "egl"]
TWO_STACKS = HourglassConfig(stacks=2, channels=16, depth=2, stride=2)


def network_of(seed: int = 0, config: ModelConfig = TINY_MODEL) -> Network:
    """With read-outs that answer something, and running means that are not the start's."""
    torch.manual_seed(seed)
    network = Network(config, LSP)
    torch.nn.init.normal_(network.pose.read_out.weight, std=0.3)
    network(torch.rand(8, 3, 32, 32) * 255)
    return network.eval()


def view_of(
    network: Network, *members: Network, pool: PoseSet = POOL, labelled: PoseSet = LABELLED
) -> NetworkView:
    return network_view.network_view(network, TINY, pool, labelled, CPU, members)


def candidates_of(network: Network, *members: Network, pool: PoseSet = POOL) -> Candidates:
    scores, labelled = (score(network, TINY, data, CPU) for data in (pool, LABELLED))
    return Candidates(
        ids=scores.ids,
        predicted_loss=scores.predicted_loss,
        signals={},
        embedding=lambda: scores.embedding,
        labelled_embedding=lambda: labelled.embedding,
        predicted_losses=scores.predicted_losses,
        network=view_of(network, *members, pool=pool),
    )


def image(data: PoseSet, index: int) -> Tensor:
    crop = evaluation_crop(data[index], TINY.model.crop)[0]
    return torch.from_numpy(crop).permute(2, 0, 1)[None].float()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def whole(parts: Iterator[np.ndarray], axis: int = 1) -> np.ndarray:
    return np.concatenate(list(parts), axis=axis)


@pytest.fixture(autouse=True)
def _parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool of 7 comes in four parts, the last one smaller; a pool of one in one."""
    monkeypatch.setattr(network_view, "BATCH", 2)


@pytest.mark.parametrize(
    ("config", "share"),
    [
        (TINY_MODEL, network_view.INJECTED_DROPOUT),  # trained without: injected
        (replace(TINY_MODEL, dropout=0.5), 0.5),  # the one it was trained with
        (replace(TINY_MODEL, net=TWO_STACKS, dropout=0.5), 0.5),  # the last stack's alone
    ],
)
@torch.no_grad()
def test_thinned_points_against_one_pass_each(config: ModelConfig, share: float) -> None:
    network = network_of(config=config)
    points = whole(view_of(network).thinned_points(5, rng()))
    assert points.shape == (5, len(POOL), len(LSP), 2)
    masks = rng().random((5, network.pose.channels)) >= share
    for draw, mask in enumerate(masks):
        kept = torch.from_numpy(mask / (1 - share)).float()[:, None, None]

        def thin(module: object, inputs: tuple[Tensor], kept: Tensor = kept) -> Tensor:
            return inputs[0] * kept

        hook = network.pose.read_out.register_forward_pre_hook(thin)
        for index in range(len(POOL)):
            maps = network(image(POOL, index)).pose.heatmaps[:, -1]
            expected = heatmaps.decode(maps)[0][0]
            np.testing.assert_allclose(points[draw, index], expected, atol=2e-3)
        hook.remove()
    assert spread(points).min() > 0


@torch.no_grad()
def test_committee_points_against_each_network() -> None:
    networks = [network_of(seed) for seed in range(3)]
    points = whole(view_of(*networks).committee_points())
    for network, own in zip(networks, points, strict=True):
        for index in range(len(POOL)):
            maps = network(image(POOL, index)).pose.heatmaps[:, -1]
            np.testing.assert_allclose(own[index], heatmaps.decode(maps)[0][0], atol=2e-3)


def test_members_answer_in_the_network_s_cells() -> None:
    """The same network with a coarser map: what it says of an image's place is the same."""
    coarse = network_of(config=replace(TINY_MODEL, net=replace(TINY_MODEL.net, stride=4, depth=1)))
    view = view_of(network_of(), coarse)
    member = whole(view_of(coarse, network_of()).committee_points())[0]
    np.testing.assert_allclose(whole(view.committee_points())[1], member * 2, atol=1e-4)


def test_spread_by_hand() -> None:
    """Two points 2 cells apart in x: variance 1 for one of two joints; nobody apart: 0."""
    points = np.zeros((2, 3, 2, 2))
    points[1, 1, 0] = [2.0, 0.0]
    points[1, 2] = [2.0, 4.0]
    assert spread(points).tolist() == [0.0, 0.5, 5.0]


def slow_length(network: Network, person: Tensor, target: Tensor) -> float:
    """By a backward pass."""
    network.zero_grad()
    maps = network(person).pose.heatmaps[0, -1]
    torch.nn.functional.mse_loss(maps, target).backward()
    gradients = [p.grad for p in network.pose.read_out.parameters()]
    return sum(float(g.square().sum()) for g in gradients if g is not None)


@pytest.mark.parametrize("config", [TINY_MODEL, replace(TINY_MODEL, net=TWO_STACKS)])
def test_gradient_lengths_against_backward_passes(config: ModelConfig) -> None:
    network = network_of(config=config)
    pairs = rng().integers(0, len(LABELLED), (len(POOL), 3))  # not everybody, some twice
    pairs[pairs == 2] = 3
    lengths = whole(view_of(network).gradient_lengths(pairs), axis=0)
    with torch.no_grad():
        targets = [network(image(LABELLED, j)).pose.heatmaps[0, -1] for j in range(len(LABELLED))]
    for index, row in enumerate(pairs):
        expected = [slow_length(network, image(POOL, index), targets[j]) for j in row]
        np.testing.assert_allclose(lengths[index], expected, rtol=5e-3)


@pytest.mark.parametrize("perplexity", [1.5, 5.0, 9.0])
def test_probabilities_have_the_perplexity(perplexity: float) -> None:
    squared = rng().gamma(2, 3, (4, 10)) + [[0.0], [50.0], [1e4], [0.0]]
    squared[3] *= 1e-6
    share = egl.probabilities(squared, perplexity)
    np.testing.assert_allclose(share.sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(-(share * np.log(share)).sum(axis=1)), perplexity, rtol=1e-4)
    assert (np.argsort(share) == np.argsort(-squared)).all()  # the nearer the likelier
    # One width a row: log p falls in proportion to the squared distance.
    slope = (np.log(share[:, 1:]) - np.log(share[:, :1])) / (squared[:, 1:] - squared[:, :1])
    np.testing.assert_allclose(slope, np.broadcast_to(slope[:, :1], slope.shape), rtol=1e-5)


@pytest.mark.parametrize(
    ("squared", "perplexity", "expected"),
    [
        ([[3.0]], 20 / 30, [[1.0]]),  # one labelled person
        ([[2.0, 2.0]], 1.3, [[0.5, 0.5]]),  # as far: no width tells them apart
        ([[0.0, 0.0, 4.0]], 1.5, [[0.5, 0.5, 0.0]]),  # the two nearest are more than that already
        ([[0.0, NAN]], 1.3, [[NAN, NAN]]),  # somebody without a place
    ],
)
def test_probabilities_at_the_edges(
    squared: list[list[float]], perplexity: float, expected: list[list[float]]
) -> None:
    np.testing.assert_allclose(egl.probabilities(np.array(squared), perplexity), expected)


def test_egl_against_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egl, "NEIGHBOURS", 4)
    monkeypatch.setattr(egl, "PERPLEXITY", 3)
    monkeypatch.setattr(egl, "ROWS", 3)
    network = network_of()
    candidates = candidates_of(network)
    embedding, labelled = candidates.embedding(), candidates.labelled_embedding()
    with torch.no_grad():
        targets = [network(image(LABELLED, j)).pose.heatmaps[0, -1] for j in range(len(LABELLED))]
    expected = []
    for index, place in enumerate(embedding):
        squared = ((labelled - place).astype(np.float64) ** 2).sum(axis=1)
        near = np.argsort(squared, kind="stable")[:4]
        share = egl.probabilities(squared[None, near], 3)[0]
        lengths = [slow_length(network, image(POOL, index), targets[j]) for j in near]
        expected.append(float(share @ lengths))
    order = sorted(range(len(POOL)), key=lambda index: -expected[index])
    assert sampler_named("egl")(candidates, len(POOL), rng()) == order


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("count", [1, 7])
def test_they_pick_each_once_and_the_same_for_a_seed(name: str, count: int) -> None:
    candidates = candidates_of(network_of(), network_of(1), pool=subset(POOL, range(count)))
    picked = sampler_named(name)(candidates, count, rng())
    assert sorted(picked) == list(range(count))
    assert all(type(position) is int for position in picked)
    assert sampler_named(name)(candidates, count, rng()) == picked
    assert sampler_named(name)(candidates, 0, rng()) == []


@pytest.mark.parametrize("name", ["mc_dropout", "committee"])
def test_a_score_does_not_depend_on_who_else_is_there(name: str) -> None:
    networks = network_of(), network_of(1)
    everybody = sampler_named(name)(candidates_of(*networks), len(POOL), rng())
    some = sampler_named(name)(candidates_of(*networks, pool=subset(POOL, [4, 1, 6])), 3, rng())
    assert [[4, 1, 6][i] for i in some] == [i for i in everybody if i in (4, 1, 6)]


@pytest.mark.parametrize("name", ASKING)
def test_the_network_stays_as_it_was(name: str) -> None:
    """Weights, gradients, random numbers, and a mode that is not the same everywhere."""
    networks = network_of(config=replace(TINY_MODEL, dropout=0.3)), network_of(1)
    candidates = candidates_of(*networks)
    for network in networks:
        network.train()
        network.heads.eval()
    before = [{k: v.clone() for k, v in network.state_dict().items()} for network in networks]
    modes = [[m.training for m in network.modules()] for network in networks]
    random = torch.get_rng_state()
    sampler_named(name)(candidates, 3, rng())
    assert torch.equal(torch.get_rng_state(), random)
    for network, weights, mode in zip(networks, before, modes, strict=True):
        assert [m.training for m in network.modules()] == mode
        assert all(torch.equal(v, weights[k]) for k, v in network.state_dict().items())
        assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("name", [*ASKING, "aleatoric", "vl4pose"])
def test_a_score_file_is_refused(name: str) -> None:
    candidates = replace(candidates_of(network_of()), predicted_losses={}, network=None)
    message = rf"sampler {name} was given a score file.*Use 'misgiving cycle'"
    with pytest.raises(InvalidInput, match=message) as error:
        sampler_named(name)(candidates, 1, rng())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "objective"), [("aleatoric", "aleatoric"), ("vl4pose", "links")])
def test_a_head_s_own_sampler(name: str, objective: str) -> None:
    heads = (CONV_KL, HeadConfig(kind="gap", objective=objective))
    candidates = candidates_of(network_of(config=replace(TINY_MODEL, heads=heads)))
    risks = candidates.predicted_losses[f"gap-{objective}"]
    assert sampler_named(name)(candidates, 3, rng()) == list(np.argsort(-risks)[:3])
    with pytest.raises(InvalidInput, match=rf"{name} needs a head with the objective {objective}"):
        sampler_named(name)(candidates_of(network_of()), 3, rng())


def test_a_committee_of_one() -> None:
    with pytest.raises(InvalidInput, match=r"network without further members; expected at least"):
        sampler_named("committee")(candidates_of(network_of()), 1, rng())


def test_a_member_with_other_crops() -> None:
    other = network_of(config=replace(TINY_MODEL, padding=2.0))
    message = r"takes 32 px with padding 2.0 and gives lsp14, the network 32 px with padding 1.25"
    with pytest.raises(InvalidInput, match=message):
        view_of(network_of(), other)


@pytest.mark.parametrize(
    ("name", "number"),
    [("mc_dropout", "spread"), ("committee", "spread"), ("egl", "expected gradient")],
)
def test_a_network_of_nan_picks_nobody(name: str, number: str) -> None:
    network = network_of()
    torch.nn.init.constant_(network.pose.read_out.weight, NAN)
    with pytest.raises(InvalidInput, match=rf"at most 0, .* with a finite {number}"):
        sampler_named(name)(candidates_of(network, network), 1, rng())


@pytest.mark.parametrize("labelled", [[], [[NAN] * 16, [INF] * 16]])
def test_egl_without_anybody_labelled(labelled: list[list[float]]) -> None:
    rows = np.array(labelled, np.float32).reshape(-1, 16)
    candidates = replace(candidates_of(network_of()), labelled_embedding=lambda: rows)
    with pytest.raises(InvalidInput, match=r"egl found nobody labelled with a finite embedding"):
        sampler_named("egl")(candidates, 1, rng())


def test_egl_leaves_out_who_has_no_embedding() -> None:
    candidates = candidates_of(network_of())
    embedding = candidates.embedding().copy()
    embedding[2], embedding[4] = NAN, INF
    without = replace(candidates, embedding=lambda: embedding)
    expected = [i for i in sampler_named("egl")(candidates, 7, rng()) if i not in (2, 4)]
    assert sampler_named("egl")(without, 5, rng()) == expected
    with pytest.raises(InvalidInput, match=r"budget is 6; expected at most 5"):
        sampler_named("egl")(without, 6, rng())


def test_egl_asks_about_the_labelled_with_an_embedding() -> None:
    """By their place among all labelled, which is where the view finds them."""
    asked: list[np.ndarray] = []

    class Spy:
        def gradient_lengths(self, labelled: np.ndarray) -> Iterator[np.ndarray]:
            asked.append(labelled)
            return iter([np.ones(labelled.shape)])

    place = np.array([[0.0], [9.0]])
    rows = np.array([[NAN], [8.0], [INF], [1.0]])
    candidates = replace(
        candidates_of(network_of(), pool=subset(POOL, [0, 1])),
        embedding=lambda: place,
        labelled_embedding=lambda: rows,
        network=Spy(),
    )
    sampler_named("egl")(candidates, 2, rng())
    assert asked[0].tolist() == [[3, 1], [1, 3]]  # the nearest first


@pytest.mark.parametrize("name", ASKING)
def test_nobody_in_the_pool(name: str) -> None:
    nobody = pose_set([])
    candidates = Candidates(
        ids=(),
        predicted_loss=np.empty(0),
        signals={},
        embedding=lambda: np.empty((0, 16)),
        labelled_embedding=lambda: np.ones((6, 16)),
        network=view_of(network_of(), network_of(1), pool=nobody),
    )
    assert sampler_named(name)(candidates, 0, rng()) == []


def test_dropout_is_for_training() -> None:
    """There it hides channels; in evaluation the network is the one without."""
    torch.manual_seed(0)
    thin, plain = (network_of(config=replace(TINY_MODEL, dropout=p)) for p in (0.5, 0.0))
    thin.load_state_dict(plain.state_dict())
    person = image(POOL, 0)
    torch.testing.assert_close(thin(person).pose.heatmaps, plain(person).pose.heatmaps)
    thin.pose.read_out.train()
    assert not torch.equal(thin(person).pose.heatmaps, plain(person).pose.heatmaps)
