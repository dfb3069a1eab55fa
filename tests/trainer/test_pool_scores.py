"""Scoring a pool: what the bundle says, in parts that outlive a kill, whole or not at all."""

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from misgiving.runtime.durable import locked_folder
from misgiving.runtime.errors import DataError, ImageError
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Region
from misgiving.trainer.answers.asking import ask
from misgiving.trainer.data import PoseSet, Sample, open_data, readable, subset
from misgiving.trainer.pool import pool_scores
from misgiving.trainer.pool.pool_scores import score_pool
from misgiving.trainer.pool.score_file import SUFFIXES, open_scores
from shared import tiny
from shared.training import people, pose_set

POOL = "synthetic:3,11,0-0.5"


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator.load(tiny.BUNDLE, threads=1)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_scores, "PART", 4)


@pytest.fixture
def pool() -> PoseSet:
    return people(3, 11)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("count", [1, 4, 11])  # less than a part, a part, several
def test_a_row_for_each_person(
    tmp_path: Path, estimator: Estimator, pool: PoseSet, suffix: str, count: int
) -> None:
    some = subset(pool, range(count), f"lsp:{tmp_path}#1-{count}")
    out = tmp_path / "new" / f"scores{suffix}"
    record = score_pool(estimator, some, out)
    file = open_scores(out)
    ids, columns = file.columns()
    (expected,) = ask(estimator, (some[i] for i in range(count)))
    assert tuple(ids) == expected.ids == some.ids
    signals = estimator.bundle.manifest.signals
    assert list(columns) == ["predicted_loss", *(s.name for s in signals)]
    np.testing.assert_allclose(columns["predicted_loss"], expected.predicted_loss, atol=1e-6)
    for number, name in enumerate(s.name for s in signals):
        np.testing.assert_allclose(columns[name], expected.signals[:, number], atol=1e-6)
    np.testing.assert_allclose(file.embedding(), expected.embedding, atol=1e-6)
    assert record == file.record
    assert record.bundle_digest == estimator.bundle.digest
    assert record.pool == f"lsp:{tmp_path.name}#1-{count}"  # no folder leaves this machine
    assert (record.count, record.skipped, record.signals) == (count, 0, signals)
    assert names(out.parent) == [out.name]


CHILD = """
import os, shutil, signal, sys
from pathlib import Path
from misgiving.runtime.estimator import Estimator
from misgiving.trainer.pool import pool_scores
from misgiving.trainer.data import open_data

spec, out, bundle, where, last = sys.argv[1:]
module, name = {"os": os, "shutil": shutil}[where.split(".")[0]], where.split(".")[1]
calls, real = [], getattr(module, name)

def killing(*arguments):
    calls.append(arguments)
    if len(calls) == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)

setattr(module, name, killing)
pool_scores.PART = 4
pool_scores.score_pool(Estimator.load(Path(bundle), threads=1), open_data(spec), Path(out))
"""


@pytest.mark.parametrize(
    ("call", "last", "left"),
    [
        ("os.fsync", 1, None),  # the job is not there yet
        ("os.fsync", 3, 0),  # the first part has no name yet
        ("os.replace", 3, 1),  # neither has the second
        ("os.fsync", 9, 3),  # all parts, and the file is not merged
        ("os.replace", 5, 3),  # merged, and has no name yet
    ],
)
def test_a_kill(
    tmp_path: Path, estimator: Estimator, pool: PoseSet, call: str, last: int, left: int | None
) -> None:
    out = tmp_path / "out" / "scores.parquet"
    command = [sys.executable, "-c", CHILD, POOL, str(out), str(tiny.BUNDLE), call, str(last)]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert names(out.parent) == ["scores.parquet.part"]
    there = [name for name in names(out.parent / "scores.parquet.part") if name[0] != "."]
    parts = [f"part-{number:06d}.parquet" for number in range(left or 0)]
    assert [name for name in there if name != out.name] == (
        [] if left is None else ["job.json", *parts]
    )
    asked: list[int] = []
    score_pool(estimator, watched(pool, asked), out)
    assert asked == list(range(4 * (left or 0), 11))  # nobody twice
    score_pool(estimator, open_data(POOL), tmp_path / "uninterrupted.parquet")
    assert out.read_bytes() == (tmp_path / "uninterrupted.parquet").read_bytes()
    assert names(out.parent) == [out.name]


