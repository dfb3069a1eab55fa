"""Scoring a data set: coordinates, losses and scores of each person, whatever the batches."""

import math
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from misgiving.runtime import geometry
from misgiving.runtime.keypoints import LSP
from misgiving.trainer import heatmaps
from misgiving.trainer.answers import scoring
from misgiving.trainer.answers.scoring import Scores, score, summarise
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.data import PoseSet, Sample
from misgiving.trainer.data.crops import evaluation_crop
from misgiving.trainer.models import Network, NetworkOutput, PoseOutput
from shared.training import GAP_MARGIN, JOINTS, TINY, people, pose_set, scores_of

CPU = torch.device("cpu")
DATA = (11, 7)


class Oracle(Network):
    """Answers with the very heatmaps that the labels ask for, person after person."""

    def __init__(self, data: PoseSet, silent: tuple[int, ...] = ()) -> None:
        super().__init__(TINY.model, LSP)
        self.data, self.asked, self.silent = data, 0, silent

    def forward(self, image: Tensor) -> NetworkOutput:
        places, size = [], TINY.model.input_size
        for index in range(self.asked, self.asked + len(image)):
            sample = self.data[index]
            window = evaluation_crop(sample, TINY.model.crop)[1]
            places.append(geometry.image_to_input(sample.points, window, size, size))
        self.asked += len(image)
        points = torch.from_numpy(np.stack(places)) / TINY.model.stride
        maps = heatmaps.encode(points, torch.ones(points.shape[:2], dtype=torch.bool), 16, 1.0)
        maps[:, list(self.silent)] = 0.0
        features = torch.zeros(len(image), TINY.model.net.channels, 16, 16)
        risk = torch.arange(self.asked - len(image), self.asked).float()
        heads = {"conv-kl": risk, "gap-margin": -risk}
        outputs = {name: risks[:, None] for name, risks in heads.items()}
        return NetworkOutput(PoseOutput(maps[:, None], features, ()), heads, outputs)


@pytest.fixture
def by_fours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BATCH", 4)


def test_parts_go_as_they_come() -> None:
    """Kept until the end, they would break up the heap between the network's large arrays."""
    given: list[weakref.ref[Scores]] = []
    alive = []

    def parts() -> Iterator[Scores]:
        for number in range(6):
            part = scores_of([float(number)] * 7)
            given.append(weakref.ref(part))
            alive.append(sum(one() is not None for one in given))
            yield part
            del part

    whole = scoring.joined(parts(), 50)
    assert max(alive) <= 2
    assert len(whole.ids) == len(whole.points) == 42  # of 50 at most
    assert whole.predicted_loss.tolist() == [float(number) for number in range(6) for _ in range(7)]


@pytest.mark.usefixtures("by_fours")
def test_right_heatmaps_are_right_in_image_pixels() -> None:
    """Crop, cells, input px and image px fit together: the labels come back."""
    data = people(*DATA)
    scores = score(Oracle(data), TINY, data, CPU)
    assert scores.ids == data.ids
    assert scores.points.shape == (7, JOINTS, 2)
    # A thirty-second of a person: the border cells have no neighbour to interpolate with.
    assert np.abs(scores.points - scores.true_points).max() < 3.0
    assert np.median(np.abs(scores.points - scores.true_points)) < 0.05
    np.testing.assert_array_equal(scores.true_points[5], data[5].points)
    assert scores.true_loss.max() < 1e-6
    assert np.nanmin(scores.found) == 1.0
    assert scores.predicted_losses["conv-kl"].tolist() == list(range(7))
    assert scores.predicted_loss is scores.predicted_losses["conv-kl"]  # the first head


def test_the_true_loss_is_the_paper_s() -> None:
    """One joint of fourteen left out costs 1/14 of METHOD's unit, at sigma 1 and 16 cells."""
    data = people(*DATA)
    scores = score(Oracle(data, silent=(12,)), TINY, data, CPU)
    unit = 900 * math.pi * TINY.fit.sigma**2 / 16**2
    assert scores.true_loss.tolist() == pytest.approx([unit / 14] * 7, rel=0.02)


def test_unlabelled_joints_count_nowhere() -> None:
    data = people(*DATA)
    labelled = np.ones(JOINTS, bool)
    labelled[12] = False
    sample = data[0]
    partly = pose_set([Sample("p", sample.image, sample.points, labelled)])
    scores = score(Oracle(partly, silent=(12,)), TINY, partly, CPU)
    assert scores.true_loss[0] == pytest.approx(0.0, abs=1e-6)
    assert math.isnan(scores.found[0, 12])


