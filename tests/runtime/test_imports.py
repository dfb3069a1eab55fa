"""The runtime loads neither torch nor the fleet side's dependencies."""

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys
import misgiving.runtime
names = [m.name for m in pkgutil.walk_packages(misgiving.runtime.__path__, "misgiving.runtime.")]
assert len(names) > 10, names
for name in names:
    if not name.startswith("misgiving.runtime.engines.tensorrt"):
        importlib.import_module(name)
heavy = {"torch", "sqlalchemy", "scipy", "onnx", "matplotlib", "jinja2", "tensorboard"}
print(sorted(heavy & set(sys.modules)))
"""


def test_the_runtime_loads_nothing_of_the_other_parts() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_command_starts_without_numpy_or_grpc() -> None:
    script = "import sys, misgiving.runtime.cli; print({'numpy', 'cv2', 'grpc'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")
