"""The runtime loads neither torch nor the fleet side's dependencies."""

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys
import misgiving.runtime
names = [m.name for m in pkgutil.walk_packages(misgiving.runtime.__path__, "misgiving.runtime.")]
assert len(names) > 10, names
for name in names:
    importlib.import_module(name)
heavy = {"torch", "sqlalchemy", "scipy", "onnx", "matplotlib", "jinja2", "tensorboard"}
print(sorted((heavy | {"tensorrt", "tensorrt_rtx"}) & set(sys.modules)))
"""


def test_the_runtime_loads_nothing_of_the_other_parts() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_command_starts_without_numpy_or_grpc() -> None:
    script = "import sys, misgiving.runtime.cli; print({'numpy', 'cv2', 'grpc'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_a_build_needs_nothing_of_the_other_parts() -> None:
    """On a vehicle: not even onnxruntime. It gets as far as it can without a GPU."""
    script = """
import sys
from misgiving.runtime import building, command
from misgiving.runtime.errors import EngineError
barred = ["torch", "onnx", "onnxruntime", "scipy", "matplotlib", "sqlalchemy"]
sys.modules.update(dict.fromkeys(barred))
class Library:
    def __str__(self): return "tensorrt 10.3.0"
def no_gpu():
    raise EngineError("no GPU here")
building.find_library, building.open_driver = Library, no_gpu
sys.exit(command.run(["build"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "misgiving: no GPU here\n")
