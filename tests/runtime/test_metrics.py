"""What a server counts of real frames, what it says of itself, and who may read it."""

import json
import re
import sqlite3
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from misgiving.runtime.client import Client
from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.geometry import Region
from misgiving.runtime.nouns import Answer, Decision, Person, Reason
from misgiving.runtime.outbox import spool as spool_module
from misgiving.runtime.outbox.records import DATABASE
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.telemetry.counts import Counts
from misgiving.runtime.telemetry.durations import BUCKETS_S, Durations
from misgiving.runtime.telemetry.gauges import (
    of_spool,
    temperatures,
)
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.telemetry.reading import Reading, read_status
from misgiving.runtime.telemetry.scraping import scraped
from misgiving.runtime.verbs import status
from misgiving.runtime.wire import reports
from misgiving.v1 import detector_pb2 as wire
from shared.collecting import collected, eventually, offer, until_pending
from shared.measured import all_metrics
from shared.serving import BLACK, Gated, Requests, Running, infer, named, serving, wire_frame

ROOT = Path(__file__).parents[2]
LIVE, IN_ORDER = wire.STREAM_MODE_LIVE, wire.STREAM_MODE_IN_ORDER
COUNTS = ("received", "answered", "dropped", "failed")


def counts(server: Running) -> tuple[int, ...]:
    """Received, answered, dropped, failed."""
    now = Reading(server.server.metrics.registry)
    return tuple(now.count(f"frames_{name}") for name in COUNTS)


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"misgiving_{name}", labels)


def without_created(registry: CollectorRegistry) -> list[str]:
    """What Prometheus reads, less the series that the library writes unless told not to."""
    return [x for x in generate_latest(registry).decode().splitlines() if "_created" not in x]


def test_calls_are_counted_by_their_end() -> None:
    with serving() as server:
        infer(server, named("dark"))
        infer(server, named("bright", BLACK + 255))
        with pytest.raises(grpc.RpcError):
            infer(server, wire_frame(b"hello"))
        assert counts(server) == (3, 2, 0, 1)
        metrics = server.server.metrics
        assert sample(metrics, "frames_failed_total", reason="INVALID_ARGUMENT") == 1
        assert sample(metrics, "persons_total") == 2
        assert sample(metrics, "persons_flagged_total") == 1
        assert sample(metrics, "frames_kept_total", reason="predicted_loss") == 1
        assert sample(metrics, "frames_kept_total", reason="audit") == 0
        assert sample(metrics, "persons_withheld_total", reason="below_threshold") == 1


def test_a_frame_counts_for_the_stronger_of_its_reasons() -> None:
    kept = Decision(False, Reason.AUDIT, 1.0, 0.1), Decision(True, Reason.PREDICTED_LOSS, 1.0, 1.0)
    nothing = np.empty(0, np.float32)
    person = Person(Region(0, 0, 9, 9), nothing, 1.0, None, nothing, nothing)
    metrics = Metrics()
    metrics.observe(Answer("", tuple(person.flagged_as(one) for one in kept), ""))
    counted = [sample(metrics, "frames_kept_total", reason=one.value) for one in Reason]
    assert counted == [1, 0, 0]
    assert sample(metrics, "persons_flagged_total") == 1


def test_frames_of_a_live_stream_add_up() -> None:
    gate, requests = Gated(), Requests(LIVE)
    with serving(gate) as server:
        replies = server.stub.StreamInfer(iter(requests))
        requests.put(frame=named("0"))
        gate.entered.acquire()
        requests.put(frame=wire_frame(b"hello", frame_id="1"))
        for i in range(2, 6):
            requests.put(frame=named(str(i)))
        requests.close()
        eventually(lambda: counts(server)[0] == 6)
        gate.permits.release(10)
        summary = [*replies][-1].summary
        assert summary.dropped > 0
        assert counts(server) == tuple(getattr(summary, name) for name in COUNTS)
        assert sum(counts(server)[1:]) == 6


def test_frames_of_a_client_that_hung_up_are_cancelled() -> None:
    gate, requests = Gated(), Requests(IN_ORDER)
    with serving(gate) as server:
        replies = server.stub.StreamInfer(iter(requests))
        requests.put(frame=named("0"))
        gate.entered.acquire()
        replies.cancel()
        requests.close()
        server.call(server.server.servicer.idle())
        gate.permits.release(1)
        infer_after = server.stub.Infer.future(wire.InferRequest(frame=named("1")))
        gate.permits.release(1)
        infer_after.result()
        assert counts(server) == (2, 1, 0, 1)
        assert sample(server.server.metrics, "frames_failed_total", reason="CANCELLED") == 1


