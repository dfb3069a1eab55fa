"""The floor rises after a probation, never sinks, and its file never stops inference."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from misgiving.runtime.bundles import floor
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.floor import risen, survives
from misgiving.runtime.bundles.trust import Trust
from misgiving.runtime.client import Client
from misgiving.runtime.engines.base import Engine, Prediction
from misgiving.runtime.engines.probation import Probation
from misgiving.runtime.errors import BundleError, FailedPrecondition
from runtime.trusting import Fleet
from shared import tiny

NAME = "bright-spots"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(floor.STATE_VARIABLE, str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.mark.parametrize(
    ("persons", "seconds", "expected"),
    [
        (0, 0, False),
        (1000, 600, True),
        (999, 1e6, False),  # a car that stood in its garage all week
        (10**6, 599, False),  # a busy first minute
    ],
)
def test_survives(persons: int, seconds: float, expected: bool) -> None:
    assert survives(persons, seconds) is expected


@pytest.mark.parametrize(
    ("floors", "release", "expected"),
    [
        ({}, 3, {NAME: 3}),
        ({NAME: 2, "other": 9}, 3, {NAME: 3, "other": 9}),
        ({NAME: 4}, 3, {NAME: 4}),  # it never sinks
    ],
)
def test_risen(floors: dict[str, int], release: int, expected: dict[str, int]) -> None:
    assert risen(floors, NAME, release) == expected


class Flaky:
    """The tiny engine; fails, or answers no number, when it is told to."""

    provider = "flaky"
    mood = "well"

    def infer(self, images: np.ndarray) -> Prediction:
        if self.mood == "broken":
            raise RuntimeError("out of memory")
        answer = tiny.engine().infer(images)
        if self.mood == "lost":
            answer.predicted_loss[:] = np.nan
        return answer


@pytest.mark.parametrize("mood", ["broken", "lost"])
def test_a_failure_begins_the_probation_anew(mood: str) -> None:
    now = [0.0]
    probation = Probation(lambda: now[0])
    flaky = Flaky()
    engine = probation.watch(flaky)
    batch = np.zeros((500, tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)
    assert engine.provider == "flaky"
    engine.infer(batch)
    now[0] = 500.0
    flaky.mood = mood
    if mood == "broken":
        with pytest.raises(RuntimeError, match="out of memory"):
            engine.infer(batch)
    else:
        engine.infer(batch)
    flaky.mood = "well"
    engine.infer(batch)
    now[0] = 1099.0
    engine.infer(batch)
    assert not probation.survived()  # 1,000 persons, but only 599 s since it failed
    now[0] = 1100.0
    assert probation.survived()


def test_persons_before_a_failure_do_not_count() -> None:
    now = [0.0]
    probation = Probation(lambda: now[0])
    probation.answered(999)
    probation.failed()
    now[0] = 1e6
    probation.answered(999)
    assert not probation.survived()
    probation.answered(1)
    assert probation.survived()


def test_engines_share_a_probation() -> None:
    """One that is switched to counts on."""
    probation = Probation(clock=iter([0.0, 600.0]).__next__)
    batch = np.zeros((500, tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)
    engines: list[Engine] = [probation.watch(tiny.engine()) for _ in range(2)]
    for engine in engines:
        engine.infer(batch)
    assert probation.survived()


def test_it_rises_durably_and_never_sinks(state: Path) -> None:
    assert floor.read() == {}
    assert floor.rise(NAME, 5)
    assert floor.rise("other", 1)
    assert floor.rise(NAME, 4)
    assert floor.read() == {NAME: 5, "other": 1}
    assert [path.name for path in state.iterdir()] == ["floors.json"]
    assert state.stat().st_mode & 0o777 == 0o700


def locked_out(state: Path) -> None:
    state.mkdir()
    (state / "floors.json").mkdir()  # what even root cannot read as a file


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty, as after a power loss": lambda file: file.write_bytes(b""),
    "cut short": lambda file: file.write_bytes(b'{"bright-spots": '),
    "zeros": lambda file: file.write_bytes(bytes(512)),
    "a list": lambda file: file.write_text("[1]"),
    "no number": lambda file: file.write_text('{"bright-spots": "9"}'),
    "below zero": lambda file: file.write_text('{"bright-spots": -9}'),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_floor_is_said_and_stops_nothing(
    state: Path, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    state.mkdir()
    DAMAGE[name](state / "floors.json")
    fleet = Fleet(tmp_path)
    fleet.sign()
    assert Bundle.load(fleet.bundle, Trust.read(fleet.trusted)).signed_by == fleet.id
    assert "older releases are not refused until" in caplog.text
    assert floor.rise(NAME, 1)  # and it heals
    assert floor.read() == {NAME: 1}


def test_a_floor_that_cannot_be_read_or_written(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    locked_out(state)
    assert floor.read() == {}
    assert "cannot be read" in caplog.text
    assert not floor.rise(NAME, 1)
    assert "older releases are still taken" in caplog.text


def test_a_state_folder_that_is_a_file(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    state.write_text("x")
    assert not floor.rise(NAME, 1)
    assert "give this device a state folder that can be written" in caplog.text


def test_where_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(floor.STATE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/var/lib/car")
    assert floor.state_folder() == Path("/var/lib/car/misgiving")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/car")
    assert floor.state_folder() == Path("/home/car/.local/state/misgiving")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # a user without a home
    with pytest.raises(FailedPrecondition, match="MISGIVING_STATE is not set"):
        floor.state_folder()


KILLED = """
import os, signal, sys
from misgiving.runtime.bundles import floor
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, sys.argv[1], kill)
floor.rise("bright-spots", 2)
"""


@pytest.mark.parametrize("step", ["fsync", "replace"])  # written, not durable; durable, unnamed
def test_a_process_killed_at_a_step_of_writing_leaves_the_old_floor(state: Path, step: str) -> None:
    floor.rise(NAME, 1)
    done = subprocess.run([sys.executable, "-c", KILLED, step])
    assert done.returncode == -signal.SIGKILL
    assert floor.read() == {NAME: 1}
    assert floor.rise(NAME, 2)
    assert floor.read() == {NAME: 2}


RISE_FOREVER = """
import itertools
from misgiving.runtime.bundles import floor
for release in itertools.count(1):
    assert floor.rise("bright-spots", release)
    print(release, flush=True)
