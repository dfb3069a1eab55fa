"""With this folder in PYTHONPATH, a process believes in a GPU of the kind SM86.

Parsing, building and the cache are real. Only what would run on the GPU is answered by ONNX
Runtime, under another name.
"""

import os
from types import SimpleNamespace
from typing import Any

from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.engines import building
from misgiving.runtime.engines.base import Provider
from misgiving.runtime.engines.cache import Plan
from misgiving.runtime.engines.cuda import Gpu
from misgiving.runtime.engines.onnx import OnnxEngine


class StandIn(OnnxEngine):
    provider = Provider("tensorrt", "tensorrt", "stand-in", "fp32")

    def __init__(self, plan: Plan, *_: Any) -> None:
        assert len(plan.data) > 1_000_000
        super().__init__(DEFAULT_BUNDLE / "model.onnx")


GPU = Gpu("Pretended", os.environ.get("PRETENDED_SM", "SM86"), "CUDA 13.0")
vars(building).update(open_driver=lambda: SimpleNamespace(gpu=GPU), TensorrtEngine=StandIn)
