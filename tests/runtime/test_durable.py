"""Files and folders that appear whole or not at all."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from misgiving.runtime.durable import check_new, locked_folder, new_folder, write_durably
from misgiving.runtime.errors import DataError, InUse


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_durably(path, b"old")
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a"]
    plain = tmp_path / "b"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode  # as any file of this user


def test_a_file_that_cannot_be_written_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_durably(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_results_are_never_overwritten(tmp_path: Path) -> None:
    check_new(tmp_path / "nowhere")
    check_new(tmp_path)  # empty
    file = tmp_path / "file"
    file.write_text("x")
    for taken in (tmp_path, file):
        message = r"is there already; nothing is overwritten. Give another name"
        with pytest.raises(DataError, match=message):
            check_new(taken)
        with pytest.raises(DataError, match=message), new_folder(taken):
            pytest.fail("nothing may be written here")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("there", [False, True])  # an empty folder may be there
def test_a_folder_appears_when_it_is_whole(tmp_path: Path, there: bool) -> None:
    out = tmp_path / "deep" / "out"
    if there:
        out.mkdir(parents=True)
    with new_folder(out) as new:
        (new / "inner").mkdir()
        (new / "inner" / "file").write_text("x")
        assert not any(out.glob("*"))
    assert names(tmp_path) == ["deep", "deep/out", "deep/out/inner", "deep/out/inner/file"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with new_folder(tmp_path / "out") as new:
            (new / "file").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == []


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    message = r"out cannot be written: No space left on device; expected a folder on a disk with"
    with pytest.raises(DataError, match=message), new_folder(tmp_path / "out"):
        Path("/dev/full").write_text("x")
    assert names(tmp_path) == []


HOLD = """
import sys
from pathlib import Path
from misgiving.runtime.durable import new_folder
with new_folder(Path(sys.argv[1])) as new:
    (new / "half").write_text("x")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_and_a_killed_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", HOLD, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DataError, match="in use by another process"), new_folder(out):
            pytest.fail("the other one writes here")
        other.kill()
    assert names(tmp_path) == ["out.part", "out.part/half"]  # killed: nothing half-written as out
    with new_folder(out) as new:
        assert names(new) == []
        (new / "whole").write_text("x")
    assert names(tmp_path) == ["out", "out/whole"]


def test_a_lock_ends_with_its_block(tmp_path: Path) -> None:
    for _ in range(2):
        with locked_folder(tmp_path):
            pass


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with locked_folder(tmp_path, wait=True):
            order.append("second")

    with locked_folder(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        with pytest.raises(InUse, match="in use by another process"), locked_folder(tmp_path):
            pass
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]