@pytest.mark.usefixtures("by_fours")
def test_batches_do_not_matter(checkpoint: object) -> None:
    network, recipe, _ = load_checkpoint(checkpoint)
    data = people(*DATA)
    together = score(network, recipe, data, CPU)  # 4 and 3
    network.train()  # scoring switches to evaluation itself
    for index in range(len(data)):
        alone = score(network, recipe, pose_set([data[index]]), CPU)
        for name in ("points", "confidence", "signals", "embedding", "true_loss"):
            np.testing.assert_allclose(
                getattr(alone, name)[0], getattr(together, name)[index], atol=2e-4, err_msg=name
            )
        for head, values in alone.predicted_losses.items():
            assert values[0] == pytest.approx(together.predicted_losses[head][index], abs=1e-5)
    assert not network.training


def test_shapes_and_ranges(checkpoint: object) -> None:
    network, recipe, _ = load_checkpoint(checkpoint)
    seen: list[int] = []

    def positions() -> object:
        for index in range(7):
            seen.append(index)
            yield index

    scores = score(network, recipe, people(*DATA), CPU, positions())
    assert seen == list(range(7))
    assert scores.confidence.shape == (7, JOINTS)
    assert 0 <= scores.confidence.min() <= scores.confidence.max() <= 1
    assert scores.signals.shape == (7, len(heatmaps.SIGNALS))
    assert scores.embedding.shape == (7, TINY.model.net.channels)
    assert set(scores.predicted_losses) == {"conv-kl", GAP_MARGIN.name}
    assert all(value.shape == (7,) for value in scores.predicted_losses.values())
    mean_peak = scores.signal("mean_peak")
    assert (scores.signal("min_peak") <= mean_peak).all()
    np.testing.assert_array_equal(mean_peak, scores.signals[:, 0])


def test_every_score_is_turned_so_that_higher_is_riskier() -> None:
    scores = scores_of([1.0, 2.0, 3.0])
    risks = scores.risk_scores()
    assert list(risks) == [
        "conv-kl", "gap-margin", "-mean_peak", "-min_peak", "entropy", "multi_peak_entropy",
    ]  # fmt: skip
    np.testing.assert_array_equal(risks["conv-kl"], [1, 2, 3])
    np.testing.assert_array_equal(risks["-mean_peak"], -scores.signals[:, 0])
    np.testing.assert_array_equal(risks["-min_peak"], -scores.signals[:, 1])
    np.testing.assert_array_equal(risks["multi_peak_entropy"], scores.signals[:, 3])


def test_summary_by_hand() -> None:
    """Persons 2 and 3 are off by far more than 0.2 torso lengths in every joint."""
    scores = scores_of([0.1, 0.4, 0.3, 0.9], [1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 500.0, 500.0])
    assert summarise(scores) == pytest.approx(
        {
            "pck": 0.5,
            "persons": 4.0,
            "persons_with_torso": 4.0,
            "failures": 2.0,
            "auroc": 0.75,  # three of four pairs in order
            "spearman": 0.8,
        }
    )


def without_torso(scores: Scores, index: int) -> Scores:
    scores.labelled[index, 2] = False
    return scores


@pytest.mark.parametrize(
    ("scores", "missing"),
    [
        (scores_of([1.0, 2.0]), {"auroc"}),  # nobody failed
        (scores_of([1.0, 1.0], [1.0, 2.0]), {"auroc", "spearman"}),  # a constant score
        (scores_of([1.0]), {"auroc", "spearman"}),  # one person
        (without_torso(scores_of([1.0]), 0), {"pck", "auroc", "spearman"}),  # nobody measurable
    ],
)
def test_what_is_undefined_is_left_out(scores: Scores, missing: set[str]) -> None:
    every = {"pck", "persons", "persons_with_torso", "failures", "auroc", "spearman"}
    summary = summarise(scores)
    assert set(summary) == every - missing
    assert all(math.isfinite(value) for value in summary.values())


def test_persons_without_torso_are_left_out_and_counted() -> None:
    scores = without_torso(scores_of([9.0, 1.0, 2.0], [0.0, 1.0, 2.0], [500.0, 0.0, 500.0]), 0)
    summary = summarise(scores)
    assert (summary["persons"], summary["persons_with_torso"], summary["failures"]) == (3, 2, 1)
    assert summary["auroc"] == 1.0
