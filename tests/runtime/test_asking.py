"""Settings are read again: at once, and with another bundle once that is there."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.bundles.bundle import Bundle, digest_at
from misgiving.runtime.client import Client
from misgiving.runtime.engines.loading import ModelOptions, load_bundle
from misgiving.runtime.errors import BundleError, FailedPrecondition, InvalidInput
from misgiving.runtime.settings.model import Settings
from misgiving.runtime.verbs import exchanging
from runtime.commands import server as command
from runtime.exchange import OLD, Exchange, edited, settings
from runtime.trusting import Fleet
from shared import tiny
from shared.collecting import eventually
from shared.serving import Gated, Running, serving


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """The tiny bundle in a version of its own."""
    return edited(tmp_path / "second", version="2")


@pytest.fixture
def server() -> Iterator[Running]:
    with serving(policy=OLD) as running:
        yield running


def test_what_is_refused(server: Running, second: Path, tmp_path: Path) -> None:
    """What was set for its scores goes with it; what was set besides is in force."""
    (second / "model.onnx").write_bytes(b"cut short")
    named_only = edited(tmp_path / "third", version="3")
    refused = {
        second: (7.5, "sha256"),
        edited(tmp_path / "other", name="other"): (7.5, "another name than the bundle"),
        named_only: ("flag_rate=0.123", "expected a number in units of predicted_loss"),
    }
    exchange, before = Exchange(server), server.pipeline.model
    for count, (folder, (threshold, why)) in enumerate(refused.items(), 1):
        said = exchange.follow(settings(threshold, folder, interval_s=count))
        assert said == f"bundle {digest_at(folder)[:12]} is being loaded"
        exchange.settled()
        assert exchange.counted() == {"refused": count}
        assert exchange.metrics.last_exchange.startswith("refused: ")
        assert why in exchange.metrics.last_exchange
        assert server.pipeline.policy == replace(OLD, interval_s=count)
    assert exchange.follow(settings(0.5)) is None
    assert server.pipeline.policy.threshold == 0.5
    assert server.pipeline.model is before


def test_a_reload_that_is_refused_changes_nothing(server: Running, tmp_path: Path) -> None:
    exchange = Exchange(server)
    with pytest.raises(BundleError, match="no bundle"):
        exchange.follow(settings(0.5, tmp_path / "none", interval_s=1))
    assert exchange.counted() == {"refused": 1}
    assert exchange.metrics.last_exchange.startswith(f"refused: {tmp_path / 'none'} is no bundle")
    with pytest.raises(InvalidInput, match="flag_rate=0.123"):
        exchange.follow(settings("flag_rate=0.123", interval_s=1))
    assert exchange.counted() == {"refused": 1}
    assert server.pipeline.policy == OLD


class Slow:
    """Engines of bundles that load, each behind a gate; by the path of the bundle."""

    def __init__(self) -> None:
        self.loaded: list[Path | None] = []
        self.gates: dict[Path, Gated] = {}
        self.begun = threading.Semaphore(0)

    def load(self, options: ModelOptions) -> Bundle:
        self.loaded.append(options.bundle)
        return load_bundle(options)

    async def start(self, bundle: Bundle, *_: object) -> Gated:
        gate = self.gates[bundle.path] = Gated()
        self.begun.release()
        return gate

    def warming_up(self, folder: Path) -> Gated:
        """Its engine, once it runs its first batch."""
        assert self.begun.acquire(timeout=60)
        assert self.gates[folder].entered.acquire(timeout=60)
        return self.gates[folder]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    monkeypatch.setattr(exchanging, "start_beside", (slow := Slow()).start)
    monkeypatch.setattr(exchanging, "load_bundle", slow.load)
    return slow


def test_settings_take_effect_while_a_bundle_loads(
    server: Running, second: Path, slow: Slow
) -> None:
    """What is set for its scores waits for it, in the form that was set last."""
    exchange = Exchange(server)
    exchange.follow(settings(7.5, second, interval_s=1))
    gate = slow.warming_up(second)
    assert server.pipeline.policy == replace(OLD, interval_s=1)
    for interval_s in (2, 3):
        exchange.follow(settings(7.25, second, interval_s=interval_s))
        assert server.pipeline.policy == replace(OLD, interval_s=interval_s)
    assert exchange.version == "1"
    gate.permits.release(100)
    exchange.settled()
    eventually(lambda: exchange.version == "2")
    assert server.pipeline.policy == replace(OLD, threshold=7.25, interval_s=3)
    assert exchange.counted() == {"taken": 1}
    assert slow.loaded == [second]


def test_what_is_asked_for_last_wins(
    server: Running, second: Path, tmp_path: Path, slow: Slow
) -> None:
    """Of all that were asked for while one loads, one more loads."""
    exchange = Exchange(server)
    folders = [edited(tmp_path / version, version=version) for version in "3456"]
    exchange.follow(settings(7.5, second))
    gate = slow.warming_up(second)
    for folder in folders:
        exchange.follow(settings(7.25, folder))
    assert slow.loaded == [second]
    gate.permits.release(100)
    slow.warming_up(folders[-1]).permits.release(100)
    eventually(lambda: exchange.version == "6")
    assert slow.loaded == [second, folders[-1]]
    assert exchange.counted() == {"taken": 1}


def test_a_load_that_is_taken_back(server: Running, second: Path, slow: Slow) -> None:
    exchange, before = Exchange(server), server.pipeline.model
    exchange.follow(settings(7.5, second))
    gate = slow.warming_up(second)
    assert exchange.follow(settings(0.5)) is None
    assert exchange.metrics.last_exchange.endswith(" is not asked for any more")
    gate.permits.release(100)
    server.call(asyncio.to_thread(exchange.exchanger._thread.shutdown))  # the load has ended
    assert server.pipeline.model is before
    assert server.pipeline.policy.threshold == 0.5
    assert exchange.counted() == {}


def test_a_bundle_that_loads_is_judged_by_the_keys_that_are_asked_for_last(
    server: Running, tmp_path: Path, slow: Slow
) -> None:
    fleet = Fleet(tmp_path)
    fleet.edit(version="2")
    fleet.sign()
    exchange = Exchange(server)

    def trusting(trust: Path) -> Settings:
        table = {"path": fleet.bundle, "trust": trust, "threads": 1}
        return Settings.model_validate({"bundle": table})

    exchange.follow(trusting(fleet.trusted))
    gate = slow.warming_up(fleet.bundle)
    exchange.follow(trusting(fleet.other.with_suffix(".key.pub")))
    gate.permits.release(100)
    eventually(lambda: exchange.counted() == {"refused": 1})
    assert exchange.version == "1"


def test_what_answers_stays_where_it_has_expired_since(tmp_path: Path) -> None:
    """Its thresholds can still be changed; a folder of keys that is gone is told."""
    fleet = Fleet(tmp_path)
    fleet.edit(expires="2020-01-01")
    fleet.sign()

    def trusting(trust: Path) -> Settings:
        table = {"path": fleet.bundle, "trust": trust, "threads": 1}
        return Settings.model_validate({"bundle": table})

    with serving(model=Model(Bundle.load(fleet.bundle), tiny.engine())) as server:
        exchange = Exchange(server)
        assert exchange.follow(trusting(fleet.trusted)) is None
        with pytest.raises(FailedPrecondition, match="none cannot be read"):
            exchange.follow(trusting(tmp_path / "none"))
        fleet.edit(version="2")
        fleet.sign()
        exchange.follow(trusting(fleet.trusted))
        exchange.settled()
        assert "expired" in exchange.metrics.last_exchange


def test_a_link_is_turned_and_the_server_told(tmp_path: Path, second: Path) -> None:
    """As an operator does it; what does not load leaves all as it was, thresholds too."""
    link, file = tmp_path / "current", tmp_path / "misgiving.toml"
    link.symlink_to(tiny.BUNDLE)
    file.write_text("[flags]\nthreshold = 0.25\n")
    options = ["--config", file, "--bundle", link, "--threads", 1]
    with command(*options) as (process, address), Client(address) as client:

        def reload(target: Path, threshold: float) -> str:
            """What the server says of the bundle."""
            link.unlink()
            link.symlink_to(target)
            file.write_text(f"[flags]\nthreshold = {threshold}\n")
            process.send_signal(signal.SIGHUP)
            said = process.stderr.readline()
            loads = f"; bundle {digest_at(target)[:12]} is being loaded\n"
            assert said.endswith("reloaded; changed: flags.threshold" + loads)
            return process.stderr.readline()

        assert client.model().version == "1"
        said = reload(second, 0.5)
        assert ": bright-spots 2 (" in said
        assert ") on probation, instead of bright-spots 1 (" in said
        (person,) = client.infer(tiny.spots([3] * 14)).persons
        assert (client.model().version, person.flag.threshold) == ("2", 0.5)
        assert client.status().last_exchange.startswith("bright-spots 2 (")
        said = reload(edited(tmp_path / "other", name="other"), 0.75)
        assert "Restart the server for it; bright-spots 2 (" in said
        assert said.endswith(") goes on\n")
        assert client.status().last_exchange.startswith("refused: ")
        (person,) = client.infer(tiny.spots([3] * 14)).persons
        assert (client.model().version, person.flag.threshold) == ("2", 0.5)
