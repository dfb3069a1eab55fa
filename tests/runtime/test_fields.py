"""Messages of millions of fields, each of which would become an object, are not parsed."""

import grpc
import numpy as np
import pytest

from misgiving.runtime.geometry import MAX_REGIONS, Region
from misgiving.runtime.net import fields
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import open_inference_pb2 as triton
from misgiving.v1 import pose_pb2 as pose
from shared.serving import infer, named, serving, wire_frame

REGIONS = [Region(float(number), 2, 3, 4) for number in range(MAX_REGIONS)]
LARGE = np.zeros((200, 200, 3), np.uint8)
MANY = 20_000


def frame(regions: int) -> pose.Frame:
    return pose.Frame(regions=[pose.Region()] * regions)


CROWDED = {
    "regions": wire.InferRequest(frame=frame(MANY)),
    "regions of a stream": wire.StreamInferRequest(frame=frame(MANY)),
    "inputs": triton.ModelInferRequest(inputs=[triton.ModelInferRequest.InferInputTensor()] * MANY),
    "elements of an input": triton.ModelInferRequest(
        inputs=[{"contents": {"bytes_contents": [b""] * MANY}}]
    ),
    "parameters": triton.ModelInferRequest(
        parameters={str(number): triton.InferParameter() for number in range(MANY)}
    ),
    "short messages": triton.ModelInferRequest(inputs=[{"name": "x" * 20}] * 5000),
}


@pytest.mark.parametrize("name", CROWDED)
def test_many_fields_are_counted(name: str) -> None:
    message = CROWDED[name]
    assert fields.are_many(message.SerializeToString(), message.DESCRIPTOR)


def test_few_fields_and_what_is_no_message_are_left_to_the_parser() -> None:
    kind = wire.InferRequest.DESCRIPTOR
    most = wire.InferRequest(frame=wire_frame(LARGE, REGIONS, "id", 1 << 62, "front"))
    assert len(data := most.SerializeToString()) > fields.SMALL_BYTES
    assert not fields.are_many(data, kind)
    for broken in (data[:-5], b"\xff" * 20_000, b"\x0a\xff" + bytes(20_000), bytes([7]) * 20_000):
        fields.are_many(broken, kind)
    small = wire.InferRequest(frame=frame(5000)).SerializeToString()
    assert not fields.are_many(small, kind)


def test_they_have_their_status() -> None:
    with serving() as running:
        for call, sent in (
            (running.stub.Infer, CROWDED["regions"]),
            (
                lambda sent: list(running.stub.StreamInfer(iter([sent]))),
                CROWDED["regions of a stream"],
            ),
        ):
            with pytest.raises(grpc.RpcError, match="more than 4,096 fields; expected") as caught:
                call(sent)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert infer(running, named("0")).frame_id == "0"
