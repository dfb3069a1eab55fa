"""A process that writes files, killed before each change that it makes to its folder."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.keys import new_key
from misgiving.runtime.bundles.trust import Trust
from misgiving.runtime.engines.cache import PlanCache, PlanKey
from misgiving.runtime.errors import BundleError

HOOK = """
import os, signal, sys

left, folder = int(os.environ["KILL_AT"]), os.environ["KILL_IN"]
changes = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


def kill(event, arguments):
    global left
    writes = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if (writes or event in changes) and str(arguments[0]).startswith(folder):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(kill)
"""
"""Python runs a ``sitecustomize`` before anything else."""

KEY = PlanKey("m" * 64, "fp16", 56, 42, "a GPU", "a driver", "a library")
PLAN = b"plan" * 1000
BUILD = """
from pathlib import Path
import kill_points
kill_points.build(Path({folder!r}))
"""
RISE = """
from misgiving.runtime.bundles.floor import rise
assert rise("model", 7)
"""


@dataclass(frozen=True)
class Work:
    """A process, and what must hold of its folder whenever it was killed."""

    prepare: Callable[[Path], object]
    command: Callable[[Path], list[str]]
    done: Callable[[Path], bool]
    """Whether all is there; raises where something is there in part, or is lost."""


def build(folder: Path) -> None:
    PlanCache(folder / "plans").get_or_build(KEY, lambda: PLAN, print)


def works(bundle: Path) -> dict[str, Work]:
    def sign(folder: Path) -> list[str]:
        return ["-m", "misgiving", "sign", f"{folder}/bundle", "--key", f"{folder}/key"]

    def pack(folder: Path) -> list[str]:
        return ["-m", "misgiving", "pack", str(bundle), "--out", f"{folder}/bundle.zip"]

    def with_key(folder: Path) -> None:
        shutil.copytree(bundle, folder / "bundle")
        new_key(folder / "key")

    return {
        "pack": Work(lambda _: None, pack, _packed),
        "sign": Work(with_key, sign, _signed),
        "a plan, written to its cache": Work(
            lambda _: None, lambda folder: ["-c", BUILD.format(folder=str(folder))], _built
        ),
        "the floor, raised from 5 to 7": Work(
            lambda folder: (folder / "floors.json").write_text('{"model": 5}'),
            lambda _: ["-c", RISE],
            _risen,
        ),
    }


def killed_everywhere(work: Work) -> Counter[str]:
    """How often it was killed, and after how many of these kills the next one did its work."""
    seen = Counter[str]()
    for number in count():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place, "work")
            folder.mkdir()
            work.prepare(folder)
            if _run(work, folder, number) == 0:
                assert work.done(folder)
                return seen
            seen["kills"] += 1
            seen["whole"] += work.done(folder) or _run(work, folder) == 0 and work.done(folder)
    raise AssertionError


def _run(work: Work, folder: Path, kill_at: int = 1 << 30) -> int:
    hook = folder.parent / "hook"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join([str(hook), str(Path(__file__).parent)])
    ours = {"KILL_AT": str(kill_at), "KILL_IN": str(folder), "MISGIVING_STATE": str(folder)}
    environment = os.environ | ours | {"PYTHONPATH": path}
    command = [sys.executable, *work.command(folder)]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def _packed(folder: Path) -> bool:
    if not (folder / "bundle.zip").exists():
        return False
    Bundle.load(folder / "bundle.zip")
    return True


def _signed(folder: Path) -> bool:
    try:
        Bundle.load(folder / "bundle", Trust.read(folder / "key.pub"))
    except BundleError:
        return False
    return True


def _built(folder: Path) -> bool:
    plan = PlanCache(folder / "plans").get(KEY)
    assert plan is None or plan.data == PLAN
    return plan is not None


def _risen(folder: Path) -> bool:
    floor = json.loads((folder / "floors.json").read_text())["model"]
    assert floor in (5, 7)
    return bool(floor == 7)
