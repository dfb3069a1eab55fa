"""Every pose net becomes an ONNX file that answers as torch does."""

import pytest

from export.helpers import NETS
from export.nets import exported
from misgiving.export.parity import check, graph_drift
from misgiving.runtime.engines.onnx import OnnxEngine


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETS if name != "hourglass"])
def test_parity(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    graph, file, crops = exported(name, tmp_path_factory.getbasetemp())
    check(graph_drift(graph, OnnxEngine(file, threads=1), crops), name, "input px")
