"""A second bundle beside a real server: it is counted, it can keep, and it never matters."""

import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import generate_latest

from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.client import Client
from misgiving.runtime.engines.base import Engine, Prediction
from misgiving.runtime.errors import BundleError
from misgiving.runtime.flags.budgets import DAY, Budget
from misgiving.runtime.flags.policy import FlagPolicy
from misgiving.runtime.nouns import Reason
from misgiving.runtime.privacy.policy import PrivacyPolicy
from misgiving.runtime.serving.shadow import Ruling, Shadow
from misgiving.runtime.status import ShadowStatus
from misgiving.runtime.telemetry.metrics import Metrics
from misgiving.runtime.telemetry.reading import read_status
from misgiving.runtime.telemetry.shadowing import ShadowCounts
from misgiving.runtime.verbs import status
from misgiving.runtime.wire.collected import KeptFrame
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose
from runtime.commands import server as served
from shared import tiny
from shared.collecting import eventually
from shared.serving import Gated, Running, infer, serving, wire_frame

FIGURE = tiny.spots(list(range(3, 31, 2)))
"""Is flagged by the tiny bundle from a predicted loss of 0.75 on, and so it is."""
CALM = FlagPolicy(threshold=2.0, audit_rate=0.0)
"""Flags nobody; the shadow's threshold is its own."""
ALL = Ruling(share=1.0, limit=0.5, keep=False, threshold="none of its names")


@dataclass
class Shifted:
    """The tiny engine, whose keypoints all lie elsewhere."""

    px: float
    engine: Engine = field(default_factory=tiny.engine)

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        said = self.engine.infer(images)
        return replace(said, keypoints=said.keypoints + np.float32([self.px, 0, 0]))


class Failing(Shifted):
    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        raise RuntimeError("it cannot")


class Kept(list[KeptFrame]):
    def offer(self, frame: KeptFrame) -> bool:
        self.append(frame)
        return True

    @property
    def flags(self) -> list[tuple[str, Reason | None, float]]:
        persons = [(kept.frame.frame_id, kept.persons[0].flag) for kept in self]
        return [(name, flag.kept, flag.sampling_probability) for name, flag in persons]


class Watched:
    """A shadow, and what it counts."""

    def __init__(
        self,
        engine: Engine | None,
        ruling: Ruling = ALL,
        patience_s: float = 60.0,
        load: Callable[[], Model] | None = None,
    ) -> None:
        self.metrics = Metrics()
        self.shadow = Shadow(
            load or (lambda: tiny.model(engine)),
            ruling,
            ShadowCounts(self.metrics),
            draw=lambda: 0.5,
            patience_s=patience_s,
        )

    @property
    def status(self) -> ShadowStatus:
        said = read_status(self.metrics, None).shadow
        assert said is not None
        return said

    def looked(self, server: Running, name: str) -> wire.FrameResult:
        """The reply to a frame, once the shadow has looked too."""
        before = self.status
        result = infer(server, wire_frame(FIGURE, frame_id=name))
        eventually(lambda: self.status != before)
        return result

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"misgiving_{name}", labels)


def test_answers_are_the_same_with_and_without() -> None:
    def answers(shadow: Shadow | None) -> list[wire.FrameResult]:
        with serving(policy=CALM, shadow=shadow) as server:
            frames = [wire_frame(FIGURE, frame_id=f"{i}") for i in range(2)]
            results = [infer(server, frame) for frame in frames]
        for result in results:
            for clock in ("queue_nano", "inference_nano", "server_age_nano"):
                result.ClearField(clock)
        return results

    watched = Watched(Shifted(30.0))
    assert answers(watched.shadow) == answers(None)
    assert watched.status == ShadowStatus(2, 0, 0, persons=2, disagreed=2)


