"""A server whose engine has a core for itself: its thread is pinned there, and the rest is not.

Runs another script or module in this process. Writes the size of each batch into a file, a byte
each, so that the bare engine can be asked for the same.

Run: python benchmarks/pinned.py CORE FILE (SCRIPT | -m MODULE) ARGUMENT...
"""

import os
import runpy
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.engines.onnx import OnnxEngine


def pin(core: int, file: int) -> None:
    """Let each thread that asks an engine move to a core, and note what it asks."""
    infer, known = OnnxEngine.infer, threading.local()

    def noted(self: OnnxEngine, images: NDArray[np.uint8]) -> Any:
        if not hasattr(known, "core"):
            os.sched_setaffinity(threading.get_native_id(), {core})
            known.core = core
        os.write(file, bytes([len(images)]))
        return infer(self, images)

    OnnxEngine.infer = noted  # type: ignore[method-assign]


def main() -> None:
    """Pin, then be the other program."""
    core, file, *rest = sys.argv[1:]
    pin(int(core), os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    run = runpy.run_path
    if rest[0] == "-m":
        run, rest = runpy.run_module, rest[1:]
    sys.argv = rest
    run(rest[0], run_name="__main__")


if __name__ == "__main__":
    main()
