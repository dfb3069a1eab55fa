"""The cache of plans: what is loaded, what is built again, and what real processes do to it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from misgiving.runtime.engines.cache import (
    CACHE_VARIABLE,
    Plan,
    PlanCache,
    PlanKey,
    Profile,
    find_cache,
)
from misgiving.runtime.errors import EngineError, InvalidInput

KEY = PlanKey("a" * 64, "fp32", 128, 128, "Orin (SM87)", "CUDA 12.6", "tensorrt 10.3.0")


def said(share: float, what: str) -> None:
    """Nothing has to be waited for."""
    raise AssertionError(what)


def filled(folder: Path, key: PlanKey = KEY, data: bytes = b"plan") -> PlanCache:
    cache = PlanCache(folder)
    assert cache.get_or_build(key, lambda: data, said) == (
        Plan(data, key.profile, key.precision),
        True,
    )
    return cache


def never() -> bytes:
    raise AssertionError("built although it is there")


def test_what_was_built_is_taken(tmp_path: Path) -> None:
    filled(tmp_path / "cache")
    again = PlanCache(tmp_path / "cache")
    assert again.get_or_build(KEY, never, said) == (Plan(b"plan", Profile(), "fp32"), False)
    assert again.get(KEY) == again.latest(KEY) == Plan(b"plan", Profile(), "fp32")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


CHANGES = [
    # (what is other than before, whether the old plan is of use no more)
    ({"model": "b" * 64}, False),  # another bundle; one may go back
    ({"precision": "fp16"}, False),
    ({"height": 256}, False),
    ({"width": 96}, False),
    ({"gpu": "Orin (SM86)"}, False),  # an engine of another GPU
    ({"gpu": "Thor (SM87)"}, False),
    ({"driver": "CUDA 12.9"}, True),
    ({"library": "tensorrt 10.7.0"}, True),
    ({"library": "tensorrt_rtx 10.3.0", "driver": "CUDA 12.9"}, True),
    ({"library": "tensorrt 10.7.0", "precision": "fp16"}, False),
]


@pytest.mark.parametrize(("change", "is_stale"), CHANGES, ids=str)
def test_any_change_builds_again(change: dict[str, str], is_stale: bool, tmp_path: Path) -> None:
    cache, other = filled(tmp_path / "cache"), replace(KEY, **change)
    assert cache.get(other) is None
    assert cache.latest(other) is None
    assert cache.get_or_build(other, lambda: b"new", said) == (
        Plan(b"new", Profile(), other.precision),
        True,
    )
    assert cache.get(other) == cache.latest(other) == Plan(b"new", Profile(), other.precision)
    assert cache.get(KEY) == (None if is_stale else Plan(b"plan", Profile(), "fp32"))
    assert len(list(cache.folder.iterdir())) == (2 if is_stale else 4)


def test_batches_have_their_own_plans_and_the_last_asked_for_is_used(tmp_path: Path) -> None:
    wide = replace(KEY, profile=Profile(1, 4, 16))
    cache = filled(tmp_path / "cache")
    assert cache.get(wide) is None
    os.utime(cache.path(KEY, "json"), (1, 1))
    assert cache.get_or_build(wide, lambda: b"wide", said)[1]
    assert cache.latest(KEY) == Plan(b"wide", wide.profile, "fp32")
    os.utime(cache.path(wide, "json"), (1, 1))
    assert cache.get_or_build(KEY, never, said) == (Plan(b"plan", KEY.profile, "fp32"), False)
    assert cache.latest(wide) == Plan(b"plan", KEY.profile, "fp32")


def test_the_last_asked_for_is_so_by_any_clock(tmp_path: Path) -> None:
    """The other was asked for by one that stood ahead."""
    wide = replace(KEY, profile=Profile(1, 4, 16))
    cache = filled(tmp_path / "cache")
    os.utime(cache.path(KEY, "json"), (2**32, 2**32))
    cache.get_or_build(wide, lambda: b"wide", said)
    assert cache.latest(KEY) == Plan(b"wide", wide.profile, "fp32")
    os.utime(cache.path(wide, "json"), (2**33, 2**33))
    cache.get_or_build(KEY, never, said)
    assert cache.latest(wide) == Plan(b"plan", KEY.profile, "fp32")


def alter(cache: PlanCache) -> None:
    cache.path(KEY).write_bytes(b"plaN")


def cut(cache: PlanCache) -> None:
    cache.path(KEY).write_bytes(b"pl")


def remove_plan(cache: PlanCache) -> None:
    cache.path(KEY).unlink()


def remove_record(cache: PlanCache) -> None:
    cache.path(KEY, "json").unlink()


def junk_record(cache: PlanCache) -> None:
    cache.path(KEY, "json").write_bytes(b"\0junk")


def record_without_digest(cache: PlanCache) -> None:
    record = json.loads(cache.path(KEY, "json").read_text())
    del record["sha256"]
    cache.path(KEY, "json").write_text(json.dumps(record))


def foreign(cache: PlanCache) -> None:
    """A whole plan and its record, from another GPU, under our name."""
    other = replace(KEY, gpu="Thor (SM110)")
    cache.get_or_build(other, lambda: b"foreign", said)
    for suffix in ("plan", "json"):
        shutil.copy(cache.path(other, suffix), cache.path(KEY, suffix))


SPOILED = [alter, cut, remove_plan, remove_record, junk_record, record_without_digest, foreign]


@pytest.mark.parametrize("spoil", SPOILED)
def test_nothing_but_what_was_built_is_loaded(spoil: object, tmp_path: Path) -> None:
    cache = filled(tmp_path / "cache")
    spoil(cache)
    assert cache.get(KEY) is None
    assert cache.latest(KEY) is None
    assert cache.get_or_build(KEY, lambda: b"anew", said) == (
        Plan(b"anew", Profile(), "fp32"),
        True,
    )
    assert cache.get(KEY) == Plan(b"anew", Profile(), "fp32")


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path / "cache")
    with pytest.raises(ZeroDivisionError):
        cache.get_or_build(KEY, lambda: b"%d" % (1 // 0), said)
    assert list(cache.folder.iterdir()) == []


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o702, 0o777])
def test_a_folder_that_others_may_touch_is_refused(mode: int, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(EngineError, match=f"has mode {mode:o} .* expected 700 .* chmod 700"):
        PlanCache(folder)


def test_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(EngineError, match="expected 700 and 4711"):
        PlanCache(tmp_path / "cache")


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "cache").symlink_to(tmp_path / "real")
    with pytest.raises(EngineError, match="is no folder, or a link to one"):
        PlanCache(tmp_path / "cache")


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_cache_that_cannot_be_made(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match="cannot be used: .* name another by MISGIVING_CACHE"):
        PlanCache(tmp_path / name)


@pytest.mark.parametrize(
    "sizes",
    [(0, 1, 8), (2, 1, 8), (1, 9, 8), (1, 1, 1025), (-1, -1, -1)],
)
def test_batch_sizes_out_of_order(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidInput, match="expected 1 ≤ min ≤ opt ≤ max ≤ 1024"):
        Profile(*sizes)


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/car")
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert find_cache() == Path("/home/car/.cache/misgiving/plans")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert find_cache() == Path("/var/cache/misgiving/plans")
    monkeypatch.setenv(CACHE_VARIABLE, "/data/plans")
    assert find_cache() == Path("/data/plans")


BUILDER = """
import resource, sys
from pathlib import Path
from misgiving.runtime.engines.cache import PlanCache, PlanKey
from misgiving.runtime.errors import EngineError