@pytest.mark.parametrize(
    ("px", "ruling", "agreement"),
    [
        (0.0, ALL, "agree"),
        (30.0, ALL, "keypoints"),
        (30.0, replace(ALL, limit=1.0), "agree"),
        # its own default threshold flags
        (0.0, replace(ALL, threshold=None), "flags"),
        (30.0, replace(ALL, threshold="flag_rate=0.1"), "both"),
        # a number means nothing in the units of another bundle
        (0.0, replace(ALL, threshold=0.1), "agree"),
    ],
)
def test_what_is_counted(px: float, ruling: Ruling, agreement: str) -> None:
    watched = Watched(Shifted(px), ruling)
    with serving(policy=CALM, shadow=watched.shadow) as server:
        watched.looked(server, "0")
    assert watched.sample("shadow_persons_total", agreement=agreement) == 1
    assert watched.status.persons == 1
    assert watched.status.disagreed == (agreement != "agree")
    assert watched.sample("shadow_distance_torsos_count") == 1
    assert bool(watched.sample("shadow_distance_torsos_sum")) == bool(px)  # at the same pixels
    assert watched.sample("shadow_seconds_count") == 1
    assert (
        'misgiving_shadow_info{bundle_digest="'
        in generate_latest(watched.metrics.registry).decode()
    )


def test_it_looks_at_the_share_that_is_asked_for() -> None:
    watched = Watched(Shifted(0.0), replace(ALL, share=0.5))
    with serving(policy=CALM, shadow=watched.shadow) as server:
        infer(server, wire_frame(FIGURE))  # the draw is 0.5
        server.pipeline.shadow_by(replace(ALL, share=0.51))
        watched.looked(server, "1")
    assert watched.status.compared == 1


def test_a_shadow_that_fails_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(Failing(0.0))
    with serving(policy=CALM, shadow=watched.shadow) as server:
        for name in "01":
            assert watched.looked(server, name).frame_id == name
        assert not server.pipeline.vitals.failed
    assert watched.status.failed == 2
    assert [one.message for one in caplog.records] == ["shadow: it cannot; answers go out as ever"]


def test_a_shadow_that_does_not_load(caplog: pytest.LogCaptureFixture) -> None:
    def load() -> Model:
        raise BundleError("it is none")

    watched = Watched(None, load=load)
    with serving(policy=CALM, shadow=watched.shadow) as server:
        assert watched.looked(server, "0").frame_id == "0"
    assert "shadow does not load: it is none; answers go out as ever" in caplog.text
    assert watched.status.failed == 1


def test_a_shadow_that_hangs_holds_two_frames_and_nobody() -> None:
    gate, kept = Gated(), Kept()
    watched = Watched(gate, replace(ALL, keep=True), patience_s=0.0)
    audit = FlagPolicy(threshold=2.0, audit_rate=1.0)
    with serving(policy=audit, sink=kept, shadow=watched.shadow) as server:
        results = [infer(server, wire_frame(FIGURE, frame_id=f"{i}")) for i in range(5)]
        assert [result.collection for result in results] == [wire.COLLECTION_QUEUED] * 5
        assert [name for name, *_ in kept.flags] == ["2", "3", "4"]
        assert not server.pipeline.vitals.failed
    gate.permits.release(2)
    assert watched.status == ShadowStatus(0, 3, 2, persons=0, disagreed=0)
    # What the audit has taken is kept nevertheless.
    assert [name for name, *_ in kept.flags] == ["2", "3", "4", "0", "1"]


def test_a_disagreement_is_kept_within_the_budget() -> None:
    kept, watched = Kept(), Watched(Shifted(30.0), replace(ALL, keep=True))
    policy = replace(CALM, budgets=(Budget(2, "frames", DAY),))
    with serving(policy=policy, sink=kept, shadow=watched.shadow) as server:
        results = [watched.looked(server, name) for name in "012"]
    assert not any(result.persons[0].flag.sampling_probability for result in results)
    assert [result.collection for result in results] == [wire.COLLECTION_NONE] * 3
    assert kept.flags == [("0", Reason.SHADOW, 1.0)]  # what is left is for others
    assert watched.sample("frames_kept_total", reason="shadow") == 1
    assert watched.sample("shadow_frames_withheld_total", reason="budget") == 2


