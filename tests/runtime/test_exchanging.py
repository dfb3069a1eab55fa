"""Another bundle comes while frames are answered: none is lost, none is of two, and it may go."""

import asyncio
import json
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.bundles import floor
from misgiving.runtime.bundles.bundle import Bundle, digest_at
from misgiving.runtime.client import Client
from misgiving.runtime.engines.base import Engine, Prediction, Provider
from misgiving.runtime.engines.loading import ModelOptions, load_bundle
from misgiving.runtime.engines.probation import PACE_BATCHES, Pace, Probation
from misgiving.runtime.errors import BundleError, FailedPrecondition, InvalidInput
from misgiving.runtime.flags.budgets import MINUTE, Budget
from misgiving.runtime.flags.drift import DriftWatch
from misgiving.runtime.flags.policy import FlagPolicy, FlagState, decide
from misgiving.runtime.nouns import make_frame
from misgiving.runtime.settings.model import Settings
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.verbs import exchanging
from misgiving.runtime.verbs.exchanging import FAILURES, Exchanger
from misgiving.v1 import detector_pb2 as wire
from runtime.commands import server as command
from runtime.trusting import Fleet
from shared import tiny
from shared.collecting import eventually
from shared.serving import (
    Gated,
    Requests,
    Running,
    asked_meanwhile,
    infer,
    named,
    serving,
    wire_frame,
)

OLD = tiny.policy(threshold=0.75)
NEW = tiny.policy(threshold=7.5)


def settings(threshold: float | str, path: Path = tiny.BUNDLE, **flags: object) -> Settings:
    table = {"threshold": threshold, "audit_rate": 0.0, **flags}
    return Settings.model_validate({"flags": table, "bundle": {"path": path, "threads": 1}})


APART = 5.0
"""Between the scores of the two networks."""


class Network:
    """The tiny engine with other scores, which fails or dawdles where a test says so."""

    provider = Provider("onnxruntime", "onnxruntime", "another", "fp32")

    def __init__(self) -> None:
        self._engine = tiny.engine()
        self.max_batch = self._engine.max_batch
        self.error: Exception | None = None

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        if self.error:
            raise self.error
        said = self._engine.infer(images)
        return replace(said, predicted_loss=said.predicted_loss + APART)


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """The tiny bundle in a version of its own."""
    return edited(tmp_path / "second", version="2")


def edited(folder: Path, **fields: object) -> Path:
    shutil.copytree(tiny.BUNDLE, folder)
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


@pytest.fixture
def server() -> Iterator[Running]:
    with serving(policy=OLD) as running:
        yield running


class Exchange:
    """An exchanger of a server that runs."""

    def __init__(self, server: Running, now: Settings = settings(OLD.threshold)) -> None:
        self.server = server
        self.metrics = Metrics()
        self.first = Probation()
        self.exchanger = Exchanger(server.pipeline, now, self.first, server.server, self.metrics)
        self.probation = Probation()

    def take(self, folder: Path, network: Engine) -> None:
        model = Model(Bundle.load(folder), self.probation.watch(network))
        self.server.call(self.exchanger.take(model, self.probation, settings(NEW.threshold)))

    def follow(self, now: Settings) -> str | None:
        said: str | None = self.server.call(self.exchanger.follow(now))
        return said

    def settled(self) -> None:
        """Nothing is asked for any more that is not there."""
        eventually(lambda: self.exchanger._wish is None)

    def look(self) -> None:
        self.server.call(self.exchanger._look())

    def counted(self) -> dict[str, float]:
        counted = {name: one._value.get() for name, one in self.metrics.exchanges.items()}
        return {name: count for name, count in counted.items() if count}

    @property
    def version(self) -> str:
        """Of the bundle that answers."""
        return self.server.stub.GetModel(wire.GetModelRequest()).model.version


def assert_of_one(result: wire.FrameResult, digests: tuple[str, str]) -> bool:
    """Digest, scores and threshold are of one bundle; whether of the second."""
    (person,) = result.persons
    of_second = result.bundle_digest == digests[1]
    assert of_second or result.bundle_digest == digests[0]
    assert (person.predicted_loss > APART / 2) == of_second
    assert person.flag.threshold == (NEW if of_second else OLD).threshold
    return of_second


@pytest.fixture
def digests(second: Path) -> tuple[str, str]:
    return Bundle.load(tiny.BUNDLE).digest, Bundle.load(second).digest


def test_no_call_is_lost_and_each_answer_is_of_one_bundle(
    server: Running, second: Path, digests: tuple[str, str]
) -> None:
    exchange = Exchange(server)
    asked = asked_meanwhile(
        lambda _: assert_of_one(infer(server, named("a")), digests),
        lambda: exchange.take(second, Network()),
    )
    for said in asked:
        assert said == sorted(said)  # the first bundle, and from some frame on the second
    assert any(said[-1] for said in asked)


