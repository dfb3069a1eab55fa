"""Another bundle comes while frames are answered: none is lost, none is of two, and it may go."""

import json
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.bundles import floor
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.client import Client
from misgiving.runtime.engines.base import Prediction, Provider
from misgiving.runtime.engines.loading import ModelOptions
from misgiving.runtime.engines.probation import PACE_BATCHES, Pace, Probation
from misgiving.runtime.errors import BundleError, FailedPrecondition, MisgivingError
from misgiving.runtime.flags.budgets import MINUTE, Budget
from misgiving.runtime.flags.drift import DriftWatch
from misgiving.runtime.flags.policy import FlagPolicy, FlagState, decide
from misgiving.runtime.nouns import make_frame
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.verbs.exchanging import FAILURES, Exchanger
from misgiving.v1 import detector_pb2 as wire
from runtime.commands import server as command
from runtime.trusting import Fleet
from shared import tiny
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

    def __init__(self, server: Running, slower: float = 2.0) -> None:
        self.server = server
        self.metrics = Metrics()
        self.first = Probation()
        self.exchanger = Exchanger(
            server.pipeline, self.first, server.server, self.metrics, slower, lambda _: OLD
        )
        self.probation = Probation()

    def take(self, folder: Path, network: Network) -> None:
        model = Model(Bundle.load(folder), self.probation.watch(network))
        self.server.call(self.exchanger.take((model, self.probation), NEW))

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
        assert gated.entered.acquire(timeout=60)
        Exchange(server).take(second, Network())
        new = clients.submit(infer, server, named("new"))
        gated.permits.release()
        assert not assert_of_one(old.result(60), digests)
        assert assert_of_one(new.result(60), digests)
        assert server.pipeline.policy is NEW


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
    exchange = Exchange(server, slower=2.0)
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
    (second / "model.onnx").write_bytes(b"cut short")
    refused = {
        second: (BundleError, "sha256"),
        edited(tmp_path / "other", name="other"): (MisgivingError, "another name than the bundle"),
        tmp_path / "none": (BundleError, "no bundle"),
    }
    exchange = Exchange(server)
    before = server.pipeline.model
    for folder, (error, why) in refused.items():
        with pytest.raises(error, match=why):
            server.call(exchange.exchanger.load(ModelOptions(bundle=folder, threads=1)))
    same = ModelOptions(bundle=tiny.BUNDLE, threads=1)
    assert server.call(exchange.exchanger.load(same)) is None
    assert server.pipeline.model is before
    assert exchange.counted() == {"refused": 3}
    assert exchange.metrics.last_exchange.startswith(f"refused: {tmp_path / 'none'} is no bundle")


def test_what_answers_stays_where_it_has_expired_since(tmp_path: Path) -> None:
    """Its thresholds can still be changed; a folder of keys that is gone is told."""
    fleet = Fleet(tmp_path)
    fleet.edit(expires="2020-01-01")
    fleet.sign()
    options = ModelOptions(bundle=fleet.bundle, trust=fleet.trusted, threads=1)
    with serving(model=Model(Bundle.load(fleet.bundle), tiny.engine())) as server:
        exchanger = Exchange(server).exchanger
        assert server.call(exchanger.load(options)) is None
        with pytest.raises(FailedPrecondition, match="none cannot be read"):
            server.call(exchanger.load(replace(options, trust=tmp_path / "none")))
        fleet.edit(version="2")
        fleet.sign()
        with pytest.raises(BundleError, match="expired"):
            server.call(exchanger.load(options))


def test_the_floor_rises_for_what_survives(
    tmp_path: Path, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(floor.STATE_VARIABLE, str(tmp_path / "state"))
    fleet = Fleet(tmp_path)
    fleet.edit(release=7, version="2")
    fleet.sign()
    exchange = Exchange(server)
    options = ModelOptions(bundle=fleet.bundle, trust=fleet.trusted, threads=1)
    model, probation = server.call(exchange.exchanger.load(options))
    server.call(exchange.exchanger.take((model, probation), NEW))
    exchange.look()
    assert floor.read() == {}
    monkeypatch.setattr(floor, "PROBATION_S", 0.0)
    monkeypatch.setattr(floor, "PROBATION_PERSONS", 1)
    infer(server, named("one"))
    exchange.look()
    assert floor.read() == {model.bundle.manifest.name: 7}


def test_a_link_is_turned_and_the_server_told(tmp_path: Path, second: Path) -> None:
    """As an operator does it; what does not load leaves all as it was, thresholds too."""
    link, file = tmp_path / "current", tmp_path / "misgiving.toml"
    link.symlink_to(tiny.BUNDLE)
    file.write_text("[flags]\nthreshold = 0.25\n")
    options = ["--config", file, "--bundle", link, "--threads", 1]
    with command(*options) as (process, address), Client(address) as client:

        def reload(target: Path, threshold: float) -> str:
            link.unlink()
            link.symlink_to(target)
            file.write_text(f"[flags]\nthreshold = {threshold}\n")
            process.send_signal(signal.SIGHUP)
            return process.stderr.readline()

        assert client.model().version == "1"
        said = reload(second, 0.5)
        assert "reloaded; changed: flags.threshold, bright-spots 2 (" in said
        assert ") on probation, instead of bright-spots 1 (" in said
        (person,) = client.infer(tiny.spots([3] * 14)).persons
        assert (client.model().version, person.flag.threshold) == ("2", 0.5)
        assert client.status().last_exchange.startswith("bright-spots 2 (")
        said = reload(edited(tmp_path / "other", name="other"), 0.75)
        assert said.endswith("Restart the server for it; the settings before stay in force\n")
        (person,) = client.infer(tiny.spots([3] * 14)).persons
        assert (client.model().version, person.flag.threshold) == ("2", 0.5)