def watched(pool: PoseSet, asked: list[int]) -> PoseSet:
    def read(index: int) -> Sample:
        asked.append(index)
        return pool.read(index)

    return replace(pool, read=read)


def broken(pool: PoseSet, bad: set[int]) -> PoseSet:
    def read(index: int) -> Sample:
        if index in bad:
            raise ImageError(f"image {index} is corrupt")
        return pool.read(index)

    return replace(pool, read=read)


@pytest.mark.parametrize(
    "bad",
    [
        {0},
        {10},  # alone in the last part is {8, 9, 10}
        {8, 9, 10},  # a whole part
        {0, 1, 2, 5, 10},
    ],
)
def test_who_cannot_be_read_is_skipped(
    tmp_path: Path,
    estimator: Estimator,
    pool: PoseSet,
    bad: set[int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    record = score_pool(estimator, broken(pool, bad), tmp_path / "a.csv")
    kept = [name for index, name in enumerate(pool.ids) if index not in bad]
    assert open_scores(tmp_path / "a.csv").columns()[0] == kept
    assert (record.count, record.skipped) == (len(kept), len(bad))
    said = [line for line in capfd.readouterr().err.splitlines() if "skipped" in line]
    assert said == [f"{pool.ids[i]} is skipped: image {i} is corrupt" for i in sorted(bad)]


def test_a_box_outside_its_image_is_skipped(
    tmp_path: Path, estimator: Estimator, pool: PoseSet
) -> None:
    samples = [replace(pool[i], box=Region(9999, 0, 5, 5) if i == 1 else None) for i in range(3)]
    assert score_pool(estimator, pose_set(samples), tmp_path / "a.csv").skipped == 1


def test_a_file_whose_name_is_no_utf_8(tmp_path: Path, estimator: Estimator, pool: PoseSet) -> None:
    out = tmp_path / "stra\udcdfe.csv"
    assert score_pool(estimator, pool, out).count == len(open_scores(out).columns()[0]) == 11


def test_only_a_row_of_bad_ones_is_a_lost_disk(
    tmp_path: Path, estimator: Estimator, pool: PoseSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_scores, "PART", 11)
    monkeypatch.setattr(readable, "LOST", 3)
    assert score_pool(estimator, broken(pool, {0, 1, 3, 4}), tmp_path / "a.csv").skipped == 4
    with pytest.raises(DataError, match=r"3 persons in a row cannot be read, the last is .*005 "):
        score_pool(estimator, broken(pool, {0, 1, 3, 4, 5}), tmp_path / "b.csv")


def test_skipped_before_a_stop_counts(
    tmp_path: Path, estimator: Estimator, pool: PoseSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.csv"
    monkeypatch.setattr(readable, "LOST", 3)
    with pytest.raises(DataError, match=r"3 persons in a row cannot be read, the last is synth"):
        score_pool(estimator, broken(pool, {1, 8, 9, 10}), out)
    # The part in which the disk went is read again, and only that.
    asked: list[int] = []
    assert score_pool(estimator, watched(broken(pool, {1}), asked), out).skipped == 1
    assert asked == [8, 9, 10]


def test_nobody_can_be_read(tmp_path: Path, estimator: Estimator, pool: PoseSet) -> None:
    with pytest.raises(DataError, match=r"nobody of synthetic:3,11,0-0.5 can be read"):
        score_pool(estimator, broken(pool, set(range(11))), tmp_path / "a.csv")
    assert names(tmp_path) == []


def test_what_is_there_is_kept(tmp_path: Path, estimator: Estimator, pool: PoseSet) -> None:
    (tmp_path / "a.csv").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    for name, message in (
        ("a.csv", "is there already; nothing is overwritten"),
        ("folder.csv", "is a folder; expected the name of a new file"),
        ("a.json", "ends with '.json'; expected .parquet or .csv"),
    ):
        with pytest.raises(DataError, match=message):
            score_pool(estimator, pool, tmp_path / name)
    assert names(tmp_path) == ["a.csv", "folder.csv"]
    assert (tmp_path / "a.csv").read_text() == "mine"


def test_the_name_was_taken_meanwhile(tmp_path: Path, estimator: Estimator, pool: PoseSet) -> None:
    def read(index: int) -> Sample:
        (tmp_path / "a.csv").write_text("mine")
        return pool.read(index)

    with pytest.raises(DataError, match="is there already"):
        score_pool(estimator, replace(pool, read=read), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "mine"
    (tmp_path / "a.csv").unlink()
    assert score_pool(estimator, watched(pool, asked := []), tmp_path / "a.csv").count == 11
    assert asked == []


def begun(out: Path, estimator: Estimator, pool: PoseSet) -> Path:
    """The folder of a run that stopped after one part."""

    def read(index: int) -> Sample:
        if index == 5:
            raise ZeroDivisionError
        return pool.read(index)

    with pytest.raises(ZeroDivisionError):
        score_pool(estimator, replace(pool, read=read), out)
    folder = out.with_name(out.name + ".part")
    assert names(folder) == ["job.json", "part-000000.parquet"]
    return folder


def test_another_job_is_refused(tmp_path: Path, estimator: Estimator, pool: PoseSet) -> None:
    out = tmp_path / "a.csv"
    folder = begun(out, estimator, pool)
    other = Estimator(replace(estimator.bundle, digest="0" * 64), estimator.engine)
    lower = Estimator(replace(estimator.bundle, precision="fp16"), estimator.engine)
    for asked, data, message in (
        (lower, pool, r"was begun with precision fp32; this is precision fp16"),
        (other, pool, rf"was begun with bundle {estimator.bundle.digest}; this is bundle 0000"),
        (estimator, people(4, 11), r"begun with pool synthetic:3,11,0-0.5; this is pool synth"),
        (estimator, replace(pool, ids=pool.ids[::-1]), r"was begun with ids [0-9a-f]+; this is"),
    ):
        with pytest.raises(DataError, match=message):
            score_pool(asked, data, out)
    assert names(folder) == ["job.json", "part-000000.parquet"]
    assert score_pool(estimator, pool, out).count == 11


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("job.json", b"{", r"job.json is none of ours"),
        ("job.json", b"{}", r"job.json is none of ours"),
        ("job.json", b"[]", r"job.json is none of ours"),
        ("part-000000.parquet", b"half", r"holds a damaged part .* Remove that folder"),
    ],
)
def test_a_damaged_folder(
    tmp_path: Path, estimator: Estimator, pool: PoseSet, name: str, content: bytes, message: str
) -> None:
    out = tmp_path / "a.csv"
    (begun(out, estimator, pool) / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        score_pool(estimator, pool, out)
    assert "\n" not in str(error.value)
    assert not out.exists()


def test_two_at_once(tmp_path: Path, estimator: Estimator, pool: PoseSet) -> None:
    out = tmp_path / "a.csv"
    with locked_folder(begun(out, estimator, pool)), pytest.raises(DataError, match="in use by"):
        score_pool(estimator, pool, out)
    assert score_pool(estimator, pool, out).count == 11


@pytest.mark.parametrize("call", range(1, 10))  # of fsync: job, parts, file and their folders
def test_a_full_disk(
    tmp_path: Path,
    estimator: Estimator,
    pool: PoseSet,
    call: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, calls, real = tmp_path / "a.csv", [], os.fsync

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"a.csv cannot be written: No space left on device; exp"):
        score_pool(estimator, pool, out)
    assert names(tmp_path) == (["a.csv.part"] if call > 1 else [])  # before anything is done
    assert not (tmp_path / "a.csv.part" / out.name).exists()  # half a file keeps no room
    assert score_pool(estimator, pool, out).count == 11


def test_the_new_name_is_durable(
    tmp_path: Path, estimator: Estimator, pool: PoseSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real, synced = tmp_path / "a.csv", os.fsync, []

    def watching(handle: int) -> None:
        synced.append((os.fstat(handle).st_ino, out.exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", watching)
    score_pool(estimator, pool, out)
    assert synced[-2:] == [(out.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


def test_the_job_names_parts_by_their_size(
    tmp_path: Path, estimator: Estimator, pool: PoseSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of this program may cut otherwise."""
    folder = begun(tmp_path / "a.csv", estimator, pool)
    assert json.loads((folder / "job.json").read_text())["part"] == 4
    monkeypatch.setattr(pool_scores, "PART", 5)
    with pytest.raises(DataError, match="was begun with part 4; this is part 5"):
        score_pool(estimator, pool, tmp_path / "a.csv")