def test_what_privacy_bars_is_compared_and_not_kept() -> None:
    kept, watched = Kept(), Watched(Shifted(30.0), replace(ALL, keep=True))
    with serving(policy=CALM, sink=kept, shadow=watched.shadow) as server:
        server.pipeline.keeping.policy = PrivacyPolicy(collect=False)
        watched.looked(server, "0")
    assert watched.status.disagreed == 1
    assert kept == []


@pytest.mark.parametrize(
    ("px", "flag"), [(0.0, ("0", Reason.AUDIT, 0.6)), (30.0, ("0", Reason.SHADOW, 1.0))]
)
def test_what_the_audit_keeps_is_kept_once(px: float, flag: tuple[str, Reason, float]) -> None:
    kept, watched = Kept(), Watched(Shifted(px), replace(ALL, keep=True))
    policy = FlagPolicy(threshold=2.0, audit_rate=0.6)
    with serving(policy=policy, sink=kept, shadow=watched.shadow) as server:
        result = watched.looked(server, "0")
        assert result.collection == wire.COLLECTION_QUEUED
        assert result.persons[0].flag.kept == pose.KEEP_REASON_AUDIT
    assert kept.flags == [flag]


def test_a_bundle_that_comes_meanwhile_is_compared_with_nothing_of_the_former() -> None:
    gate, kept = Gated(), Kept()
    watched = Watched(gate, replace(ALL, keep=True, threshold=None))
    policy = replace(CALM, near_duplicate=0.1)

    async def exchange() -> None:
        server.pipeline.exchange(tiny.model(), replace(policy, threshold=0.5))

    with serving(policy=policy, sink=kept, shadow=watched.shadow) as server:
        infer(server, wire_frame(FIGURE, frame_id="0"))
        server.call(exchange())
        gate.permits.release(2)
        eventually(lambda: watched.status.compared == 1)
        infer(server, wire_frame(FIGURE, frame_id="1"))
    assert kept.flags == [("0", Reason.SHADOW, 1.0), ("1", Reason.PREDICTED_LOSS, 1.0)]


def test_a_flagged_frame_is_kept_once() -> None:
    kept, watched = Kept(), Watched(Shifted(30.0), replace(ALL, keep=True))
    with serving(sink=kept, shadow=watched.shadow) as server:
        watched.looked(server, "0")
    assert kept.flags == [("0", Reason.PREDICTED_LOSS, 1.0)]


def test_a_summary_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in a while, and in the end."""
    monkeypatch.setattr("misgiving.runtime.telemetry.shadowing._SUMMARY_S", 0.0)
    caplog.set_level(logging.DEBUG, "misgiving")
    watched = Watched(Shifted(30.0))
    with serving(policy=CALM, shadow=watched.shadow) as server:
        watched.looked(server, "0")
    assert "the shadow disagrees on frame 0" in caplog.text
    first, last = (one.message for one in caplog.records if "frames" in one.message)
    assert first == "shadow: frames 1 compared, 0 busy, 0 failed; persons 1 keypoints"
    assert last == "shadow: frames 0 compared, 0 busy, 0 failed; persons none"


def test_serve_has_a_shadow_that_may_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "misgiving.toml"
    text = f'[shadow]\npath = "{tiny.BUNDLE}"\nshare = '
    file.write_text(f"{text}1.0\n")
    with served("--config", file, "--threads", 1) as (process, address), Client(address) as client:
        client.infer(FIGURE)
        eventually(lambda: client.status().shadow.compared == 1)
        assert client.status().shadow == ShadowStatus(1, 0, 0, persons=1, disagreed=0)
        assert status.status(address) == 0
        assert "\nshadow      1 compared, 0 left out, 0 failed; " in capsys.readouterr().out
        assert process.stderr is not None
        for change, answer in [
            ("0.0", "reloaded; changed: shadow.share"),
            ("0.0\nthreads = 2", "shadow.threads changed, which takes a restart"),
        ]:
            file.write_text(f"{text}{change}\n")
            process.send_signal(signal.SIGHUP)
            assert answer in process.stderr.readline()
        client.infer(FIGURE)
        process.terminate()
        assert process.wait(60) == 0
