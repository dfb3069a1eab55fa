"""The runtime loads neither torch nor the fleet side's dependencies."""

import os
import subprocess
import sys
from pathlib import Path

from misgiving.runtime.bundles.releasing import pack_bundle
from runtime.trusting import Fleet

HEAVY = {"torch", "sqlalchemy", "scipy", "onnx", "matplotlib", "jinja2", "tensorboard", "faiss"}
OPTIONAL = ("misgiving.runtime.engines.tensorrt", "misgiving.runtime.watching.movies")
"""What an extra, or nothing that pip installs, brings the library of."""
SCRIPT = f"""
import importlib, pkgutil, sys
import misgiving.runtime
names = [m.name for m in pkgutil.walk_packages(misgiving.runtime.__path__, "misgiving.runtime.")]
assert len(names) > 10, names
for name in names:
    if not name.startswith({OPTIONAL!r}):
        importlib.import_module(name)
print(sorted({HEAVY!r} & set(sys.modules)))
"""


def test_the_runtime_loads_nothing_of_the_other_parts() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_command_helps_without_what_a_verb_loads() -> None:
    """With the verbs that other parts mount: what it loads is most of what ``--help`` takes."""
    slow = {"numpy", "cv2", "grpc", "pydantic", "asyncio", "hashlib", *HEAVY}
    script = f"""
import sys
from misgiving.runtime.verbs import command
command.run(["--help"])
print(sorted({slow!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout.splitlines()[-1], done.stderr) == ("[]", "")


def test_the_verbs_of_a_vehicle_are_the_runtime_s_own() -> None:
    """Before another part's are mounted."""
    script = """
from misgiving.runtime.verbs import cli
print(*sorted(command.callback.__name__ for command in cli.app.registered_commands))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("build infer serve status stream verify watch\n", "")


def test_a_build_needs_nothing_of_the_other_parts() -> None:
    """On a vehicle: not even onnxruntime. It gets as far as it can without a GPU."""
    script = """
import sys
from misgiving.runtime.engines import building
from misgiving.runtime.verbs import command
from misgiving.runtime.errors import EngineError
barred = ["faiss", "torch", "onnx", "onnxruntime", "scipy", "matplotlib", "sqlalchemy"]
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


def test_a_vehicle_verifies_without_the_other_parts(tmp_path: Path) -> None:
    """Not even lazily: what it would import is not there."""
    fleet = Fleet(tmp_path)
    fleet.sign()
    pack_bundle(fleet.bundle, packed := tmp_path / "bundle.zip")
    script = f"""
import sys
sys.modules.update(dict.fromkeys({HEAVY!r}))
from misgiving.runtime.verbs import command
sys.exit(command.run(sys.argv[1:]))
"""
    words = ["verify", str(packed), "--trust", str(fleet.trusted)]
    env = os.environ | {"MISGIVING_STATE": str(tmp_path)}
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "release 1, expires never; 2 files as signed by key " + fleet.id in done.stdout