def say(share, what):
    print(what, flush=True)

def build():
    {build}

key = PlanKey("a" * 64, "fp32", 128, 128, "Orin (SM87)", "CUDA 12.6", "tensorrt 10.3.0")
try:
    plan, is_new = PlanCache(Path(sys.argv[1])).get_or_build(key, build, say)
    print(plan.data[:7].decode(), is_new)
except EngineError as error:
    print(error)
"""


def start(folder: Path, build: str) -> "subprocess.Popen[str]":
    """A process that gets or builds KEY's plan."""
    command = [sys.executable, "-c", BUILDER.format(build=build), str(folder)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def heard(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


SLOWLY = "print('building', flush=True); return sys.stdin.readline().strip().encode()"


def test_two_processes_build_once(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with start(folder, SLOWLY) as first:
        assert heard(first) == "building"
        with start(folder, "raise AssertionError('built twice')") as second:
            assert heard(second) == "another process builds in this cache; waiting for it"
            assert first.communicate("by-one\n") == ("by-one True\n", "")
            assert second.communicate() == ("by-one False\n", "")


def test_the_one_that_waits_builds_where_the_other_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with start(folder, SLOWLY) as first:
        assert heard(first) == "building"
        # As of a process that was killed in the middle of writing.
        half = folder / f".{KEY.name}.plan.0badcafe"
        half.write_bytes(b"by-")
        with start(folder, "return b'by-two'") as second:
            assert heard(second) == "another process builds in this cache; waiting for it"
            first.send_signal(signal.SIGKILL)
            assert second.communicate() == ("by-two True\n", "")
        first.communicate()
    assert not half.exists()
    assert PlanCache(folder).get(KEY) == Plan(b"by-two", Profile(), "fp32")


KILLED_AT = [
    ("fsync", 1, set()),  # the plan is written, under no plan's name
    ("replace", 1, set()),
    ("replace", 2, {"plan"}),  # the plan has its name, and no record yet
]


@pytest.mark.parametrize(("call", "time", "left"), KILLED_AT)
def test_killed_while_writing(call: str, time: int, left: set[str], tmp_path: Path) -> None:
    """A real process kills itself at a call after the build, made for the n-th time."""
    kill = (
        f"import os; real, calls = os.{call}, []; os.{call} = lambda *a: real(*a) if "
        f"calls.append(a) or len(calls) < {time} else os.kill(os.getpid(), {signal.SIGKILL:d}); "
        "return b'x' * 99"
    )
    folder = tmp_path / "cache"
    with start(folder, kill) as process:
        assert process.communicate() == ("", "")
        assert process.returncode == -signal.SIGKILL
    assert {path.suffix[1:] for path in folder.glob("[!.]*")} == left
    cache = PlanCache(folder)
    assert cache.get(KEY) is None
    assert cache.get_or_build(KEY, lambda: b"anew", said) == (
        Plan(b"anew", Profile(), "fp32"),
        True,
    )
    assert {path.name for path in folder.iterdir()} == {f"{KEY.name}.plan", f"{KEY.name}.json"}


def test_a_full_disk(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000,) * 2); return b'x' * 100_000"
    with start(folder, full) as process:
        answer, errors = process.communicate()
    assert errors == ""
    assert answer.startswith(f"cache {folder} cannot be used: File too large; expected a folder")
    assert list(folder.iterdir()) == []
