"""Scoring on Ray: the same file, whoever computes its parts and however they fare.

A real Ray of two workers on this machine; what the pools read runs in those workers.
"""

import os
import re
import secrets
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import ray

from misgiving.runtime.errors import DataError, EngineError, ImageError
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.images import encode_png
from misgiving.runtime.keypoints import COCO
from misgiving.trainer.data import PoseSet, Sample, open_data
from misgiving.trainer.pool import on_ray, pool_scores
from misgiving.trainer.pool.on_ray import score_pool_on_ray
from misgiving.trainer.pool.pool_scores import score_pool
from shared import tiny

# Ray leaves the processes of a start that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

POOL = "synthetic:3,11,0-0.5"


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator.load(tiny.BUNDLE, threads=1)


@pytest.fixture
def pool() -> PoseSet:
    return open_data(POOL)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_scores, "PART", 4)
    monkeypatch.setattr(on_ray, "PATIENCE", 600)  # a busy machine is none of what is tried here


@pytest.fixture
def expected(tmp_path: Path, estimator: Estimator, pool: PoseSet) -> bytes:
    """What one process writes."""
    score_pool(estimator, pool, tmp_path / "expected.parquet")
    return (tmp_path / "expected.parquet").read_bytes()


@pytest.mark.parametrize(
    "said",  # in Ray's own words
    [
        "The current node timed out during startup. This could happen because",
        "Timed out waiting for file /tmp/session/gcs_server_port_1",
    ],
)
def test_a_start_that_was_too_slow_is_tried_again(
    said: str,
    tmp_path: Path,
    pool: PoseSet,
    estimator: Estimator,
    expected: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, tries = ray.init, []

    def slow(*arguments: Any, **options: Any) -> object:
        tries.append(arguments)
        if len(tries) == 1:
            raise Exception(said)
        return start(*arguments, **options)

    monkeypatch.setattr(ray, "init", slow)
    score_pool_on_ray(estimator.bundle, pool, out := tmp_path / "ray.parquet", "local")
    assert out.read_bytes() == expected
    assert len(tries) == 2


def ours(said: str) -> str:
    """Without what native code remarks on itself: gRPC where other tests left it awake in this
    process, Ray where it is stopped in the middle of a task."""
    return re.sub(r"(I\d{4} .*fork_posix\.cc|\[\d{4}-.* E .*\.cc):\d+.*\n", "", said)


def reading(pool: PoseSet, before: Callable[[int], None]) -> PoseSet:
    """The pool, with something to be done before a person is read."""

    def read(index: int) -> Sample:
        before(index)
        return pool.read(index)

    return replace(pool, read=read)


def test_two_workers_write_the_same_file(
    tmp_path: Path,
    estimator: Estimator,
    pool: PoseSet,
    expected: bytes,
    capfd: pytest.CaptureFixture[str],
) -> None:
    os.mkfifo(tmp_path / "meeting")

    def meet(index: int) -> None:
        """The first part waits until somebody is at the second."""
        if index in (0, 4):
            (tmp_path / f"{index}-by-{os.getpid()}").touch()
            (tmp_path / "meeting").open("r" if index else "w").close()

    capfd.readouterr()
    before = signal.getsignal(signal.SIGTERM)
    out = tmp_path / "a.parquet"
    record = score_pool_on_ray(estimator.bundle, reading(pool, meet), out, "local")
    assert (record.count, record.skipped) == (11, 0)
    assert out.read_bytes() == expected
    assert signal.getsignal(signal.SIGTERM) is before
    workers = {path.name.partition("-by-")[2] for path in tmp_path.glob("*-by-*")}
    assert len(workers - {str(os.getpid())}) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"(scored \d+ of 11 persons\n){3}", ours(said.err))