def test_a_stream_goes_on_in_order(server: Running, second: Path, digests: tuple[str, str]) -> None:
    exchange, requests = Exchange(server), Requests(wire.STREAM_MODE_IN_ORDER)
    answers = server.stub.StreamInfer(iter(requests), timeout=60)
    for number in range(20):
        if number == 10:
            exchange.take(second, Network())
        requests.put(frame=wire_frame(tiny.spots([number] * 14), frame_id=str(number)))
        result = next(answers).result
        assert result.frame_id == str(number)
        assert assert_of_one(result, digests) == (number >= 10)
    requests.close()


def test_a_frame_under_way_is_decided_by_its_own_bundle(
    second: Path, digests: tuple[str, str]
) -> None:
    gated = Gated()
    with serving(gated, OLD) as server, ThreadPoolExecutor(2) as clients:
        old = clients.submit(infer, server, named("old"))
        assert gated.entered.acquire(timeout=20)
        Exchange(server).take(second, Network())
        new = clients.submit(infer, server, named("new"))
        gated.permits.release()
        assert not assert_of_one(old.result(20), digests)
        assert assert_of_one(new.result(20), digests)
        assert server.pipeline.policy == NEW


def test_what_is_kept_of_the_flags() -> None:
    """Budgets are the device's; embeddings and the watch over scores are the network's."""
    budget = Budget(100, "frames", MINUTE)
    policy = FlagPolicy(threshold=0.5, audit_rate=0, near_duplicate=0.1, budgets=(budget,))
    frame = make_frame(tiny.spots([3] * 14), stream_id="a")
    watch = DriftWatch((0.5,), (0.5, 0.5), 100)
    state, (decision,) = decide(FlagState(policy, watch), frame, tiny.answered(frame), 0.0, [0.5])
    assert decision.kept
    after = state.anew(replace(policy, threshold=9.0), watch)
    assert after.buckets == state.buckets
    assert state.streams["a"].kept
    assert not after.streams["a"].kept
    assert after.drift is watch
    late = after.answered_before(policy)
    assert (late.policy.threshold, late.policy.near_duplicate, late.drift) == (0.5, None, None)


def test_a_bundle_whose_engine_fails_goes(server: Running, second: Path) -> None:
    exchange, network = Exchange(server), Network()
    exchange.take(second, network)
    network.error = RuntimeError("out of memory")
    for number in range(FAILURES):
        exchange.look()
        assert exchange.version == "2"
        with pytest.raises(Exception, match="out of memory"):
            infer(server, named(str(number)))
    exchange.look()
    assert exchange.version != "2"
    assert "instead of bright-spots 2 (" in exchange.metrics.last_exchange
    assert exchange.metrics.last_exchange.endswith(": its engine failed on 3 batches")
    assert infer(server, named("after")).persons[0].flag.threshold == OLD.threshold
    assert exchange.counted() == {"taken": 1, "back": 1}
    exchange.take(second, Network())
    assert "on probation, which went back before, instead of" in exchange.metrics.last_exchange


def test_a_bundle_that_comes_back_has_not_served_meanwhile(
    server: Running, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floor, "PROBATION_S", 0.0)
    exchange, network = Exchange(server), Network()
    exchange.first.answered(floor.PROBATION_PERSONS)
    exchange.take(second, network)
    network.error = RuntimeError("out of memory")
    for number in range(FAILURES):
        with pytest.raises(Exception, match="out of memory"):
            infer(server, named(str(number)))
    exchange.look()
    assert exchange.version != "2"
    assert not exchange.first.survived()


def test_a_bundle_that_is_slow_goes(server: Running, second: Path) -> None:
    exchange = Exchange(server)
    exchange.take(second, Network())
    for seconds, probation in ((0.01, exchange.first), (0.019, exchange.probation)):
        for _ in range(PACE_BATCHES):
            probation.pace.took(1, seconds)
    exchange.look()
    assert exchange.version == "2"
    for _ in range(PACE_BATCHES):
        exchange.probation.pace.took(1, 0.021)
    exchange.look()
    assert exchange.version != "2"
    said = ": a batch takes it 2.10 times as long; expected at most 2"
    assert exchange.metrics.last_exchange.endswith(said)


def test_a_pace_is_compared_at_sizes_that_both_know() -> None:
    one, other = Pace(), Pace()
    for _ in range(PACE_BATCHES):
        one.took(1, 1.0)
        other.took(8, 1.0)
        other.took(2, 4.0)
    assert one.times(other) is None
    for _ in range(PACE_BATCHES):
        one.took(8, 3.0)
    assert one.times(other) == 3.0