def test_clocks_of_a_reply_and_their_histograms() -> None:
    gate = Gated()
    with serving(gate) as server:
        began = time.monotonic_ns()
        call = server.stub.Infer.future(wire.InferRequest(frame=named("0")))
        gate.entered.acquire()
        gate.permits.release(1)
        result = call.result().result
        # No capture time, and still an age: from receipt, the engine's time within it.
        assert (result.age_nano, result.server_age_nano >= result.queue_nano) == (0, True)
        assert result.server_age_nano - result.queue_nano >= result.inference_nano > 0
        assert result.server_age_nano < time.monotonic_ns() - began
        now = read_status(server.server.metrics, None)
        assert (now.age.count, now.server_age.count, now.queue.count) == (0, 1, 1)
        captured = time.time_ns() - 2 * 10**9
        gate.permits.release(1)
        infer(server, wire_frame(BLACK, capture_time_unix_nano=captured))
        age = read_status(server.server.metrics, None).age
        assert (age.count, age.p50_s > 1.6) == (1, True)
        before = sample(server.server.metrics, "frame_age_seconds_sum")
        gate.permits.release(1)
        behind = time.time_ns() + 10**15  # this machine's clock, seen from the camera's
        assert infer(server, wire_frame(BLACK, capture_time_unix_nano=behind)).age_nano < 0
        assert sample(server.server.metrics, "frame_age_seconds_sum") == before


def test_streams_of_any_name_make_no_series(running: Running) -> None:
    def names() -> set[str]:
        text = generate_latest(running.server.metrics.registry).decode()
        return {line.rpartition(" ")[0] for line in text.splitlines() if "process_" not in line}

    infer(running, named("0"))
    before = names()
    for number in range(20):
        infer(running, wire_frame(BLACK, stream_id=f"camera {number}"))
    assert names() == before


def test_durations_are_told_as_the_librarys_histogram_tells_them() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine, says = Durations("queue", "Waiting."), "Waiting."
    ours.register(mine)
    known = Histogram("misgiving_queue_seconds", says, buckets=BUCKETS_S, registry=theirs)
    for seconds in (
        0.0,
        *BUCKETS_S,
        *np.random.default_rng(0).exponential(1.0, 200).tolist(),
        99.0,
    ):
        mine.observe(seconds)
        known.observe(seconds)
    assert generate_latest(ours).decode().splitlines() == without_created(theirs)


@pytest.mark.parametrize("label", ["", "reason"])
def test_counts_are_told_as_the_librarys_counter_tells_them(label: str) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    values = ["a", "b"] if label else [""]
    ours.register(mine := Counts("kept", "Kept.", label, values))
    known = Counter("misgiving_kept", "Kept.", [label] if label else [], registry=theirs)
    for value in values:
        one = known.labels(value) if label else known
        one.inc()
        mine.of[value].inc()
    one.inc(2)
    mine.of[values[-1]].inc(2)
    assert generate_latest(ours).decode().splitlines() == without_created(theirs)


@pytest.mark.parametrize("durations", [[0.0005], [0.02] * 9 + [3.0], [0.1, 0.2, 0.4], [50.0], []])
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_quantile_lies_in_its_bucket(durations: list[float], share: float) -> None:
    edges = [0.0, *BUCKETS_S, float("inf")]
    inside = zip(edges, edges[1:], strict=False)
    counts = [sum(low < one <= high for one in durations) for low, high in inside]
    found = reports.Histogram(BUCKETS_S, tuple(counts)).quantile(share)
    if not durations:
        assert found == 0
        return
    true = np.quantile(durations, share, method="inverted_cdf")
    at = int(np.searchsorted(edges, true))
    assert edges[at - 1] <= found <= min(edges[at], BUCKETS_S[-1])


def test_prometheus_is_answered_and_a_port_in_use_is_said() -> None:
    metrics = Metrics()
    metrics.received.inc(7)
    with scraped(metrics.registry, "127.0.0.1:0") as address:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as reply:
            assert "\nmisgiving_frames_received_total 7.0\n" in reply.read().decode()
        with (
            pytest.raises(FailedPrecondition, match="cannot be bound for metrics.* --metrics"),
            scraped(metrics.registry, address),
        ):
            pass
    with scraped(metrics.registry, address):  # it is free again
        pass


def test_temperatures_as_the_board_tells_them(tmp_path: Path) -> None:
    for number, (kind, celsius) in enumerate([("cpu", "41500"), ("cpu", "-40000"), ("wifi", "")]):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "type").write_text(f"{kind}\n")
        (zone / "temp").write_text(f"{celsius}\n")
    (tmp_path / "thermal_zone9").mkdir()
    told = [("thermal_zone0", "cpu", 41.5), ("thermal_zone1", "cpu", -40.0)]
    assert list(temperatures(tmp_path)) == told
    assert list(temperatures(tmp_path / "none")) == []


