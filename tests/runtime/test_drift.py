"""The alarm of drift: how often it is false, and what it finds."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import generate_latest

from misgiving.runtime.bundles.calibration import EmbeddingReference, Histogram, Reference
from misgiving.runtime.client import Client
from misgiving.runtime.flags.drift import FALSE_ALARMS, WINDOW, DriftWatch
from misgiving.runtime.flags.policy import FlagPolicy, FlagState
from misgiving.runtime.verbs import status
from runtime.flagging import Device, person
from shared import tiny
from shared.serving import infer, named, serving

BINS, PERSONS = 20, 1_000


def watch(reference: NDArray[np.float64]) -> DriftWatch:
    """As a bundle's calibration makes it: equally many of the reference in each bin."""
    edges = np.quantile(reference, np.arange(1, BINS) / BINS)
    return DriftWatch(tuple(edges.tolist()), (1 / BINS,) * BINS, PERSONS)


def alarms(windows: int, shift: float, seed: int) -> int:
    """In how many windows an alarm is raised, each with a reference of its own."""
    rng = np.random.default_rng(seed)
    raised = 0
    for _ in range(windows):
        one = watch(rng.normal(size=PERSONS))
        for score in (rng.normal(size=WINDOW) + shift).tolist():
            one = one.seen(score)
        raised += one.alarm
    return raised


def test_false_alarms_are_as_rare_as_stated() -> None:
    """One in 1,000 windows may be false: of 100, two would come once in 200 tries."""
    assert alarms(100, 0.0, 0) <= 1


def test_a_shift_of_half_a_deviation_is_found_within_a_window() -> None:
    assert alarms(15, 0.5, 1) >= 14


def test_an_alarm_ends_with_the_first_window_that_is_as_it_was() -> None:
    rng = np.random.default_rng(2)
    one = watch(rng.normal(size=PERSONS))
    for _ in range(WINDOW):
        one = one.seen(math.nan)  # an engine that has broken
    assert one.alarm
    states = []
    for score in rng.normal(size=WINDOW).tolist():
        one = one.seen(score)
        states.append(one.alarm)
    assert states == [True] * (WINDOW - 1) + [False]


def test_a_bin_without_a_share_in_the_reference_is_evidence_and_no_error() -> None:
    one = DriftWatch((0.5,), (1.0, 0.0), PERSONS)
    for _ in range(5):
        one = one.seen(0.9)
    assert 0 < one.evidence < math.inf
    assert one.alarm == (one.evidence >= -math.log(FALSE_ALARMS))


def test_the_stream_is_thinned() -> None:
    """Frames of one second resemble each other; the first person stands for its frame."""
    device = Device(FlagPolicy(threshold=9, audit_rate=0))
    device.state = FlagState(device.policy, DriftWatch((0.5,), (0.5, 0.5), PERSONS))
    for i in range(121):
        for stream in "ab":
            device.all([person(0.9), person(0.1)], float(i), stream=stream)
    assert device.state.drift is not None
    assert device.state.drift.counts == (0, 6)


def test_a_server_tells_of_drift(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reference of so many persons below 0.5 that a single one above it is enough."""
    model = tiny.model()
    reference = Reference(
        data="nobody",
        persons=10**9,
        histograms=(Histogram(name="predicted_loss", edges=(0.5,), shares=(1.0, 0.0)),),
        embedding=EmbeddingReference(mean=(), deviation=()),
    )
    manifest = model.bundle.manifest
    calibration = manifest.calibration.model_copy(update={"reference": reference})
    bundle = replace(
        model.bundle, manifest=manifest.model_copy(update={"calibration": calibration})
    )
    with serving(model=replace(model, bundle=bundle)) as server:
        assert not server.pipeline.drifting
        status.status(server.address)
        assert "drift" not in capsys.readouterr().out
        assert infer(server, named("dark")).persons[0].predicted_loss > 0.5
        assert server.pipeline.drifting
        metrics = generate_latest(server.server.metrics.registry).decode()
        assert "\nmisgiving_drift_alarm 1.0\n" in metrics
        with Client(server.address) as client:
            assert client.status().drifting
        status.status(server.address)
    assert "\ndrift       predicted losses have left" in capsys.readouterr().out
    assert "not distributed as the bundle's reference has them" in caplog.text
