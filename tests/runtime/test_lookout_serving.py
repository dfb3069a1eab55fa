"""Frames without regions on their way through the estimator and a server that looks out."""

from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import generate_latest

from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import decode, encode_png
from misgiving.runtime.nouns import Answer, Frame, Reason, make_frame
from misgiving.runtime.persons.detector import Detector
from misgiving.runtime.persons.finding import Picture
from misgiving.runtime.persons.lookout import Lookout
from misgiving.runtime.settings.model import Settings
from misgiving.runtime.verbs.serve import lookout_of
from misgiving.runtime.wire.collected import KeptFrame, read_kept, to_message
from shared import tiny
from shared.serving import Gated, infer, serving, wire_frame
from shared.tiny import DETECTOR

LEFT, RIGHT = (slice(64, 80), slice(32, 48)), (slice(64, 80), slice(96, 112))
THERE, TOO = Region(0, 32, 64, 64), Region(64, 32, 64, 64)


def picture(*red: tuple[slice, slice]) -> bytes:
    image = np.zeros((128, 128, 3), np.uint8)
    for rows, columns in red:
        image[rows, columns, 0] = 255
    return encode_png(image)


def regions(answer: Answer) -> set[Region]:
    return {person.region for person in answer.persons}


def test_the_estimator_answers_everybody_whom_the_detector_finds() -> None:
    estimator = Estimator.load(tiny.BUNDLE, detector=DETECTOR)
    found = estimator.infer(picture(LEFT, RIGHT))
    assert regions(found) == {THERE, TOO}
    asked = estimator.infer(picture(LEFT, RIGHT), [THERE, TOO])
    by_x = sorted(found.persons, key=lambda person: person.region.x)
    assert by_x == list(asked.persons)
    assert estimator.infer(picture()).persons == ()
    assert regions(estimator.infer(picture(LEFT), [TOO])) == {TOO}  # the client knows better


def test_a_server_answers_everybody_in_one_batch_and_nobody_with_nobody() -> None:
    gated = Gated(permits=9)
    lookout = Lookout(Detector.load(DETECTOR))
    with serving(gated, lookout=lookout) as server:
        pipeline = server.pipeline
        found = server.call(pipeline.answer_now(make_frame(picture(LEFT, RIGHT))))
        assert regions(found) == {THERE, TOO}
        assert gated.sizes == [2]
        nobody = server.call(pipeline.answer_now(make_frame(picture(), frame_id="7")))
        assert (nobody.frame_id, nobody.persons, nobody.kept) == ("7", (), False)
        assert gated.sizes == [2]
        raw = make_frame(np.zeros((8, 8, 3), np.uint8))
        assert server.call(pipeline.answer_now(raw)).persons == ()


def test_a_frame_with_nobody_is_kept_by_the_audit_and_says_with_which_probability() -> None:
    kept: list[KeptFrame] = []
    sink = SimpleNamespace(offer=lambda frame: kept.append(frame) or True)
    lookout, draws = Lookout(Detector.load(DETECTOR)), iter([0.3, 0.1])
    policy = tiny.policy(audit_rate=0.2)
    with serving(policy=policy, sink=sink, lookout=lookout, draw=draws.__next__) as server:
        for name in ("left", "kept"):
            infer(server, wire_frame(picture(), frame_id=name))
        metrics = generate_latest(server.server.metrics.registry).decode()
    assert 'misgiving_frames_kept_total{reason="audit"} 1.0' in metrics
    (frame,) = kept
    again = read_kept(to_message(frame).SerializeToString())
    assert (again.frame.frame_id, again.persons) == ("kept", ())
    assert again.nobody is not None
    assert (again.nobody.kept, again.nobody.sampling_probability) == (Reason.AUDIT, 0.2)


def test_a_frame_takes_the_places_of_all_who_may_be_in_it() -> None:
    with serving(lookout=Lookout(Detector.load(DETECTOR)), max_waiting=15) as server:
        refused = server.begin(server.pipeline.answer_now(make_frame(picture())))
        with pytest.raises(Exception, match="at most 15 crops"):
            refused.result()


def test_frames_of_a_camera_are_followed_one_after_another() -> None:
    """However many are under way, each is looked at where the one before it was answered."""
    lookout = Recording(follow=100)
    frames = [make_frame(picture(), frame_id=str(i), stream_id="front") for i in range(6)]
    with serving(lookout=lookout) as server:
        begun = [server.begin(server.pipeline.answer_now(frame)) for frame in frames]
        for one in begun:
            one.result()
    assert lookout.events == [(what, str(i)) for i in range(6) for what in ("find", "seen")]


class Recording(Lookout):
    """A lookout that notes what it is asked."""

    events: list[tuple[str, str]]

    def __init__(self, follow: int) -> None:
        super().__init__(follow=follow)
        self.events = []

    def find(self, frame: Frame, image: Picture) -> tuple[Region, ...] | None:
        self.events.append(("find", frame.frame_id))
        return super().find(frame, image)

    def seen(self, frame: Frame, answer: Answer) -> None:
        self.events.append(("seen", frame.frame_id))
        super().seen(frame, answer)


def test_a_server_looks_out_as_its_settings_say() -> None:
    assert lookout_of(Settings()) is None
    fixed = {"front": [[1, 2, 30, 40]]}
    said = {"detector": tiny.DETECTOR, "fixed": fixed, "follow": 9}
    lookout = lookout_of(Settings.model_validate({"persons": said}))
    assert lookout is not None
    image = decode(picture(LEFT))
    assert lookout.find(make_frame(image, stream_id="front"), image) == (Region(1, 2, 30, 40),)
    rear = make_frame(image, stream_id="rear")
    assert lookout.find(rear, image) == (THERE,)
    assert lookout.follows(rear)
