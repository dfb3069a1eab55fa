"""Another bundle comes while frames are answered: none is lost, none is of two, and it may go."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from misgiving.runtime.bundles import floor
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.probation import PACE_BATCHES, Pace, Probation
from misgiving.runtime.flags.budgets import MINUTE, Budget
from misgiving.runtime.flags.drift import DriftWatch
from misgiving.runtime.flags.policy import FlagPolicy, FlagState, decide
from misgiving.runtime.nouns import make_frame
from misgiving.runtime.settings.model import Settings
from misgiving.runtime.verbs.exchanging import FAILURES
from misgiving.v1 import detector_pb2 as wire
from runtime.exchange import APART, NEW, OLD, Exchange, Network, edited
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


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """The tiny bundle in a version of its own."""
    return edited(tmp_path / "second", version="2")


@pytest.fixture
def server() -> Iterator[Running]:
    with serving(policy=OLD) as running:
        yield running


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


def test_an_engine_of_before_fails_late(second: Path) -> None:
    """Its failures are neither the new bundle's nor the health's."""
    gated, first = Gated(), Probation()
    watched = first.watch(gated)
    with serving(watched, OLD) as server, ThreadPoolExecutor(2) as clients:
        exchange = Exchange(server)
        asked = [clients.submit(infer, server, named("0"))]
        assert gated.entered.acquire(timeout=60)
        asked.append(clients.submit(infer, server, named("1")))
        eventually(lambda: len(server.pipeline._batcher._queue) == 1)
        exchange.take(second, Network())
        for lost in asked:
            gated.error = RuntimeError("out of memory")
            gated.permits.release()
            with pytest.raises(Exception, match="out of memory"):
                lost.result(60)
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