def test_a_spool_tells_its_size_and_age(tmp_path: Path) -> None:
    metrics = Metrics()
    spool = Spool(tmp_path)
    metrics.registry.register(of_spool(spool.counts))
    assert offer(spool, collected("one"))
    assert offer(spool, collected("two"))
    spool.close()
    again = Spool(tmp_path)  # where the age survives
    digest, _ = again.pending()
    size = len(again.read(digest))
    counted = again.counts()
    assert 0 <= counted.oldest_age_s < 60
    assert counted.bytes == sum(len(again.read(one)) for one in again.pending())
    again.remove(digest)
    assert (again.counts().uploaded_bytes, again.counts().pending) == (size, 1)
    again.close()
    now = read_status(metrics, None).spool
    assert (now.pending, now.size_bytes, now.uploaded) == (2, counted.bytes, 0)


def test_an_age_is_not_that_of_a_clock_that_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a process. Before it, a clock that stood ahead lets nothing be older than that."""
    clock = SimpleNamespace(wall=1e9, passed=50.0)
    monkeypatch.setattr(
        spool_module,
        "time",
        SimpleNamespace(time=lambda: clock.wall, monotonic=lambda: clock.passed),
    )
    spool = Spool(tmp_path)
    assert offer(spool, collected("one"))
    until_pending(spool, 1)
    clock.passed += 7.0
    for wall in (2e9, 0.0, 1e9 + 30.0):
        clock.wall = wall
        assert spool.counts().oldest_age_s == 7.0
    spool.close()
    for wall, age_s in ((1e9 + 30.0, 30.0), (0.0, 0.0)):
        clock.wall = wall
        again = Spool(tmp_path)
        assert again.counts().oldest_age_s == age_s
        clock.passed += 1.0
        assert again.counts().oldest_age_s == age_s + 1.0
        again.close()


def test_a_spool_of_an_earlier_release_has_no_age(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert offer(spool, collected("old"))
    spool.close()
    database = sqlite3.connect(tmp_path / DATABASE)
    database.execute("ALTER TABLE frames DROP COLUMN stored_at")
    database.close()
    spool = Spool(tmp_path)
    assert (spool.counts().pending, spool.counts().oldest_age_s) == (1, 0.0)
    assert offer(spool, collected("new"))
    spool.close()
    assert spool.counts().pending == 2


def test_status_over_the_wire(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool = Spool(tmp_path)
    with serving(sink=spool, ready=False) as server:
        server.server.metrics.registry.register(of_spool(spool.counts))
        assert status.status(server.address) == 1  # it loads
        assert capsys.readouterr().out.startswith("health      NOT SERVING\nup ")
        server.call(server.server.ready(server.pipeline))
        infer(server, named("dark"))
        with Client(server.address) as client:
            said = client.status()
            assert said.model == client.model()
        spool.close()
        assert (said.serving, said.answered, said.flagged, said.kept) == (True, 1, 1, 1)
        assert said.inference.count == 1
        assert status.status(server.address) == 0
        out = capsys.readouterr().out
        assert "\nmodel       bright-spots 1; bundle " in out
        assert "\nframes      1 answered, " in out
        assert "\npersons     1; 1 flagged (100 %)\n" in out
        assert "\nspool       1 pending, the oldest for " in out
        status.status(server.address, as_json=True)
        record = json.loads(capsys.readouterr().out)
        assert record["model"]["engine"] == "onnxruntime CPUExecutionProvider fp32"
        assert (record["spool"]["pending"], record["queue"]["count"]) == (1, 1)
        server.call(server.server.fail())
        assert status.status(server.address) == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0123, "12.3 ms"),
        (3.25, "3.25 s"),
        (59.96, "60 s"),
        (301, "5 min"),
        (25_920, "7 h 12 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_in_words(seconds: float, said: str) -> None:
    assert status.duration(seconds) == said


def test_the_dashboard_asks_for_metrics_that_exist(tmp_path: Path) -> None:
    with all_metrics(tmp_path) as registry:
        text = generate_latest(registry).decode()
    exist = set(re.findall(r"^(misgiving_\w+)", text, re.MULTILINE))
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text("utf-8"))
    asked = {name for text in expressions(dashboard) for name in re.findall(r"misgiving_\w+", text)}
    assert len(asked) > 10
    assert asked - exist == set()


def expressions(dashboard: dict[str, Any]) -> list[str]:
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return panels + [str(one["query"]) for one in dashboard["templating"]["list"]]
