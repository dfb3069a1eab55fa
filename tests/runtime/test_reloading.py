"""SIGHUP and a real server: what may change does, all of it or nothing."""

import asyncio
import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from misgiving.runtime.client import Client
from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.settings.changing import check_change
from misgiving.runtime.settings.model import Settings
from misgiving.runtime.verbs.reloading import Reloader
from runtime.commands import server
from shared import tiny


def settings(**tables: dict[str, object]) -> Settings:
    return Settings.model_validate(tables)


def test_what_may_change() -> None:
    old = settings(flags={"threshold": 0.5})
    assert check_change(old, old) == ()
    new = settings(flags={"threshold": 1.0, "audit_rate": 0.5}, log={"level": "debug"})
    assert check_change(old, new) == ("flags.threshold", "flags.audit_rate", "log.level")
    with pytest.raises(FailedPrecondition, match=r"^server.listen changed, which takes a restart"):
        check_change(old, settings(server={"listen": "127.0.0.1:1"}))


def test_a_server_is_told_to_read_again(tmp_path: Path) -> None:
    file = tmp_path / "misgiving.toml"
    file.write_text("[flags]\nthreshold = 0.25\n")
    with server("--config", file, "--threads", 1) as (process, address), Client(address) as client:

        def reload(text: str) -> tuple[str, float]:
            """What the server says, and the threshold by which it then decides."""
            file.write_text(text)
            process.send_signal(signal.SIGHUP)
            said = process.stderr.readline()
            (person,) = client.infer(tiny.spots([3] * 14)).persons
            return said, person.flag.threshold

        said, threshold = reload("[flags]\nthreshold = 0.5\naudit_rate = 0.1\n")
        assert said.endswith("reloaded; changed: flags.threshold, flags.audit_rate\n")
        assert threshold == 0.5
        refused = {
            '[server]\ndevice_id = "8"\n[flags]\nthreshold = 0.75\n': "server.device_id changed",
            "[flags]\nthreshold = \n": "is no TOML",
            "[flags]\ntreshold = 0.75\n": "Did you mean flags.threshold?",
            '[flags]\nthreshold = "never"\n[log]\nlevel = "error"\n': "'never'",
        }
        for text, why in refused.items():
            said, threshold = reload(text)
            assert why in said
            assert said.endswith("; the settings before stay in force\n")
            assert threshold == 0.5
        file.unlink()
        process.send_signal(signal.SIGHUP)
        assert "No such file" in process.stderr.readline()
        said, threshold = reload("[flags]\nthreshold = 0.75\naudit_rate = 0.1\n")
        assert said.endswith("reloaded; changed: flags.threshold\n")
        assert threshold == 0.75
        said, _ = reload('[flags]\nthreshold = 0.75\naudit_rate = 0.1\n[log]\nformat = "json"\n')
        assert json.loads(said)["message"].endswith("reloaded; changed: log.format")


def test_signals_that_come_meanwhile_are_one() -> None:
    """None is lost: what the file says then is read once more."""

    async def run() -> None:
        asked, ended = asyncio.Event(), asyncio.Semaphore(0)
        begun: asyncio.Queue[Settings] = asyncio.Queue()

        async def apply(new: Settings) -> str:
            begun.put_nowait(new)
            await ended.acquire()
            return "no change"

        files = iter([settings(flags={"threshold": number}) for number in (1.0, 2.0, 3.0)])
        reloading = asyncio.create_task(Reloader(lambda: next(files), apply).run(asked))
        asked.set()
        assert (await begun.get()).flags.threshold == 1.0
        for _ in range(100):
            asked.set()
        ended.release()
        assert (await begun.get()).flags.threshold == 2.0
        assert not asked.is_set()
        reloading.cancel()

    asyncio.run(run())


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """What comes next at the socket that systemd gives a service."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        receiver.settimeout(60)

        def following() -> list[str]:
            return receiver.recv(4096).decode().splitlines()

        yield following


def test_what_systemd_hears(tmp_path: Path, heard: Callable[[], list[str]]) -> None:
    file = tmp_path / "misgiving.toml"
    file.write_text("")

    def without_pings() -> list[str]:
        while (said := heard()) == ["WATCHDOG=1"]:
            pass
        return said

    with server("--config", file, "--threads", 1) as (process, _):
        assert heard() == ["READY=1"]
        assert heard() == ["WATCHDOG=1"]
        process.send_signal(signal.SIGHUP)
        kind, when = without_pings()
        assert kind == "RELOADING=1"
        assert when.startswith("MONOTONIC_USEC=")
        assert without_pings() == ["READY=1"]
        process.terminate()
        assert without_pings() == ["STOPPING=1"]
        assert process.wait(60) == 0
