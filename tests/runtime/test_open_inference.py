"""Open Inference Protocol v2 over a real server: the same answers, in tensors."""

import asyncio
import queue
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_png
from misgiving.runtime.nouns import Answer, ModelInfo, make_frame
from misgiving.runtime.wire.collected import KeptFrame
from misgiving.runtime.wire.open_inference import to_response
from misgiving.v1 import open_inference_pb2 as wire
from misgiving.v1.open_inference_pb2_grpc import GRPCInferenceServiceStub
from shared import tiny
from shared.serving import Gated, Running, serving

SPOTS = tiny.spots([7] * 14)
REGIONS = np.array([[0, 0, 42, 56], [5, 6, 20, 30]], np.float32)
KINDS = {"FP32": "<f4", "BOOL": "?"}
Tensor = wire.ModelInferRequest.InferInputTensor
Asked = wire.ModelInferRequest.InferRequestedOutputTensor


def raw(*inputs: tuple[str, NDArray[Any]], **more: Any) -> wire.ModelInferRequest:
    """As Triton's client sends arrays."""
    kinds = {"uint8": "UINT8", "float32": "FP32", "float64": "FP64"}
    return request(
        *(Tensor(name=name, datatype=kinds[str(a.dtype)], shape=a.shape) for name, a in inputs),
        raw_input_contents=[array.tobytes() for _, array in inputs],
        **more,
    )


def request(*inputs: Tensor, **more: Any) -> wire.ModelInferRequest:
    return wire.ModelInferRequest(**{"model_name": "bright-spots", "inputs": inputs, **more})


def image(shape: list[int], datatype: str = "UINT8", **contents: Any) -> Tensor:
    return Tensor(
        name="image",
        datatype=datatype,
        shape=shape,
        contents=wire.InferTensorContents(**contents) if contents else None,
    )


GOOD = raw(("image", SPOTS), id="good")
TYPED = request(
    image([56, 42, 3], uint_contents=SPOTS.reshape(-1).tolist()),
    Tensor(
        name="regions",
        datatype="FP32",
        shape=[2, 4],
        contents=wire.InferTensorContents(fp32_contents=REGIONS.reshape(-1).tolist()),
    ),
)


@pytest.fixture(scope="module")
def stub(running: Running) -> GRPCInferenceServiceStub:
    return GRPCInferenceServiceStub(running.channel)


def arrays(response: wire.ModelInferResponse) -> dict[str, NDArray[Any]]:
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    return {
        one.name: np.frombuffer(raw, KINDS[one.datatype]).reshape(list(one.shape))
        for one, raw in pairs
    }


def check(response: wire.ModelInferResponse, expected: Answer) -> None:
    said, persons = arrays(response), expected.persons
    for name in ("keypoints", "predicted_loss", "keypoint_loss", "signals"):
        np.testing.assert_array_equal(said[name], [getattr(one, name) for one in persons])
    assert said["failure_probability"].tolist() == pytest.approx(
        [np.nan if (p := one.failure_probability) is None else p for one in persons], nan_ok=True
    )
    assert said["flagged"].tolist() == [one.flag.raised for one in persons]
    assert response.parameters["bundle_digest"].string_param == expected.bundle_digest


ENCODED = encode_png(SPOTS)
SAME = {
    "raw": raw(("image", SPOTS), ("regions", REGIONS)),
    "raw, the other way round": raw(("regions", REGIONS), ("image", SPOTS)),
    "typed": TYPED,
    "PNG, raw": request(
        image([1], "BYTES"),
        TYPED.inputs[1],
        raw_input_contents=[len(ENCODED).to_bytes(4, "little") + ENCODED, REGIONS.tobytes()],
    ),
    "PNG, typed": request(image([1], "BYTES", bytes_contents=[ENCODED]), TYPED.inputs[1]),
}


@pytest.mark.parametrize("name", SAME)
def test_tensors_are_answered_as_frames_are(stub: GRPCInferenceServiceStub, name: str) -> None:
    regions = [Region(*row) for row in REGIONS.tolist()]
    check(stub.ModelInfer(SAME[name]), tiny.answered(make_frame(SPOTS, regions)))


