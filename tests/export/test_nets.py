"""Every pose net becomes an ONNX file that answers as torch does, and smaller ones that run."""

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest

from export.nets import exported, lowered
from misgiving.export.parity import check, graph_drift
from misgiving.runtime.bundles.precisions import Reduced
from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.engines.onnx import OnnxEngine
from shared.once import run_folder
from shared.training import NETS

OTHERS = [name for name in NETS if name != "hourglass"]


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_parity(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    graph, file, crops = exported(name, run_folder(tmp_path_factory))
    check(graph_drift(graph, OnnxEngine(file, threads=1), crops), name, "input px")


@pytest.mark.slow
@pytest.mark.parametrize("precision", get_args(Reduced))
@pytest.mark.parametrize("name", OTHERS)
def test_lower_precisions(
    name: str, precision: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of an untrained net no more can be asked: the gates are for trained ones."""
    _, file, images = exported(name, run_folder(tmp_path_factory))
    path = lowered(file, images, precision, tmp_path)
    model, source = onnx.load(path), onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    for field in ("ir_version", "opset_import", "metadata_props"):
        assert getattr(model, field) == getattr(source, field)
    assert list(model.graph.input) == list(source.graph.input)
    assert list(model.graph.output) == list(source.graph.output)
    assert model.ByteSize() < source.ByteSize() * (2 if precision == "int8-trt" else 0.8)
    expected = OnnxEngine(file, threads=1).infer(images)
    engine = OnnxEngine(path, threads=1)
    for crops in (images[:1], images):
        got = engine.infer(crops)
        for output in Prediction.__slots__:
            one, other = getattr(got, output), getattr(expected, output)[: len(crops)]
            assert one.dtype == np.float32
            assert one.shape == other.shape
            assert np.isfinite(one).all()
