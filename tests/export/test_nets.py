"""Every pose net becomes an ONNX file that answers as torch does, and smaller ones that run."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from export.helpers import NETS, people
from misgiving.export.graph import FusedGraph
from misgiving.export.onnx import write_onnx
from misgiving.export.parity import check, graph_drift
from misgiving.export.precision import Quantiser, to_fp16
from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.keypoints import LSP
from misgiving.runtime.precisions import Reduced
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


@dataclass(frozen=True)
class Exported:
    graph: FusedGraph
    path: Path
    crops: NDArray[np.uint8]


@pytest.fixture(scope="module", params=[name for name in NETS if name != "hourglass"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    model, data = NETS[request.param], people(3, 256, 0.0, 1.0)
    crops = np.stack([evaluation_crop(data[i], model.crop)[0] for i in range(COUNT)])
    seen = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    graph = FusedGraph(decided(Network(model, LSP), seen))
    path = tmp_path_factory.mktemp("net") / "model.onnx"
    write_onnx(graph, path, {"name": request.param})
    return Exported(graph, path, crops)


@pytest.mark.slow
def test_parity(exported: Exported) -> None:
    engine = OnnxEngine(exported.path, threads=1)
    check(graph_drift(exported.graph, engine, exported.crops), "graph", "input px")


def lowered(exported: Exported, precision: str, folder: Path) -> Path:
    model, target = onnx.load(exported.path), folder / "lower.onnx"
    if precision == "fp16":
        onnx.save_model(to_fp16(model), target)
    else:
        Quantiser(model, precision, exported.crops, folder).quantise(target)
    return target


@pytest.mark.slow
@pytest.mark.parametrize("precision", get_args(Reduced))
def test_lower_precisions(exported: Exported, precision: str, tmp_path: Path) -> None:
    """Of an untrained net no more can be asked: the gates are for trained ones."""
    path = lowered(exported, precision, tmp_path)
    model, source = onnx.load(path), onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    for field in ("ir_version", "opset_import", "metadata_props"):
        assert getattr(model, field) == getattr(source, field)
    assert list(model.graph.input) == list(source.graph.input)
    assert list(model.graph.output) == list(source.graph.output)
    assert model.ByteSize() < source.ByteSize() * (2 if precision == "int8-trt" else 0.7)
    expected = OnnxEngine(exported.path, threads=1).infer(exported.crops)
    engine = OnnxEngine(path, threads=1)
    for crops in (exported.crops[:1], exported.crops):
        got = engine.infer(crops)
        for name in Prediction.__slots__:
            one, other = getattr(got, name), getattr(expected, name)[: len(crops)]
            assert one.dtype == np.float32
            assert one.shape == other.shape
            assert np.isfinite(one).all()