def test_a_whole_frame_and_what_comes_with_it(stub: GRPCInferenceServiceStub) -> None:
    sent = raw(("image", SPOTS), ("regions", np.empty((0, 4), np.float32)), id="7")
    sent.parameters["capture_time_unix_nano"].int64_param = time.time_ns() - 10**9
    response = stub.ModelInfer(sent)
    assert (response.id, response.model_name) == ("7", "bright-spots")
    check(response, tiny.answered(make_frame(SPOTS)))
    assert response.parameters["age_nano"].int64_param >= 10**9
    assert response.parameters["collection"].string_param == "none"
    assert "age_nano" not in stub.ModelInfer(GOOD).parameters


def test_only_the_outputs_that_are_asked_for(stub: GRPCInferenceServiceStub) -> None:
    asked = [Asked(name="flagged"), Asked(name="keypoints")]
    response = stub.ModelInfer(raw(("image", SPOTS), outputs=asked))
    assert list(arrays(response)) == ["flagged", "keypoints"]


def test_metadata_says_what_comes(running: Running, stub: GRPCInferenceServiceStub) -> None:
    said = stub.ModelMetadata(wire.ModelMetadataRequest(name="bright-spots"))
    info = running.pipeline.info
    assert (said.name, list(said.versions)) == (info.name, [info.version])
    assert [(one.name, one.datatype, list(one.shape)) for one in said.inputs] == [
        ("image", "UINT8", [-1, -1, 3]),
        ("regions", "FP32", [-1, 4]),
    ]
    outputs = stub.ModelInfer(GOOD).outputs
    for promised, came in zip(said.outputs, outputs, strict=True):
        assert (promised.name, promised.datatype) == (came.name, came.datatype)
        pairs = zip(promised.shape, came.shape, strict=True)
        assert all(size in (-1, real) for size, real in pairs), promised.name
    assert stub.ServerMetadata(wire.ServerMetadataRequest()).name == "misgiving"


def test_a_frame_without_persons_keeps_its_shapes(running: Running) -> None:
    info: ModelInfo = running.pipeline.info
    said = arrays(to_response(Answer("", (), "d"), GOOD, info))
    assert said["keypoints"].shape == (0, 14, 3)
    assert said["signals"].shape == (0, len(info.signals))
    assert said["flagged"].shape == (0,)


def with_parameter(name: str, **value: Any) -> wire.ModelInferRequest:
    sent = raw(("image", SPOTS))
    sent.parameters[name].CopyFrom(wire.InferParameter(**value))
    return sent