def test_a_worker_that_dies_is_replaced(
    tmp_path: Path,
    estimator: Estimator,
    pool: PoseSet,
    expected: bytes,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def die_once(index: int) -> None:
        with (tmp_path / "read").open("a") as file:
            file.write(f"{index}\n")
        if index == 6 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    out = tmp_path / "a.parquet"
    score_pool_on_ray(estimator.bundle, reading(pool, die_once), out, "local")
    assert out.read_bytes() == expected  # nobody lost, nobody twice
    read = [int(line) for line in (tmp_path / "read").read_text().split()]
    assert sorted(read) == sorted([*range(11), 4, 5, 6])  # only that part again
    said = capfd.readouterr()
    # Ray tells of the dead worker, unless it is shut down before.
    assert all("(raylet)" in line for line in said.out.splitlines() if line)
    assert re.fullmatch(r"(scored \d+ of 11 persons\n){3}", ours(said.err))


def test_a_part_on_which_every_worker_dies(
    tmp_path: Path,
    estimator: Estimator,
    pool: PoseSet,
    expected: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(index: int) -> None:
        if index == 6:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(on_ray, "RETRIES", 1)
    out = tmp_path / "a.parquet"
    with pytest.raises(
        EngineError, match=r"Ray gave up \(.*\); expected workers that live, 2 at most over"
    ) as error:
        score_pool_on_ray(estimator.bundle, reading(pool, die), out, "local")
    assert "\n" not in str(error.value)
    # What is done is kept, and Ray is not needed to go on.
    done = [path for path in tmp_path.glob("a.parquet.part/part-*") if "000001" not in path.name]
    asked: list[int] = []
    score_pool(estimator, reading(pool, asked.append), out)
    assert len(asked) == 4 + sum(0 if d in [p.name for p in done] else n for d, n in SIZES.items())
    assert out.read_bytes() == expected


SIZES = {"part-000000.parquet": 4, "part-000002.parquet": 3}


def test_it_goes_on_where_one_process_stopped(
    tmp_path: Path, estimator: Estimator, pool: PoseSet, expected: bytes
) -> None:
    def stop(index: int) -> None:
        if index == 5:
            raise KeyboardInterrupt

    def note(index: int) -> None:
        with (tmp_path / "read").open("a") as file:
            file.write(f"{index}\n")

    out = tmp_path / "a.parquet"
    with pytest.raises(KeyboardInterrupt):
        score_pool(estimator, reading(pool, stop), out)
    score_pool_on_ray(estimator.bundle, reading(pool, note), out, "local")
    assert sorted(int(line) for line in (tmp_path / "read").read_text().split()) == [*range(4, 11)]
    assert out.read_bytes() == expected


def test_who_cannot_be_read_is_told_and_counted(
    tmp_path: Path,
    estimator: Estimator,
    pool: PoseSet,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(index: int) -> None:
        if index in (0, 8, 9, 10):
            raise ImageError(f"image {index} is corrupt")

    bad, told, records = reading(pool, fail), [], []
    for out, score in (
        (tmp_path / "a.parquet", lambda out: score_pool(estimator, bad, out)),
        (tmp_path / "b.parquet", lambda o: score_pool_on_ray(estimator.bundle, bad, o, "local")),
    ):
        capfd.readouterr()
        records.append(score(out))
        lines = capfd.readouterr().err.splitlines()
        told.append(sorted(line for line in lines if "is skipped" in line))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert (records[0].count, records[0].skipped) == (7, 4)
    assert told[0] == told[1]
    assert len(told[0]) == 4


def test_what_a_worker_refuses_is_told_as_here(
    tmp_path: Path, estimator: Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(index: int) -> None:
        raise ImageError(f"image {index} is corrupt")

    monkeypatch.setattr(pool_scores, "PART", 100)
    bad = reading(open_data("synthetic:3,65"), fail)
    with pytest.raises(DataError, match=r"^64 persons in a row cannot be read, the last is"):
        score_pool_on_ray(estimator.bundle, bad, tmp_path / "a.csv", "local")


def test_no_room_for_a_worker(tmp_path: Path, estimator: Estimator, pool: PoseSet) -> None:
    with pytest.raises(EngineError, match=r"no node with 3 CPU\(s\) and 0 GPU\(s\)"):
        score_pool_on_ray(estimator.bundle, pool, tmp_path / "a.csv", "local", threads=3)
    with pytest.raises(EngineError, match=r"no node with 1 CPU\(s\) and 1 GPU\(s\)"):
        score_pool_on_ray(estimator.bundle, pool, tmp_path / "a.csv", "local", device="cuda")


def test_every_kind_of_pool_travels(tmp_path: Path) -> None:
    """As far as a test has one; they are all made alike, by a function that knows its folder."""
    (tmp_path / "a.png").write_bytes(tiny_png())
    for spec in (POOL, f"{POOL}#2-3", f"images:{tmp_path}"):
        for keypoints in (None, COCO):
            data = open_data(spec, keypoints)
            got = ray.cloudpickle.loads(ray.cloudpickle.dumps(data))
            assert (got.spec, got.ids) == (data.spec, data.ids)
            np.testing.assert_array_equal(got[0].points, data[0].points)
            np.testing.assert_array_equal(got[0].image, data[0].image)


@pytest.mark.parametrize("address", ["auto", "127.0.0.1", ":6379", "h:-1", "127.0.0.1:99999999999"])
def test_no_address(tmp_path: Path, estimator: Estimator, pool: PoseSet, address: str) -> None:
    with pytest.raises(EngineError, match=r"expected 'local', or the HOST:PORT of a running"):
        score_pool_on_ray(estimator.bundle, pool, tmp_path / "a.csv", address)
    assert not list(tmp_path.iterdir())


COMMAND = [sys.executable, "-m", "misgiving", "score"]


def started(folder: Path, pool: str, address: str = "local") -> "subprocess.Popen[str]":
    """The command, in a session of its own."""
    arguments = ["--pool", pool, "--bundle", str(tiny.BUNDLE), "--out", "a.csv", "--ray", address]
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@contextmanager
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a running Ray; who connects needs the token that is in the environment."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex())
    start = ["-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", "0"]
    with TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        options = ["--num-cpus", "2", "--include-dashboard", "false", "--temp-dir", folder]
        with subprocess.Popen(
            [sys.executable, *start, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            try:
                said = ""
                while not (match := re.search(r"--address='(\S+)'", said)):
                    assert (line := process.stdout.readline()), said
                    said += line
                yield match[1]
            finally:
                process.terminate()
                process.stdout.read()
        assert all_end(process.pid)


@pytest.mark.slow
def test_on_a_cluster(
    tmp_path: Path, estimator: Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster(monkeypatch) as address, started(tmp_path, POOL, address) as process:
        out, said = process.communicate(timeout=240)
    assert said == "scored 11 of 11 persons\n"
    assert out.startswith("scores a.csv: 11 persons of ")
    monkeypatch.setattr(pool_scores, "PART", 1024)
    score_pool(estimator, open_data(POOL), tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def all_end(session: int) -> bool:
    """Whether every process of a session ends; Ray's workers do when they find Ray gone."""
    for pid in [int(name) for name in os.listdir("/proc") if name.isdecimal()]:
        with suppress(ProcessLookupError):
            if os.getsid(pid) == session:
                handle = os.pidfd_open(pid)
                ended, _, _ = select.select([handle], [], [], 60)
                os.close(handle)
                if not ended:
                    return False
    return True


@pytest.mark.slow
def test_the_command_says_nothing_of_ray(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()  # a relative path: the workers stand where the command stands
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / name).write_bytes(tiny_png())
    with started(tmp_path, "images:images") as process:
        out, said = process.communicate(timeout=240)
    assert said == "scored 2 of 2 persons\n"
    assert out.startswith("scores a.csv: 2 persons of images:images by ")
    assert process.returncode == 0
    assert all_end(process.pid)


@pytest.mark.slow
def test_ctrl_c_takes_ray_along(tmp_path: Path) -> None:
    """As a terminal sends it: to every process of the group."""
    (tmp_path / "images").mkdir()
    for number in range(2000):
        (tmp_path / "images" / f"{number:04d}.png").write_bytes(tiny_png())
    with started(tmp_path, "images:images") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("scored ")
        os.killpg(process.pid, signal.SIGINT)
        said = ours(process.stderr.read())
        assert process.wait(60) == 130
    assert re.sub(r"scored .*\n", "", said) == (
        "misgiving: stopped by SIGINT; what was finished is kept\n"
    )
    assert all_end(process.pid)
    assert (tmp_path / "a.csv.part" / "job.json").exists()


def tiny_png() -> bytes:
    return encode_png(tiny.spots([10] * 14))
