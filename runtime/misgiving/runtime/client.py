"""A small synchronous client of ``misgiving serve``."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType

import grpc
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import (
    FailedPrecondition,
    InvalidInput,
    MisgivingError,
    ResourceExhausted,
)
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import check_rgb
from misgiving.runtime.listening import check_address
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import detector_pb2_grpc
from misgiving.v1 import pose_pb2 as pose

_ERRORS: dict[grpc.StatusCode, type[MisgivingError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
}

IN_FLIGHT = 8
"""Unanswered frames of an in-order stream: enough to keep a server busy."""


class Client:
    """Talks to one server.

    >>> with Client("127.0.0.1:50051") as client:
    ...     result = client.infer(Path("runner.jpg").read_bytes(), [Region(40, 10, 120, 200)])
    >>> person = result.persons[0]
    >>> person.flag.raised == (person.predicted_loss >= person.flag.threshold)
    True
    """

    def __init__(self, server: str = "127.0.0.1:50051", timeout_s: float = 30.0) -> None:
        """Prepare a connection; it is made with the first call.

        Args:
            server: HOST:PORT.
            timeout_s: of a single call; a stream has none.

        Raises:
            InvalidInput: ``server`` is not HOST:PORT.
        """
        check_address(server)
        self._server = server
        self._timeout_s = timeout_s
        # Requests are bounded by the server, replies are small.
        self._channel = grpc.insecure_channel(server, [("grpc.max_send_message_length", -1)])
        self._stub = detector_pb2_grpc.FailureDetectorStub(self._channel)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def infer(
        self,
        image: bytes | NDArray[np.uint8],
        regions: Iterable[Region] = (),
        frame_id: str = "",
        *,
        bgr: bool = False,
    ) -> wire.FrameResult:
        """Answer one image: JPEG or PNG bytes, or an array (H, W, 3), RGB unless ``bgr``.

        OpenCV's arrays are BGR, from ``cv2.imread`` and ``VideoCapture`` alike, and nothing in the
        pixels tells: see :func:`make_frame`.

        Raises:
            InvalidInput, ResourceExhausted: the server does not take it.
            MisgivingError: there is no server, or it failed.
        """
        request = wire.InferRequest(frame=make_frame(image, regions, frame_id, bgr=bgr))
        with self._translated():
            return self._stub.Infer(request, timeout=self._timeout_s).result

    def stream(
        self, frames: Iterable[pose.Frame], *, live: bool = False
    ) -> Iterator[wire.StreamInferResponse]:
        """Send frames and yield replies: a result or an error for each, and the summary last.

        Args:
            frames: taken from another thread, as fast as the server takes them; an exception
                that it raises ends the stream and is raised here.
            live: a newer frame replaces one that waits; otherwise nothing is dropped.
        """
        source = _Source(frames, None if live else IN_FLIGHT)
        with self._translated():
            call = self._stub.StreamInfer(source.requests(live))
            try:
                for reply in call:
                    source.replied()
                    yield reply
            finally:
                source.close()
                call.cancel()
        if source.error is not None:
            raise source.error

    def model(self) -> wire.Model:
        """What the server has loaded."""
        with self._translated():
            return self._stub.GetModel(wire.GetModelRequest(), timeout=self._timeout_s).model

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The one place where a gRPC error becomes one of ours."""
        try:
            yield
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            if code is grpc.StatusCode.UNAVAILABLE:
                raise FailedPrecondition(
                    f"no answer from {self._server} ({details}); "
                    "expected a server there. Start one with 'misgiving serve'"
                ) from error
            kind = _ERRORS.get(code, MisgivingError)
            raise kind(f"{self._server} answered {code.name}: {details}") from error


class _Source:
    """The requests of a stream, iterated in gRPC's thread.

    In order, it holds frames back while IN_FLIGHT are unanswered: more would only lie in the
    connection's buffers. It keeps the exception that gRPC's thread would swallow.
    """

    def __init__(self, frames: Iterable[pose.Frame], in_flight: int | None) -> None:
        self._frames = frames
        self._places = None if in_flight is None else threading.Semaphore(in_flight)
        self._closed = False
        self.error: Exception | None = None

    def requests(self, live: bool) -> Iterator[wire.StreamInferRequest]:
        mode = wire.STREAM_MODE_LIVE if live else wire.STREAM_MODE_IN_ORDER
        yield wire.StreamInferRequest(open=wire.StreamOpen(mode=mode))
        try:
            for frame in self._frames:
                if self._places is not None:
                    self._places.acquire()
                if self._closed:
                    return
                yield wire.StreamInferRequest(frame=frame)
        except Exception as error:
            self.error = error

    def replied(self) -> None:
        if self._places is not None:
            self._places.release()

    def close(self) -> None:
        """Let a thread that waits for a place go."""
        self._closed = True
        self.replied()


def make_frame(
    image: bytes | NDArray[np.uint8],
    regions: Iterable[Region] = (),
    frame_id: str = "",
    capture_time_unix_nano: int = 0,
    stream_id: str = "",
    *,
    bgr: bool = False,
) -> pose.Frame:
    """A frame for the wire, of JPEG or PNG bytes or an array (H, W, 3), RGB unless ``bgr``.

    >>> video = open_source(Path("drive.mp4"))
    >>> frames = (make_frame(picture.image, frame_id=picture.name) for picture in video)
    >>> with Client("127.0.0.1:50051") as client:
    ...     replies = list(client.stream(frames))
    >>> replies[0].result.frame_id, replies[-1].summary.answered
    ('000000', 3)

    Args:
        image: bytes are sent as they are.
        regions: persons' boxes in image px; none for the whole frame.
        frame_id: comes back with the answer.
        capture_time_unix_nano: 0 where it is not known; the answer has then no age.
        stream_id: names the camera or recording.
        bgr: an array's channels are blue, green, red, as OpenCV's are; of bytes it means nothing.

    Raises:
        ImageError: an array of another shape or type.
    """
    return pose.Frame(
        frame_id=frame_id,
        stream_id=stream_id,
        capture_time_unix_nano=capture_time_unix_nano,
        image=_wire_image(image, bgr),
        regions=[
            pose.Region(x_px=r.x, y_px=r.y, width_px=r.width, height_px=r.height) for r in regions
        ],
    )


def _wire_image(image: bytes | NDArray[np.uint8], bgr: bool) -> pose.Image:
    if isinstance(image, bytes):
        return pose.Image(encoded=image)
    height, width = check_rgb(image).shape[:2]
    pixels = (image[..., ::-1] if bgr else image).tobytes()
    return pose.Image(raw=pose.RawImage(pixels=pixels, height_px=height, width_px=width))