ZERO = np.zeros((2, 2, 3), np.uint8)
BAD = {
    "another model": (raw(("image", ZERO), model_name="resnet"), "NOT_FOUND", "'resnet'"),
    "another version": (raw(("image", ZERO), model_version="9"), "NOT_FOUND", "'bright-spots' 9;"),
    "no image": (raw(("regions", REGIONS)), "INVALID_ARGUMENT", "no input 'image'"),
    "an unknown input": (raw(("pixels", ZERO)), "INVALID_ARGUMENT", "expected image, regions"),
    "an input twice": (raw(*[("image", ZERO)] * 2), "INVALID_ARGUMENT", "2 times"),
    "an input of a long name": (raw(("x" * 99_999, ZERO)), "INVALID_ARGUMENT", "each at most once"),
    "an unknown output": (
        raw(("image", ZERO), outputs=[Asked(name="boxes")]),
        "INVALID_ARGUMENT",
        "output 'boxes' is not known",
    ),
    "float pixels": (raw(("image", ZERO / 1)), "INVALID_ARGUMENT", "FP64 [2, 2, 3]"),
    "RGBA": (
        raw(("image", np.zeros((2, 2, 4), np.uint8))),
        "INVALID_ARGUMENT",
        "Drop the alpha channel",
    ),
    "a batch": (raw(("image", ZERO[None])), "INVALID_ARGUMENT", "expected UINT8 [H, W, 3]"),
    "a negative size": (
        request(image([-2, -2, 3]), raw_input_contents=[bytes(12)]),
        "INVALID_ARGUMENT",
        "[-2, -2, 3]",
    ),
    "too many pixels": (
        request(image([2**62, 2**62, 3]), raw_input_contents=[b""]),
        "RESOURCE_EXHAUSTED",
        "at most 51,000,000",
    ),
    "too few pixels": (
        request(image([2, 2, 3]), raw_input_contents=[bytes(11)]),
        "INVALID_ARGUMENT",
        "11 bytes",
    ),
    "too few typed pixels": (
        request(image([2, 2, 3], uint_contents=[1] * 11)),
        "INVALID_ARGUMENT",
        "11 bytes",
    ),
    "a pixel of 256": (
        request(image([1, 1, 3], uint_contents=[0, 1, 256])),
        "INVALID_ARGUMENT",
        "a pixel of 256",
    ),
    "shared memory": (request(image([2, 2, 3])), "INVALID_ARGUMENT", "0 bytes"),
    "a raw tensor too few": (
        request(*TYPED.inputs, raw_input_contents=[SPOTS.tobytes()]),
        "INVALID_ARGUMENT",
        "2 inputs and 1 raw_input_contents",
    ),
    "bytes without their length": (
        request(image([1], "BYTES"), raw_input_contents=[ENCODED]),
        "INVALID_ARGUMENT",
        "its length first",
    ),
    "no bytes": (
        request(image([1], "BYTES"), raw_input_contents=[b""]),
        "INVALID_ARGUMENT",
        "has 0 bytes",
    ),
    "two pictures": (
        request(image([1], "BYTES", bytes_contents=[ENCODED] * 2)),
        "INVALID_ARGUMENT",
        "2 elements; expected 1",
    ),
    "a text": (
        request(image([1], "BYTES", bytes_contents=[b"hello"])),
        "INVALID_ARGUMENT",
        "expected a JPEG",
    ),
    "regions of five": (
        raw(("image", ZERO), ("regions", np.zeros((1, 5), np.float32))),
        "INVALID_ARGUMENT",
        "FP32 [1, 5]",
    ),
    "many regions": (
        raw(("image", ZERO), ("regions", np.ones((65, 4), np.float32))),
        "RESOURCE_EXHAUSTED",
        "65 regions; at most 64",
    ),
    "many dimensions": (
        request(image([1] * 3000, uint_contents=[1])),
        "INVALID_ARGUMENT",
        "[1, 1, 1, 1, 1, 1, 1, 1, 1];",
    ),
    "half a region": (
        request(image([2, 2, 3]), TYPED.inputs[1], raw_input_contents=[bytes(12), bytes(31)]),
        "INVALID_ARGUMENT",
        "31 bytes; expected 32",
    ),
    "a region outside": (
        raw(("image", ZERO), ("regions", REGIONS[1:])),
        "INVALID_ARGUMENT",
        "outside the image",
    ),
    "a time as text": (
        with_parameter("capture_time_unix_nano", string_param="now"),
        "INVALID_ARGUMENT",
        "is string_param; expected int64_param",
    ),
    "an empty parameter": (with_parameter("stream_id"), "INVALID_ARGUMENT", "is empty"),
}


def test_names_are_bounded(stub: GRPCInferenceServiceStub) -> None:
    sent = raw(("image", ZERO))
    sent.parameters["stream_id"].string_param = "x" * 513
    with pytest.raises(grpc.RpcError, match="stream_id has 513 characters; expected at most 512"):
        stub.ModelInfer(sent)
    sent.id = "x" * 99_999
    with pytest.raises(grpc.RpcError, match="id has 99,999 characters; expected at most 512"):
        stub.ModelInfer(sent)
    (failed,) = stub.ModelStreamInfer(iter([sent]))
    assert failed.error_message.startswith("id has 99,999 characters")
    assert failed.infer_response.id == "x" * 512


@pytest.mark.parametrize("name", BAD)
def test_bad_tensors_have_their_status(stub: GRPCInferenceServiceStub, name: str) -> None:
    sent, status, said = BAD[name]
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(sent)
    assert caught.value.code().name == status, caught.value.details()
    assert said in caught.value.details()
    assert "\n" not in caught.value.details()


