"""TensorRT parses every pose net and builds an engine of it, in each precision and without a GPU.

Whether an engine answers right, only a GPU tells; the bundle's self-check asks it there.
"""

from pathlib import Path

import pytest

from export.nets import exported, lowered
from misgiving.runtime.engines.builder import Network, build_plan, find_library
from misgiving.runtime.engines.cache import Profile
from misgiving.runtime.engines.cuda import Gpu
from shared.once import run_folder
from shared.training import NETS

tensorrt_rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")

PROFILES = {
    "fp32": Profile(),
    # A fixed batch takes half the time to build for.
    "fp16": Profile(1, 1, 1),
    "int8-trt": Profile(2, 2, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("precision", PROFILES)
@pytest.mark.parametrize("name", NETS)
def test_every_net_builds(
    name: str, precision: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _, file, crops = exported(name, run_folder(tmp_path_factory))
    if precision != "fp32":
        file = lowered(file, crops[:2], precision, tmp_path)
    size = NETS[name].input_size
    network = Network(file.name, file.read_bytes(), precision, size, size, PROFILES[precision])
    for architecture in ("SM86", "SM120"):
        gpu = Gpu("Pretended", architecture, "CUDA 13.0")
        plan = build_plan(find_library(), network, gpu, tmp_path, lambda share, what: None)
        assert len(plan) > 100_000
