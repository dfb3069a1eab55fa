"""The fused graph: normalisation, pose net, head and decoding agree with the trainer's own."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from misgiving.export.graph import FusedGraph
from misgiving.export.onnx import write_onnx
from misgiving.export.parity import check, graph_drift
from misgiving.runtime.engines.base import OUTPUTS, REQUIRED
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.geometry import image_to_input
from misgiving.runtime.keypoints import LSP
from misgiving.trainer import heatmaps
from misgiving.trainer.answers.scoring import score
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.config import HeadConfig
from misgiving.trainer.data.crops import evaluation_crop
from misgiving.trainer.models import Network
from shared.training import JOINTS, TINY_MODEL, people

DATA = (11, 7)


def crops() -> Tensor:
    data = people(*DATA)
    return torch.from_numpy(
        np.stack([evaluation_crop(data[i], TINY_MODEL.crop)[0] for i in range(len(data))])
    )


@torch.no_grad()
def answer(graph: FusedGraph, images: Tensor) -> SimpleNamespace:
    return SimpleNamespace(**graph(images))


def test_outputs_are_the_runtime_s(graph: FusedGraph) -> None:
    assert tuple(graph(crops()[:1])) == graph.outputs == REQUIRED


@pytest.mark.parametrize("objective", ["miss", "aleatoric"])
def test_a_head_that_tells_joints_apart(objective: Any, tmp_path: Path) -> None:
    """The same from torch and from the file, and its mean is the predicted loss."""
    head = HeadConfig(kind="evidence", objective=objective)
    torch.manual_seed(0)
    fused = FusedGraph(Network(replace(TINY_MODEL, heads=(head,)), LSP))
    assert fused.outputs == OUTPUTS
    output = answer(fused, crops())
    torch.testing.assert_close(output.keypoint_loss.mean(1), output.predicted_loss)
    write_onnx(fused, tmp_path / "model.onnx", {})
    got = OnnxEngine(tmp_path / "model.onnx").infer(crops().numpy())
    assert got.keypoint_loss.shape == (len(crops()), JOINTS)
    np.testing.assert_allclose(got.keypoint_loss, output.keypoint_loss, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_shapes(graph: FusedGraph, batch: int) -> None:
    output = answer(graph, crops()[:batch])
    assert output.keypoints.shape == (batch, JOINTS, 3)
    assert output.predicted_loss.shape == (batch,)
    assert output.signals.shape == (batch, len(heatmaps.SIGNALS))
    assert output.embedding.shape == (batch, TINY_MODEL.net.channels)
    assert all(part.dtype == torch.float32 for part in vars(output).values())


def test_it_answers_as_scoring_does(checkpoint: Path) -> None:
    network, recipe, _ = load_checkpoint(checkpoint)
    data = people(*DATA)
    scores = score(network, recipe, data, torch.device("cpu"))
    output = answer(FusedGraph(network), crops())
    for index in range(len(data)):
        window = evaluation_crop(data[index], TINY_MODEL.crop)[1]
        expected = image_to_input(scores.points[index], window, 32, 32)
        np.testing.assert_allclose(output.keypoints[index, :, :2], expected, atol=1e-3)
    np.testing.assert_allclose(output.keypoints[..., 2], scores.confidence, atol=1e-6)
    np.testing.assert_allclose(output.predicted_loss, scores.predicted_loss, atol=1e-6)
    np.testing.assert_allclose(output.signals, scores.signals, atol=1e-5)
    np.testing.assert_allclose(output.embedding, scores.embedding, atol=1e-5)


def test_keypoints_are_in_input_pixels(graph: FusedGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells times the stride, and confidence within 0 and 1 whatever the peak."""
    points = torch.full((1, JOINTS, 2), 3.25)
    peaks = torch.linspace(-0.5, 1.5, JOINTS)[None]
    monkeypatch.setattr(heatmaps, "decode", lambda maps: (points, peaks))
    keypoints = answer(graph, crops()[:1]).keypoints
    assert keypoints[0, :, :2].tolist() == [[6.5, 6.5]] * JOINTS
    assert keypoints[0, :, 2].tolist() == peaks[0].clamp(0, 1).tolist()


def test_the_last_stack_answers(graph: FusedGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    images = crops()[:2]
    expected = answer(graph, images)
    pose = graph.network.pose
    forward = pose.forward

    def two_stacks(x: Tensor) -> object:
        output = forward(x)
        noise = torch.rand_like(output.heatmaps)
        return output._replace(heatmaps=torch.cat([noise, output.heatmaps], 1))

    monkeypatch.setattr(pose, "forward", two_stacks)
    for name, got in vars(answer(graph, images)).items():
        torch.testing.assert_close(got, getattr(expected, name))


def test_pixels_are_uint8_rgb(graph: FusedGraph) -> None:
    """As the trainer's: (B, H, W, 3) here is (B, 3, H, W) in 0–255 there."""
    images = crops()[:2]
    floats = images.permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = graph.network(floats).predicted_losses["conv-kl"]
        reversed_colours = graph.network(floats.flip(1)).predicted_losses["conv-kl"]
    torch.testing.assert_close(answer(graph, images).predicted_loss, expected)
    assert not torch.allclose(reversed_colours, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("asked", "name"),
    [(None, "conv-kl"), ("conv-kl", "conv-kl"), ("gap-margin", "gap-margin")],
)
def test_the_head_that_is_asked_for(checkpoint: Path, asked: str | None, name: str) -> None:
    network = load_checkpoint(checkpoint)[0].train()
    graph = FusedGraph(network, asked)
    assert graph.head_name == name
    assert not network.training  # fused in evaluation mode
    images = crops()
    with torch.no_grad():
        expected = network(images.permute(0, 3, 1, 2).float()).predicted_losses[name]
    torch.testing.assert_close(answer(graph, images).predicted_loss, expected)


HEADS = (
    HeadConfig(kind="gap", objective="aleatoric"),
    HeadConfig(kind="conv", objective="links"),
)


@pytest.mark.parametrize("head", [head.name for head in HEADS])
def test_a_risk_is_exported_as_it_is(checkpoint: Path, head: str, tmp_path: Path) -> None:
    """Of heads that give several numbers, and of a network that was trained with dropout."""
    trained = load_checkpoint(checkpoint)[0]
    torch.manual_seed(0)
    network = Network(replace(TINY_MODEL, heads=HEADS, dropout=0.5), LSP)
    network.pose.load_state_dict(trained.pose.state_dict())
    graph = FusedGraph(network, head)
    images = crops()
    with torch.no_grad():
        expected = network(images.permute(0, 3, 1, 2).float()).predicted_losses[head]
    torch.testing.assert_close(answer(graph, images).predicted_loss, expected)
    write_onnx(graph, tmp_path / "model.onnx", {})
    names = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert "Dropout" not in names
    check(graph_drift(graph, OnnxEngine(tmp_path / "model.onnx"), images.numpy()), "graph", "px")


def test_a_head_that_is_not_there(checkpoint: Path) -> None:
    network = load_checkpoint(checkpoint)[0]
    message = r"head is 'gap-kl'; this checkpoint has conv-kl, gap-margin"
    with pytest.raises(InvalidInput, match=message):
        FusedGraph(network, "gap-kl")
