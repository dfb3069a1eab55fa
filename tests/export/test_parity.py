"""The gate: a faithful export passes, anything else fails loudly."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from misgiving.export import parity
from misgiving.export.graph import FusedGraph
from misgiving.export.parity import Drift, check, drift_of, frame_of, graph_drift, run_torch
from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.errors import ParityError
from misgiving.runtime.images import decode
from misgiving.trainer.answers.scoring import Scores, score
from misgiving.trainer.data import PoseSet, Sample, subset
from misgiving.trainer.data.crops import evaluation_crop
from shared.training import JOINTS, TINY_MODEL, people

COUNT = 24


@pytest.fixture(scope="module")
def part(validation: PoseSet) -> PoseSet:
    return subset(validation, range(COUNT))


@pytest.fixture(scope="module")
def crops(part: PoseSet) -> NDArray[np.uint8]:
    return np.stack([evaluation_crop(part[i], TINY_MODEL.crop)[0] for i in range(COUNT)])


def test_a_faithful_export_passes(
    bundle: Bundle, graph: FusedGraph, crops: NDArray[np.uint8]
) -> None:
    """Measured here: 1e-4 px and 1e-5 standard deviations; the gate is 0.05 px and 1e-3."""
    drift = graph_drift(graph, OnnxEngine(bundle.model), crops)
    check(drift, "graph", "input px")
    assert drift.keypoint_px < 0.01
    assert drift.loss < 2e-4


class Wrong:
    """An engine that spoils the answers of another."""

    provider = "none"

    def __init__(self, engine: OnnxEngine, spoil: Callable[[Prediction], Prediction]) -> None:
        self._engine, self._spoil = engine, spoil
        self.asked: list[int] = []

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        self.asked.append(len(images))
        return self._spoil(self._engine.infer(images))


def moved(pixels: float) -> Callable[[Prediction], Prediction]:
    shift = np.array([pixels, 0.0, 0.0], np.float32)
    return lambda p: replace(p, keypoints=p.keypoints + shift)


def only_in_batches_of(size: int, spoil: Callable[[Prediction], Prediction]) -> object:
    return lambda p: spoil(p) if len(p) == size else p


def nan_loss(p: Prediction) -> Prediction:
    losses = p.predicted_loss.copy()
    losses[-1] = math.nan
    return replace(p, predicted_loss=losses)


def nan_keypoint(p: Prediction) -> Prediction:
    keypoints = p.keypoints.copy()
    keypoints[0, 3, 1] = math.nan
    return replace(p, keypoints=keypoints)


def nan_embedding(p: Prediction) -> Prediction:
    return replace(p, embedding=p.embedding * np.float32(math.nan))


@pytest.mark.parametrize(
    "spoil",
    [
        # decoding that is off: half a pixel, a tenth, x and y exchanged
        moved(0.5),
        moved(-0.1),
        lambda p: replace(p, keypoints=p.keypoints[..., [1, 0, 2]]),
        # joints in another order
        lambda p: replace(p, keypoints=p.keypoints[:, ::-1]),
        # a score that is constant, reversed, or a little scaled
        lambda p: replace(p, predicted_loss=np.zeros_like(p.predicted_loss)),
        lambda p: replace(p, predicted_loss=-p.predicted_loss),
        lambda p: replace(p, predicted_loss=1.2 * p.predicted_loss),
        # what is no number
        nan_loss,
        nan_keypoint,
        # the other outputs count as well
        lambda p: replace(p, signals=p.signals[:, ::-1]),
        lambda p: replace(p, signals=p.signals + 0.01),
        lambda p: replace(p, keypoints=p.keypoints * np.array([1, 1, 0.9], np.float32)),
        lambda p: replace(p, embedding=p.embedding * 1.1),
        nan_embedding,
        # one batch size alone: of one, of two, of five
        only_in_batches_of(1, moved(0.5)),
        only_in_batches_of(2, moved(0.5)),
        only_in_batches_of(5, nan_loss),
        only_in_batches_of(5, nan_keypoint),
        only_in_batches_of(5, nan_embedding),
    ],
)
def test_anything_else_fails(
    spoil: Callable[[Prediction], Prediction],
    bundle: Bundle,
    graph: FusedGraph,
    crops: NDArray[np.uint8],
) -> None:
    drift = graph_drift(graph, Wrong(OnnxEngine(bundle.model), spoil), crops)
    with pytest.raises(ParityError, match=r"graph parity failed: .*No bundle was written") as error:
        check(drift, "graph", "input px")
    assert "\n" not in str(error.value)


def test_every_batch_size_is_tried(
    bundle: Bundle, graph: FusedGraph, crops: NDArray[np.uint8]
) -> None:
    engine = Wrong(OnnxEngine(bundle.model), lambda p: p)
    graph_drift(graph, engine, crops[:10])
    assert engine.asked == [1] * 10 + [2] * 5 + [5] * 2


def altered(source: Path, target: Path, name: str, change: float) -> OnnxEngine:
    """The same graph, the tensor whose name ends so moved by a share of its own size."""
    model = onnx.load(source)
    (tensor,) = [t for t in model.graph.initializer if t.name.endswith(name)]
    values = numpy_helper.to_array(tensor).copy()
    flat = values.reshape(-1)
    flat[0] += change * max(float(np.abs(values).max()), 0.1)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, target)
    return OnnxEngine(target)


@pytest.mark.parametrize(
    "name",
    [
        "pose.stem.0.weight",  # the first convolution
        "pose.answers.0.bias",  # the heatmaps' level
        "head.collapse.0.weight",  # the head
        "head.regressor.10.bias",  # its last number
        "network.mean",  # the normalisation
    ],
)
def test_one_altered_number_in_the_file_fails(
    name: str, bundle: Bundle, graph: FusedGraph, crops: NDArray[np.uint8], tmp_path: Path
) -> None:
    engine = altered(bundle.model, tmp_path / "altered.onnx", name, 0.5)
    with pytest.raises(ParityError, match=r"graph parity failed"):
        check(graph_drift(graph, engine, crops), "graph", "input px")


NAN = math.nan


@pytest.mark.parametrize(
    ("drift", "passes"),
    [
        (Drift(0.0, 0.0, 1.0), True),
        (Drift(0.05, 1e-3, 0.9999), True),  # exactly at each gate
        (Drift(0.0501, 0.0, 1.0), False),
        (Drift(0.0, 1.1e-3, 1.0), False),
        (Drift(0.0, 0.0, 0.9998), False),
        (Drift(NAN, 0.0, 1.0), False),  # a NaN fails, wherever it stands
        (Drift(0.0, NAN, 1.0), False),
        (Drift(0.0, 0.0, NAN), False),
        (Drift(math.inf, 0.0, 1.0), False),
        (Drift(0.0, 0.0, 1.0, 1e-3), True),  # the other outputs
        (Drift(0.0, 0.0, 1.0, 1.1e-3), False),
        (Drift(0.0, 0.0, 1.0, NAN), False),
    ],
)
def test_the_gate(drift: Drift, passes: bool) -> None:
    if passes:
        check(drift, "graph", "input px")
        return
    with pytest.raises(ParityError) as error:
        check(drift, "end-to-end", "image px")
    text = str(error.value)
    assert text.startswith(
        f"end-to-end parity failed: keypoints moved {drift.keypoint_px:.4f} image"
    )
    assert "(at most 0.05)" in text
    assert "(at least 0.9999)" in text


def prediction(count: int = 5) -> Prediction:
    rng = np.random.default_rng(0)
    return Prediction(
        rng.random((count, JOINTS, 3)).astype(np.float32),
        np.arange(count, dtype=np.float32),
        rng.random((count, 4)).astype(np.float32),
        rng.random((count, 8)).astype(np.float32),
        rng.random((count, JOINTS)).astype(np.float32),
    )


def test_drift_by_hand() -> None:
    expected = prediction()
    assert drift_of(expected, expected) == Drift(0.0, 0.0, pytest.approx(1.0))
    keypoints = expected.keypoints + np.array([0.03, 0.04, 0.0], np.float32)
    drift = drift_of(replace(expected, keypoints=keypoints), expected)
    assert drift.keypoint_px == pytest.approx(0.05, rel=1e-4)  # a distance
    losses = expected.predicted_loss.copy()
    losses[2] += 0.1
    drift = drift_of(replace(expected, predicted_loss=losses), expected)
    assert drift.loss == pytest.approx(0.1 / math.sqrt(2), rel=1e-4)  # sd of 0…4
    assert drift.spearman == pytest.approx(1.0)


def test_a_dead_feature_must_stay_dead() -> None:
    """It has no spread to measure with; equality is asked instead of a division by zero."""
    dead = replace(prediction(), embedding=np.zeros((5, 8), np.float32))
    assert drift_of(dead, dead).others == 0.0
    alive = replace(dead, embedding=np.full((5, 8), 0.01, np.float32))
    assert drift_of(alive, dead).others == pytest.approx(0.01)


def test_a_single_peak_that_changes_place_passes_and_two_in_a_hundred_do_not() -> None:
    expected = prediction(200)
    for flips, passes in ((1, True), (4, False)):
        signals = expected.signals.copy()
        signals[:flips, 3] += 0.5
        assert (drift_of(replace(expected, signals=signals), expected).others < 1e-3) == passes


def test_torch_in_one_go_is_torch_in_parts(graph: FusedGraph, crops: NDArray[np.uint8]) -> None:
    whole = run_torch(graph, crops)
    many = run_torch(graph, np.concatenate([crops, crops, crops]))  # more than one part
    assert len(many) == 3 * COUNT
    np.testing.assert_allclose(many.keypoints[-COUNT:], whole.keypoints, atol=1e-3)
    np.testing.assert_allclose(many.predicted_loss[-COUNT:], whole.predicted_loss, atol=1e-5)


@pytest.fixture
def scores(graph: FusedGraph, checkpoint: Path, part: PoseSet) -> Scores:
    from misgiving.trainer.checkpoint import load_checkpoint

    network, recipe, _ = load_checkpoint(checkpoint)
    return score(network, recipe, part, torch.device("cpu"))


def whole_way(bundle: Bundle, data: PoseSet, scores: Scores) -> Drift:
    model = Model(bundle, OnnxEngine(bundle.model))
    positions = range(len(data))
    return parity.end_to_end_drift(model, "conv-kl", data, scores, positions)


def test_end_to_end(bundle: Bundle, part: PoseSet, scores: Scores) -> None:
    """From the encoded image to the answer in image px: the runtime's way and the trainer's."""
    drift = whole_way(bundle, part, scores)
    check(drift, "end-to-end", "image px")
    assert drift.keypoint_px < 0.01


def other_images(data: PoseSet) -> PoseSet:
    def read(index: int) -> Sample:
        sample = data[index]
        return replace(sample, image=255 - sample.image)

    return replace(data, read=read)


def other_boxes(data: PoseSet) -> PoseSet:
    def read(index: int) -> Sample:
        sample = data[index]
        return replace(sample, points=sample.points + np.float32(3))

    return replace(data, read=read)


@pytest.mark.parametrize("change", [other_images, other_boxes])
def test_end_to_end_sees_images_and_boxes(
    change: Callable[[PoseSet], PoseSet], bundle: Bundle, part: PoseSet, scores: Scores
) -> None:
    with pytest.raises(ParityError, match=r"end-to-end parity failed: .* image px"):
        check(whole_way(bundle, change(part), scores), "end-to-end", "image px")


def test_end_to_end_compares_the_exported_head(
    bundle: Bundle, part: PoseSet, scores: Scores
) -> None:
    swapped = replace(scores, predicted_losses={"conv-kl": scores.predicted_losses["gap-margin"]})
    with pytest.raises(ParityError):
        check(whole_way(bundle, part, swapped), "end-to-end", "image px")


def test_a_frame_is_the_file_s_own_bytes(tmp_path: Path) -> None:
    """No second compression: what a client would send."""
    sample = people(11, 7)[0]
    frame = frame_of(sample)
    np.testing.assert_array_equal(decode(frame.image), sample.image)
    file = tmp_path / "image.jpg"
    file.write_bytes(b"whatever stands in it")
    assert frame_of(replace(sample, path=file)).image == b"whatever stands in it"
    (region,) = frame.regions
    low, high = sample.points.min(0), sample.points.max(0)
    assert (region.x, region.y) == pytest.approx(low)
    assert (region.width, region.height) == pytest.approx(high - low, rel=1e-5)
