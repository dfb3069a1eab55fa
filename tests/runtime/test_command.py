"""The process around the verbs: what comes out of it where something goes wrong.

What users can do wrong, verb by verb, is in tests/bad_input/.
"""

import errno
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from misgiving.runtime.errors import DataError
from misgiving.runtime.images import encode_png
from misgiving.runtime.net import sending
from misgiving.runtime.verbs import cli, command
from shared import tiny


def raising(error: BaseException) -> Callable[..., int]:
    def app(*_: object, **__: object) -> int:
        raise error

    return app


def missing(module: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named {module!r}", name=module)


@pytest.mark.parametrize(
    ("error", "verb", "code", "said"),
    [
        # what we raise on purpose, on one line however it came
        (DataError("x is y;\nexpected z"), "infer", 2, "misgiving: x is y; expected z\n"),
        # a path as long as it likes
        (DataError("x" * 9999), "infer", 2, f"misgiving: {'x' * 500} … {'x' * 500}\n"),
        # the disk, with and without a name
        (OSError(errno.ENOSPC, "Full", "a"), "infer", 2, "misgiving: a cannot be written: Full; "),
        (OSError(errno.ENOSPC, "Full"), "infer", 2, "misgiving: output cannot be written: Full; "),
        # any path
        (OSError(errno.EACCES, "No", "a"), "infer", 2, "misgiving: a: No; expected a path that "),
        (MemoryError("of 9 GiB"), "train", 2, "misgiving: out of memory (of 9 GiB); expected"),
        # a name that a library does not take; another text that cannot be encoded is ours
        (
            UnicodeEncodeError("utf-8", "a\udcdf", 1, 2, "surrogates not allowed"),
            "train",
            2,
            "misgiving: 'a\\udcdf' is not UTF-8, which a library that is used here expects",
        ),
        (UnicodeEncodeError("ascii", "é", 0, 1, "ordinal"), "train", 1, "that is a fault of misg"),
        # whoever read stdout went away: nobody to tell
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "infer", 1, ""),
        # signals
        (command.Stopped(2), "train", 130, "misgiving: stopped by SIGINT; what was finished is"),
        (command.Stopped(15), "train", 143, "misgiving: stopped by SIGTERM; what was finished is"),
        # one extra, several extras, a part of a module
        (missing("onnxruntime.capi"), "infer", 2, "pip install 'misgiving[cpu]'\n"),
        (missing("torch"), "demo", 2, "pip install 'misgiving[cpu,train,export,collector]'\n"),
        # ours to mend: the traceback stays
        (missing("nowhere"), "infer", 1, "Traceback (most recent call last):"),
        (OSError(errno.EBADF, "Bad"), "infer", 1, "that is a fault of misgiving"),
        (ZeroDivisionError(), "infer", 1, "ZeroDivisionError"),
    ],
)
def test_every_end(
    error: BaseException,
    verb: str,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "mount_verbs", lambda: None)
    monkeypatch.setattr(cli, "app", raising(error))
    assert command.run([verb]) == code
    stderr = capsys.readouterr().err
    assert said in stderr if said else not stderr


def test_all_that_lacks_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "mount_verbs", lambda: None)
    monkeypatch.setattr(cli, "app", raising(missing("sqlalchemy")))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    command.run(["demo"])
    assert ", onnx, onnxscript, sqlalchemy, flask, " in capsys.readouterr().err