def test_a_stream_answers_every_message_in_order(stub: GRPCInferenceServiceStub) -> None:
    def messages() -> Iterator[wire.ModelInferRequest]:
        for number, (sent, *_) in enumerate(BAD.values()):
            sent.id = f"bad {number}"
            yield sent
            yield GOOD

    replies = list(stub.ModelStreamInfer(messages()))
    assert len(replies) == 2 * len(BAD)
    for number, (_, _, said) in enumerate(BAD.values()):
        bad, good = replies[2 * number : 2 * number + 2]
        assert said in bad.error_message
        assert bad.infer_response.id == f"bad {number}"
        assert not good.error_message
        check(good.infer_response, tiny.answered(make_frame(SPOTS)))


def test_ready_is_what_health_says_and_a_stop_ends_an_open_stream() -> None:
    gate = Gated()
    with serving(gate, ready=False) as server:
        stub = GRPCInferenceServiceStub(server.channel)
        model = wire.ModelReadyRequest(name="bright-spots")
        assert stub.ServerLive(wire.ServerLiveRequest()).live
        assert not stub.ServerReady(wire.ServerReadyRequest()).ready
        assert not stub.ModelReady(model).ready
        with pytest.raises(grpc.RpcError, match="still loading"):
            stub.ModelInfer(GOOD)
        server.call(server.server.ready(server.pipeline))
        assert stub.ServerReady(wire.ServerReadyRequest()).ready
        assert stub.ModelReady(model).ready
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            stub.ModelReady(wire.ModelReadyRequest(name="resnet"))
        sent: queue.Queue[wire.ModelInferRequest | None] = queue.Queue()
        sent.put(GOOD)
        replies = stub.ModelStreamInfer(iter(sent.get, None))
        gate.entered.acquire()
        stopping = server.begin(server.server.stop(3600))
        gate.permits.release(1)
        (reply,) = replies  # though the client has not closed its side
        stopping.result()
        sent.put(None)
    assert reply.infer_response.id == "good"


def test_an_answer_has_the_version_of_the_bundle_that_gave_it() -> None:
    """Twelve calls come, more than begin at once; another bundle does, and then all are answered.

    Those that waited are the other's.
    """
    old, gate = Bundle.load(tiny.BUNDLE), Gated()
    manifest = old.manifest.model_copy(update={"version": "2"})
    new = replace(old, digest="2" * 64, manifest=manifest)

    async def exchanged(server: Running) -> None:
        while server.server.servicer.calls < 24:  # each of them asks for the model too
            await asyncio.sleep(0)
        server.pipeline.exchange(Model(new, tiny.engine()), tiny.policy())

    with serving(gate) as server:
        stub = GRPCInferenceServiceStub(server.channel)
        asked = [stub.ModelInfer.future(GOOD) for _ in range(12)]
        assert gate.entered.acquire(timeout=60)
        server.call(exchanged(server))
        gate.permits.release(100)
        replies = [one.result(60) for one in asked]
    said = {(one.model_version, one.parameters["bundle_digest"].string_param) for one in replies}
    assert said == {("1", old.digest), ("2", new.digest)}


def test_flagged_frames_are_kept_with_their_stream() -> None:
    kept: list[KeptFrame] = []

    class Sink:
        def offer(self, frame: KeptFrame) -> bool:
            kept.append(frame)
            return True

    with serving(policy=tiny.policy(threshold=-1.0), sink=Sink()) as server:
        sent = raw(("image", SPOTS), id="9")
        sent.parameters["stream_id"].string_param = "front"
        response = GRPCInferenceServiceStub(server.channel).ModelInfer(sent)
    assert response.parameters["collection"].string_param == "queued"
    assert arrays(response)["flagged"].tolist() == [True]
    assert [frame.frame.name for frame in kept] == ["front/9"]


def test_a_client_leaves_the_protocol_s_names_to_others() -> None:
    """Triton's client, in the same process, registers them too."""
    script = """
from misgiving.runtime import Client, Estimator
from google.protobuf import descriptor_pool, descriptor_pb2
theirs = descriptor_pb2.FileDescriptorProto(name="grpc_service.proto", package="inference")
theirs.message_type.add(name="ModelInferRequest")
descriptor_pool.Default().Add(theirs)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
