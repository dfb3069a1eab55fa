"""Every pose net becomes an ONNX file that answers as torch does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export.helpers import NETS, people
from misgiving.export.graph import FusedGraph
from misgiving.export.onnx import write_onnx
from misgiving.export.parity import check, graph_drift
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.data.crops import evaluation_crop
from misgiving.trainer.models import Network

COUNT = 16


def decided(network: Network, crops: torch.Tensor) -> Network:
    """With statistics of real images and heatmaps that have one peak: a new net's are nearly
    empty, and rounding alone would say where their largest value is."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.out_channels == len(LSP):
            torch.nn.init.normal_(module.weight)
    with torch.no_grad():
        for _ in range(20):
            network.train()(crops)
    return network


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETS if name != "hourglass"])
def test_parity(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, data = NETS[name], people(3, 256, 0.0, 1.0)
    crops = np.stack([evaluation_crop(data[i], model.crop)[0] for i in range(COUNT)])
    seen = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    graph = FusedGraph(decided(Network(model, LSP), seen))
    write_onnx(graph, tmp_path / "model.onnx", {})
    drift = graph_drift(graph, OnnxEngine(tmp_path / "model.onnx", threads=1), crops)
    check(drift, name, "input px")