def test_a_bundle_whose_scores_leave_its_reference_goes(
    server: Running, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = Exchange(server)
    exchange.take(second, Network())
    exchange.look()
    assert exchange.version == "2"
    drift = server.pipeline._flagging.drift
    assert drift is not None
    alarmed = replace(server.pipeline._flagging, drift=replace(drift, alarm=True))
    monkeypatch.setattr(server.pipeline, "_flagging", alarmed)
    exchange.look()
    assert exchange.version != "2"
    assert "not distributed as its reference has them" in exchange.metrics.last_exchange


def test_a_bundle_that_proves_itself_stays(
    server: Running, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange, network = Exchange(server), Network()
    exchange.take(second, network)
    assert exchange.metrics.probation._value.get() == 1
    monkeypatch.setattr(floor, "PROBATION_S", 0.0)
    monkeypatch.setattr(floor, "PROBATION_PERSONS", 1)
    infer(server, named("one"))
    exchange.look()
    assert exchange.counted() == {"taken": 1, "proved": 1}
    assert exchange.metrics.probation._value.get() == 0
    for _ in range(FAILURES):  # there is nothing to go back to any more
        exchange.probation.failed()
    exchange.look()
    assert exchange.version == "2"


def test_of_two_that_prove_nothing_the_last_goes_back_to_the_first(
    server: Running, second: Path, tmp_path: Path
) -> None:
    exchange, third = Exchange(server), edited(tmp_path / "third", version="3")
    exchange.take(second, Network())
    exchange.probation = Probation()
    exchange.take(third, Network())
    for _ in range(FAILURES):
        exchange.probation.failed()
    exchange.look()
    assert exchange.version not in ("2", "3")


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
        assert self.begun.acquire(timeout=20)
        assert self.gates[folder].entered.acquire(timeout=20)
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
    gate.permits.release(100)
    server.call(asyncio.to_thread(exchange.exchanger._thread.shutdown))  # the load has ended
    assert server.pipeline.model is before
    assert server.pipeline.policy.threshold == 0.5
    assert exchange.counted() == {}


def test_an_engine_of_before_fails_late(second: Path) -> None:
    """Its failures are neither the new bundle's nor the health's."""
    gated, first = Gated(), Probation()
    watched = first.watch(gated)
    with serving(watched, OLD) as server, ThreadPoolExecutor(2) as clients:
        exchange = Exchange(server)
        asked = [clients.submit(infer, server, named("0"))]
        assert gated.entered.acquire(timeout=20)
        asked.append(clients.submit(infer, server, named("1")))
        eventually(lambda: len(server.pipeline._batcher._queue) == 1)
        exchange.take(second, Network())
        for lost in asked:
            gated.error = RuntimeError("out of memory")
            gated.permits.release()
            with pytest.raises(Exception, match="out of memory"):
                lost.result(20)
        assert (first.failures, exchange.probation.failures) == (2, 0)
        assert server.pipeline.vitals.failures == 0
        assert exchange.version == "2"


def test_a_better_engine_of_a_bundle_waits_with_it(server: Running, second: Path) -> None:
    """It never answers for another bundle, and does for its own once that comes back."""
    exchange, better = Exchange(server), Gated(permits=100)
    first, answering = exchange.exchanger.bundle, Network()
    exchange.take(second, answering)
    assert server.call(exchange.exchanger.upgrade(first, better)) is False
    assert infer(server, named("0")).persons[0].predicted_loss > APART / 2
    assert better.sizes == []
    for _ in range(FAILURES):
        exchange.probation.failed()
    exchange.look()
    assert infer(server, named("1")).persons[0].predicted_loss < APART / 2
    assert better.sizes == [1]
    assert server.pipeline.model.bundle is first


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


def test_the_floor_rises_for_what_survives(
    tmp_path: Path, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(floor.STATE_VARIABLE, str(tmp_path / "state"))
    fleet = Fleet(tmp_path)
    fleet.edit(release=7, version="2")
    fleet.sign()
    exchange = Exchange(server)
    table = {"path": fleet.bundle, "trust": fleet.trusted, "threads": 1}
    exchange.follow(Settings.model_validate({"bundle": table}))
    exchange.settled()
    exchange.look()
    assert floor.read() == {}
    monkeypatch.setattr(floor, "PROBATION_S", 0.0)
    monkeypatch.setattr(floor, "PROBATION_PERSONS", 1)
    infer(server, named("one"))
    exchange.look()
    assert floor.read() == {server.pipeline.model.bundle.manifest.name: 7}


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
