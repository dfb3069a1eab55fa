"""A decided answer is the undecided one with decisions and ages, whatever fields there are; a
message has a person's keypoints."""

from dataclasses import fields, replace

import numpy as np
import pytest

from misgiving.runtime.geometry import Region
from misgiving.runtime.nouns import Answer, Collection, Decision, Person, Reason
from misgiving.runtime.wire.results import fill_person
from misgiving.v1 import pose_pb2 as pose


def test_what_is_not_decided_is_kept() -> None:
    one, more = np.ones(1, np.float32), np.ones(2, np.float32)
    person = Person(Region(1, 2, 3, 4), np.ones((1, 3), np.float32), 0.5, 0.25, one, more, more)
    answer = Answer("7", (person,), "digest", 1, 2, 3, 4, Collection.QUEUED, 5)
    for example in (person, answer):  # a new field needs a value above
        assert all(getattr(example, f.name) is not f.default for f in fields(example)[:-1])
    flag = Decision(True, Reason.PREDICTED_LOSS, 0.4, 1.0)
    decided = answer.decided([flag], 6, 7)
    assert decided == replace(
        answer, persons=(replace(person, flag=flag),), age_nano=6, server_age_nano=7
    )


@pytest.mark.parametrize(
    "points",
    [
        [],  # of a network without joints
        [[1.5, -2.25, 0.75]],
        [[0.0, 640.0, 1.0], [-0.0, np.nan, 0.0], [np.inf, 1e-38, 0.5]],  # what protobuf leaves out
    ],
)
def test_a_person_in_a_message_has_its_keypoints(points: list[list[float]]) -> None:
    none, keypoints = np.empty(0, np.float32), np.array(points, np.float32).reshape(-1, 3)
    person = Person(Region(1, 2, 3, 4), keypoints, 0.5, 0.25, none, none)
    fill_person(message := pose.Person(), person)
    expected = [pose.Keypoint(x_px=x, y_px=y, confidence=c) for x, y, c in keypoints.tolist()]
    told = [one.SerializeToString() for one in message.keypoints]
    assert told == [one.SerializeToString() for one in expected]