def test_a_broken_part_leaves_the_other_verbs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = metadata.EntryPoint("trainer", "misgiving.nowhere.cli:app", "misgiving.verbs")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [broken])
    monkeypatch.setattr(cli, "mount_verbs", cli.mount_verbs.__wrapped__)
    assert command.run(["--version"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("misgiving ")
    assert said.err.startswith("misgiving: verbs of trainer are missing: No module named")


SWALLOWED = """
import os, signal, time
from misgiving.runtime.verbs.command import Stopped, take_signals

class Thing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)  # here the handler raises, and Python ignores it

take_signals()
Thing()
try:
    signal.pause()
    signal.pause()
except Stopped as stop:
    print("stopped by", stop.name)
"""


def test_a_signal_in_a_destructor_is_not_lost() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWED], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("stopped by SIGTERM\n", "", 0)


WHOLE = importlib.machinery.ModuleSpec("cv2", None, origin="cv2/__init__.py")
EMPTY = importlib.machinery.ModuleSpec("cv2", None)
"""A folder without __init__.py: what is left of a wheel that another one was installed over."""


@pytest.mark.parametrize(
    ("wheels", "spec", "whole", "said"),
    [
        (["opencv-python-headless"], WHOLE, True, ""),
        # a distribution's own package, which pip knows nothing of
        ([], WHOLE, True, ""),
        (
            ["opencv-python", "opencv-python-headless"],
            WHOLE,
            True,
            "opencv-python and opencv-python-headless are installed; expected one wheel",
        ),
        (
            ["opencv-python-headless"],
            EMPTY,
            False,
            "opencv-python-headless is installed and its files are gone; expected one wheel of "
            "OpenCV, since all write the same files. Run: pip uninstall -y opencv-python-headless, "
            "then: pip install --force-reinstall opencv-python-headless",
        ),
        (["opencv-contrib-python"], None, False, "opencv-contrib-python is installed and its"),
        ([], None, False, "no wheel of OpenCV is installed; expected one wheel"),
    ],
)
def test_wheels_of_opencv(
    wheels: list[str], spec: object, whole: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_installed", wheels.__contains__)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert command.opencv()[0] is whole
    assert command.opencv()[1].startswith(said) if said else not command.opencv()[1]


MISGIVING = (sys.executable, "-m", "misgiving")


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Three with names for other terminals; the last one's bytes are no UTF-8."""
    found = [tmp_path / name for name in ("写真.png", "b.png", os.fsdecode(b"stra\xdfe.png"))]
    for path in found:
        path.write_bytes(encode_png(tiny.spots([0] * 14)))
    return found


@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "iso8859-15"},
        {"PYTHONIOENCODING": "gbk"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_terminal_that_is_not_utf_8(locale: dict[str, str], pictures: list[Path]) -> None:
    arguments = ("infer", *map(os.fsencode, pictures), "--bundle", tiny.BUNDLE)
    done = subprocess.run(
        [*MISGIVING, *arguments], capture_output=True, env={**os.environ, **locale}, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b".png") == 3


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_lead_nowhere(closed: str, pictures: list[Path]) -> None:
    drawn = pictures[0].parent / "drawn"
    infer = f"infer {pictures[1]} --bundle {tiny.BUNDLE} --json --draw {drawn}"
    done = subprocess.run(
        ["sh", "-c", f"{' '.join(MISGIVING)} {infer} {closed}"], capture_output=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stderr == b""
    assert (drawn / "b.pose.png").read_bytes().startswith(b"\x89PNG")
    if ">&-" not in closed.replace("2>&-", ""):
        assert json.loads(done.stdout)["frame_id"] == str(pictures[1])


def test_a_thread_in_a_decoder_does_not_abort_the_process() -> None:
    """Python's own end would, by a C++ exception in that thread: exit code -6 (134 in a shell)."""
    code = """
import sys, threading, cv2, numpy
from misgiving.runtime.verbs import command

def work():
    while True:
        begun.set()
        cv2.GaussianBlur(image, (5, 5), 0)

image, begun = numpy.zeros((2000, 2000, 3), numpy.uint8), threading.Event()
threading.Thread(target=work, name=command.READERS[0], daemon=True).start()
begun.wait()
print("said")
sys.argv = ["misgiving", "--version"]
command.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout[:15]) == (0, "said\nmisgiving ")


def test_the_threads_that_read_are_known_by_name() -> None:
    assert command.READERS == (sending.READER, sending.LIVE_READER)
