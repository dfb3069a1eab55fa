"""Answers, the replies of a stream, and what is loaded, as messages and back."""

import numpy as np

from misgiving.runtime.nouns import (
    Answer,
    Collection,
    Floats,
    FrameFailure,
    ModelInfo,
    NamedThreshold,
    Person,
    StreamSummary,
)
from misgiving.runtime.wire.decisions import fill_flag, to_decision
from misgiving.runtime.wire.frames import fill_region, to_region
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose

_ONE = pose.Keypoint(x_px=1, y_px=1, confidence=1)
_KEYPOINT = np.frombuffer(pose.Person(keypoints=[_ONE]).SerializeToString(), np.uint8)
"""The bytes of any keypoint, but for its numbers."""

Reply = Answer | FrameFailure | StreamSummary
"""What a stream gives: an answer or a failure for each frame, and the summary last."""

_COLLECTIONS = {
    Collection.NONE: wire.COLLECTION_NONE,
    Collection.QUEUED: wire.COLLECTION_QUEUED,
    Collection.LOST: wire.COLLECTION_LOST,
}
_OF_NUMBER = {number: collection for collection, number in _COLLECTIONS.items()}


def fill_result(message: wire.FrameResult, answer: Answer) -> None:
    """Write an answer into an empty message."""
    message.frame_id = answer.frame_id
    message.bundle_digest = answer.bundle_digest
    message.age_nano = answer.age_nano or 0
    message.queue_nano = answer.queue_nano
    message.inference_nano = answer.inference_nano
    message.dropped_before = answer.dropped_before
    message.collection = _COLLECTIONS[answer.collection]
    message.server_age_nano = answer.server_age_nano
    for person in answer.persons:
        fill_person(message.persons.add(), person)


def to_answer(message: wire.FrameResult) -> Answer:
    """What a message holds."""
    return Answer(
        message.frame_id,
        tuple(to_person(person) for person in message.persons),
        message.bundle_digest,
        message.age_nano or None,
        message.queue_nano,
        message.inference_nano,
        message.dropped_before,
        _OF_NUMBER.get(message.collection, Collection.NONE),
        message.server_age_nano,
    )


def fill_person(message: pose.Person, person: Person) -> None:
    """Write a person into an empty message."""
    fill_region(message.region, person.region)
    message.MergeFromString(_packed(person.keypoints))
    message.predicted_loss = person.predicted_loss
    if person.failure_probability is not None:
        message.failure_probability = person.failure_probability
    message.keypoint_loss.extend(person.keypoint_loss.tolist())
    message.signals.extend(person.signals.tolist())
    fill_flag(message.flag, person.flag)


def _packed(keypoints: Floats) -> bytes:
    """Keypoints (K, 3) as they stand in a person's message: a call for each would take twice as
    long."""
    rows = np.empty((len(keypoints), len(_KEYPOINT)), np.uint8)
    rows[:] = _KEYPOINT
    fields = rows[:, 2:].reshape(-1, 3, 5)  # behind tag and length; a tag and a float each
    fields[:, :, 1:] = np.ascontiguousarray(keypoints, "<f4").view(np.uint8).reshape(-1, 3, 4)
    return rows.tobytes()


def to_person(message: pose.Person) -> Person:
    """What a message holds."""
    known = message.HasField("failure_probability")
    points = [value for one in message.keypoints for value in (one.x_px, one.y_px, one.confidence)]
    return Person(
        to_region(message.region),
        np.fromiter(points, np.float32, len(points)).reshape(-1, 3),
        message.predicted_loss,
        message.failure_probability if known else None,
        np.fromiter(message.keypoint_loss, np.float32),
        np.fromiter(message.signals, np.float32),
        flag=to_decision(message.flag),
    )


def to_response(reply: Reply) -> wire.StreamInferResponse:
    """A reply of a stream."""
    response = wire.StreamInferResponse()
    match reply:
        case Answer():
            fill_result(response.result, reply)
        case FrameFailure():
            response.error.frame_id = reply.frame_id
            response.error.code = reply.code
            response.error.message = reply.message
            response.error.dropped_before = reply.dropped_before
        case StreamSummary():
            response.summary.SetInParent()
            response.summary.received = reply.received
            response.summary.answered = reply.answered
            response.summary.dropped = reply.dropped
            response.summary.failed = reply.failed
    return response


def to_reply(message: wire.StreamInferResponse) -> Reply:
    """What a message holds; one of a later release, with something unknown, as an empty summary."""
    match message.WhichOneof("message"):
        case "result":
            return to_answer(message.result)
        case "error":
            error = message.error
            return FrameFailure(error.frame_id, error.code, error.message, error.dropped_before)
    one = message.summary
    return StreamSummary(one.received, one.answered, one.dropped, one.failed)


def to_model(info: ModelInfo) -> wire.Model:
    """What is loaded, for a client."""
    return wire.Model(
        name=info.name,
        version=info.version,
        bundle_digest=info.bundle_digest,
        engine=info.engine,
        input_height_px=info.input_height_px,
        input_width_px=info.input_width_px,
        keypoint_names=info.keypoint_names,
        skeleton=[wire.Bone(from_index=a, to_index=b) for a, b in info.skeleton],
        signals=info.signals,
        threshold=info.threshold,
        audit_rate=info.audit_rate,
        failure_definition=info.failure_definition,
        thresholds=[
            wire.Threshold(
                name=one.name, predicted_loss=one.predicted_loss, statement=one.statement
            )
            for one in info.thresholds
        ],
    )


def to_info(message: wire.Model) -> ModelInfo:
    """What a message holds."""
    return ModelInfo(
        message.name,
        message.version,
        message.bundle_digest,
        message.engine,
        message.input_height_px,
        message.input_width_px,
        tuple(message.keypoint_names),
        tuple((bone.from_index, bone.to_index) for bone in message.skeleton),
        tuple(message.signals),
        message.threshold,
        message.audit_rate,
        message.failure_definition,
        tuple(
            NamedThreshold(one.name, one.predicted_loss, one.statement)
            for one in message.thresholds
        ),
    )