"""


def test_a_process_killed_while_it_writes_leaves_old_or_new(state: Path) -> None:
    highest = 0
    for round in range(4):
        command = [sys.executable, "-c", RISE_FOREVER]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(3 + 5 * round):
                said = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            said = max([said, *map(int, process.stdout.read().split("\n")[:-1] or [0])])
        kept = floor.read()[NAME]  # whole, whenever it was killed
        assert kept >= max(highest, said)  # what it said was durable
        highest = kept


RISE_ONE = "import sys; from misgiving.runtime.bundles import floor; floor.rise(sys.argv[1], 1)"


def test_processes_do_not_undo_each_other(state: Path) -> None:
    names = [f"model-{i}" for i in range(6)]
    running = [subprocess.Popen([sys.executable, "-c", RISE_ONE, name]) for name in names]
    assert [process.wait(60) for process in running] == [0] * 6
    assert floor.read() == dict.fromkeys(names, 1)


SERVE = """
import sys
from pathlib import Path
from misgiving.runtime import Settings, run_server
from misgiving.runtime.bundles import floor
from misgiving.runtime.engines import probation
floor.PROBATION_PERSONS, floor.PROBATION_S, probation._LOOK_EVERY_S = 3, 0.0, 0.01
bundle, trust = map(Path, sys.argv[1:])
server, options = {"listen": "127.0.0.1:0"}, {"path": bundle, "threads": 1, "trust": trust}
run_server(Settings.model_validate({"server": server, "bundle": options}))
"""


def test_serving_raises_the_floor_after_probation_only(state: Path, tmp_path: Path) -> None:
    """Real servers: the new release proves itself; only then is the one before refused."""
    fleet = Fleet(tmp_path)
    fleet.edit(release=6)
    fleet.sign()
    trust = Trust.read(fleet.trusted)
    Bundle.load(fleet.bundle, trust)
    fleet.edit(release=7)
    fleet.sign()
    command = [sys.executable, "-c", SERVE, str(fleet.bundle), str(fleet.trusted)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split(" on ")[1].split()[0]
        assert process.stderr.readline().startswith("flags from ")
        assert process.stderr.readline().startswith("weights of ")
        with Client(address) as client:
            for _ in range(2):
                client.infer(tiny.spots([3] * 14))
            assert floor.read() == {}  # two of three persons
            client.infer(tiny.spots([3] * 14))
            assert "release 7 is the lowest taken from now on" in process.stderr.readline()
        process.terminate()
        assert process.wait(60) == 0
    assert floor.read() == {NAME: 7}
    Bundle.load(fleet.bundle, Trust.read(fleet.trusted))
    fleet.edit(release=6)
    fleet.sign()
    with pytest.raises(BundleError, match="takes no older one"):
        Bundle.load(fleet.bundle, Trust.read(fleet.trusted))


def test_unsigned_bundles_raise_no_floor(state: Path) -> None:
    """Somebody's unsigned release of the far future would shut out every real one."""
    script = SERVE.replace(', "trust": trust', "")
    script = script.replace("= 3, 0.0", "= 0, 0.0")  # survived as soon as anybody looks
    command = [sys.executable, "-c", script, str(tiny.BUNDLE), "unused"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split(" on ")[1].split()[0]
        assert process.stderr.readline().startswith("flags from ")
        assert process.stderr.readline().startswith("weights of ")
        with Client(address) as client:
            for _ in range(5):
                client.infer(tiny.spots([3] * 14))
        process.terminate()
        assert process.wait(60) == 0
        assert process.stderr.read() == ""
    assert not state.exists()
