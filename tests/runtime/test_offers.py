"""What a header says of a frame, of any release."""

import hashlib

import numpy as np
import pytest

from misgiving.runtime.errors import DataError
from misgiving.runtime.nouns import Reason
from misgiving.runtime.wire.offers import header_of, read_header
from misgiving.v1.fleet_pb2 import FrameHeader
from misgiving.v1.pose_pb2 import Flag, FlagReason, KeepReason, Person
from shared.collecting import collected, person


def test_a_header_is_of_the_person_with_the_greatest_loss() -> None:
    persons = [person(0, loss=0.5), person(1, loss=3.0), person(2, loss=float("nan"))]
    persons[0].flag.kept = KeepReason.KEEP_REASON_AUDIT
    persons[1].failure_probability = 0.75
    frame = collected("f0", persons=persons)
    frame.embeddings[1].values[:] = [3.0, 4.0]
    header = read_header(header_of(frame))
    assert (header.frame_id, header.stream_id, header.device_id) == ("f0", "front", "car-7")
    assert (header.capture_time_unix_nano, header.bundle_digest) == (1, "b" * 64)
    assert (header.predicted_loss, header.failure_probability) == (3.0, 0.75)
    assert header.kept == (Reason.PREDICTED_LOSS, Reason.AUDIT)
    assert header.sampling_probability == 1.0
    assert header.image_digest == hashlib.sha256(frame.frame.image.encoded).hexdigest()
    assert np.array_equal(header.embedding, [3.0, 4.0])


def test_a_frame_with_nobody_says_why_it_is_kept() -> None:
    frame = collected("empty", persons=[])
    frame.nobody.CopyFrom(Flag(kept=KeepReason.KEEP_REASON_AUDIT, sampling_probability=0.25))
    header = read_header(header_of(frame))
    assert (header.predicted_loss, header.failure_probability) == (None, None)
    assert (header.kept, header.sampling_probability) == ((Reason.AUDIT,), 0.25)
    assert header.embedding.shape == (0,)


def test_an_audited_frame_of_before_is_of_the_audit() -> None:
    flag = Flag(raised=True, reason=FlagReason.FLAG_REASON_AUDIT, sampling_probability=0.5)
    header = read_header(header_of(collected("old", persons=[Person(flag=flag)])))
    assert header.kept == (Reason.AUDIT,)


def test_headers_that_are_none_and_of_later_releases() -> None:
    with pytest.raises(DataError, match="3 bytes are no FrameHeader"):
        read_header(b"\xff\xff\xff")
    assert read_header(FrameHeader(kept=[99]).SerializeToString()).kept == ()
