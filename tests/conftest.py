"""One thread for each process: several workers share the cores, and the networks are tiny."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch, NumPy and ONNX Runtime are loaded


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of foreign nets; skips the test where there is none."""
    root = os.environ.get("MISGIVING_MODELS")
    if not root:
        pytest.skip("MISGIVING_MODELS is not set; it names the folder of foreign networks")
    return Path(root)
