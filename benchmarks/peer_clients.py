"""How ``peers.py`` asks a server: one function each, from a frame to joints and predicted loss.

Each opens a connection and gives a function that sends a JPEG or RGB pixels (H, W, 3) with the
whole frame as the region, waits, and returns the keypoints (K, 3), flat, with the loss behind them.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from http.client import HTTPConnection, HTTPException

import grpc
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.client import Client
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.geometry import Region
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import open_inference_pb2 as open_inference
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub
from misgiving.v1.open_inference_pb2_grpc import GRPCInferenceServiceStub

JPEG_SIZE = 720, 1280
"""Height and width in px of every JPEG."""
UNLIMITED = [("grpc.max_send_message_length", -1)]

Floats = NDArray[np.floating]
Payload = bytes | NDArray[np.uint8]
Ask = Callable[[Payload], Floats]
Connect = Callable[[str], AbstractContextManager[Ask]]
"""From host:port."""


class Refused(Exception):
    """An HTTP status other than 200."""


def size_of(payload: Payload) -> tuple[int, int]:
    """Height and width, px."""
    return JPEG_SIZE if isinstance(payload, bytes) else payload.shape[:2]


@contextmanager
def client(address: str) -> Iterator[Ask]:
    """Our own client, which is not to wait: ``peers.py`` does."""
    with Client(address, wait_s=0) as ours:

        def ask(payload: Payload) -> Floats:
            height, width = size_of(payload)
            (person,) = ours.infer(payload, [Region(0, 0, width, height)]).persons
            return np.append(person.keypoints, person.predicted_loss)

        yield ask


@contextmanager
def stub(address: str) -> Iterator[Ask]:
    """A plain stub of our protos."""
    with grpc.insecure_channel(address, UNLIMITED) as channel:
        infer = FailureDetectorStub(channel).Infer

        def ask(payload: Payload) -> Floats:
            (person,) = infer(_request(payload)).result.persons
            points = [(point.x_px, point.y_px, point.confidence) for point in person.keypoints]
            return np.append(np.array(points), person.predicted_loss)

        yield ask


def _request(payload: Payload) -> wire.InferRequest:
    request = wire.InferRequest()
    frame, region = request.frame, request.frame.regions.add()
    region.height_px, region.width_px = size_of(payload)
    if isinstance(payload, bytes):
        frame.image.encoded = payload
    else:
        frame.image.raw.height_px, frame.image.raw.width_px = size_of(payload)
        frame.image.raw.pixels = payload.tobytes()
    return request


@contextmanager
def triton(address: str) -> Iterator[Ask]:
    """The Open Inference Protocol, pixels as a tensor."""
    with _open_inference(address) as send:

        def ask(payload: Payload) -> Floats:
            region = ("region", "FP32", [1, 4], _region(payload).tobytes())
            if isinstance(payload, bytes):
                return send([("jpeg", "BYTES", [1, 1], _element(payload)), region])
            return send([("pixels", "UINT8", [1, *payload.shape], payload.tobytes()), region])

        yield ask


@contextmanager
def mlserver(address: str) -> Iterator[Ask]:
    """The Open Inference Protocol, pixels as one element of BYTES with a shape beside it."""
    with _open_inference(address) as send:

        def ask(payload: Payload) -> Floats:
            data = payload if isinstance(payload, bytes) else payload.tobytes()
            inputs = [
                ("image", "BYTES", [1], _element(data)),
                ("region", "FP32", [4], _region(payload).tobytes()),
            ]
            if not isinstance(payload, bytes):
                inputs.append(("shape", "INT64", [3], np.array(payload.shape, "<i8").tobytes()))
            return send(inputs)

        yield ask


Tensor = tuple[str, str, list[int], bytes]
"""Name, datatype, shape, data."""


@contextmanager
def _open_inference(address: str) -> Iterator[Callable[[list[Tensor]], Floats]]:
    with grpc.insecure_channel(address, UNLIMITED) as channel:
        infer = GRPCInferenceServiceStub(channel).ModelInfer

        def send(tensors: list[Tensor]) -> Floats:
            request = open_inference.ModelInferRequest(model_name="pose")
            for name, datatype, shape, data in tensors:
                request.inputs.add(name=name, datatype=datatype, shape=shape)
                request.raw_input_contents.append(data)
            return np.frombuffer(b"".join(infer(request).raw_output_contents), "<f4")

        yield send


def _element(data: bytes) -> bytes:
    """A BYTES tensor of one element."""
    return len(data).to_bytes(4, "little") + data


def _region(payload: Payload) -> NDArray[np.float32]:
    height, width = size_of(payload)
    return np.array([0, 0, width, height], np.float32)


@contextmanager
def http(address: str) -> Iterator[Ask]:
    """The picture in a body, the rest in the query, over one connection that is kept."""
    with closing(HTTPConnection(address)) as connection:

        def ask(payload: Payload) -> Floats:
            height, width = size_of(payload)
            query = f"region=0,0,{width},{height}"
            kind = "image/jpeg"
            if not isinstance(payload, bytes):
                query, kind = f"{query}&height={height}", "application/octet-stream"
            data = payload if isinstance(payload, bytes) else payload.tobytes()
            try:
                connection.request("POST", f"/predict?{query}", data, {"Content-Type": kind})
                reply = connection.getresponse()
                body = reply.read()
            except (OSError, HTTPException):
                connection.close()  # the next request opens it again
                raise
            if reply.status != 200:
                raise Refused(f"{reply.status}: {body[:200]!r}")
            return np.frombuffer(body, "<f4")

        yield ask


NOT_YET = (grpc.RpcError, OSError, HTTPException, Refused, MisgivingError)
"""What a server says, or does not, while it starts."""
