"""A small synchronous client of ``misgiving serve``."""

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

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
from misgiving.runtime.net.connecting import Reopening, through_proxy
from misgiving.runtime.net.listening import check_address, is_loopback
from misgiving.runtime.net.sending import Outbox
from misgiving.runtime.net.slots import Slots
from misgiving.runtime.nouns import Answer, Frame, ModelInfo, Position, StreamSummary, make_frame
from misgiving.runtime.status import ServerStatus
from misgiving.runtime.wire.frames import sendable
from misgiving.runtime.wire.requests import infer_request
from misgiving.runtime.wire.results import Reply, to_answer, to_info, to_reply
from misgiving.runtime.wire.status import to_status
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import detector_pb2_grpc

_ERRORS: dict[grpc.StatusCode, type[MisgivingError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
}

_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""How a stream ends whose server goes away: at once, or after its last grace."""

IN_FLIGHT = 8
"""Unanswered frames of an in-order stream: enough to keep a server busy."""

_TLS_FAILED = ("handshake", "Verification", "Socket closed")
"""In gRPC's words for a connection that TLS has ended."""

_POLL_S = 0.25
"""Between two questions whether a server is there."""
_CHANNEL = (("grpc.max_send_message_length", -1),)  # requests are bounded by the server

log = logging.getLogger(__name__)


class Client:
    """Talks to one server.

    >>> with Client("127.0.0.1:50051") as client:
    ...     result = client.infer(Path("runner.jpg").read_bytes(), [Region(40, 10, 120, 200)])
    >>> person = result.persons[0]
    >>> person.flag.raised == (person.predicted_loss >= person.flag.threshold)
    True
    """

    def __init__(
        self,
        server: str = "127.0.0.1:50051",
        timeout_s: float = 30.0,
        wait_s: float = 5.0,
        *,
        tls: Path | str | None = None,
        stop: threading.Event | None = None,
        shared_memory: bool = True,
    ) -> None:
        """Prepare a connection; it is made with the first call.

        Args:
            server: HOST:PORT.
            timeout_s: of a single call; a stream has none.
            wait_s: how long to wait for a server that does not listen yet, still loads its
                model, or has gone away during a stream; 0 fails at once.
            tls: folder of ca.crt, whom the server's certificate must be by, and tls.crt with
                tls.key, which the server may ask for; read again when they have changed and no
                server answers. None for a server without TLS.
            stop: once it is set, no server is waited for.
            shared_memory: whether arrays of 128 KiB and more go to a server at a loopback address
                through shared memory, where it lends some; they are sent where it does not.

        Raises:
            InvalidInput: ``server`` is not HOST:PORT.
            FailedPrecondition: there are no certificates that can be used.
        """
        tls = Path(tls) if tls else None
        self.missed = 0
        """Live frames of the last stream that no server took, because there was none."""
        self._server = server
        self._timeout_s = timeout_s
        self._wait_s = wait_s
        self._tls = tls
        self._stop = stop or threading.Event()
        self._link = Reopening(server, 1.0, _CHANNEL, tls)
        self._stub = detector_pb2_grpc.FailureDetectorStub(self._link.channel)
        shares = shared_memory and is_loopback(check_address(server))
        ask = (lambda request: self._stub.ShareMemory(request)) if shares else None
        self._slots = Slots(server, ask, timeout_s)

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
        self._slots.close()
        self._link.channel.close()

    def infer(
        self,
        image: bytes | NDArray[np.uint8],
        regions: Iterable[Region] = (),
        frame_id: str = "",
        *,
        bgr: bool = False,
        position: Position | None = None,
    ) -> Answer:
        """Answer one image: JPEG or PNG bytes, or an array (H, W, 3), RGB unless ``bgr``.

        OpenCV's arrays are BGR, from ``cv2.imread`` and ``VideoCapture`` alike, and nothing in the
        pixels tells: see :func:`make_frame`, also for the ``position``.

        Raises:
            InvalidInput, ResourceExhausted: the server does not take it.
            MisgivingError: there is no server, or it failed.
        """
        frame = sendable(make_frame(image, regions, frame_id, bgr=bgr, position=position))
        with self._translated():
            return to_answer(self._infer(frame).result)

    def stream(self, frames: Iterable[Frame], *, live: bool = False) -> Iterator[Reply]:
        """Send frames and yield replies: an Answer or a FrameFailure for each, and the
        StreamSummary last.

        A server that goes away is waited for. Then a recording goes on where it was: what had
        not been answered is sent again, so that each frame gets one reply. Live, what comes
        meanwhile is dropped, see ``missed``.

        Args:
            frames: taken from another thread, as fast as the server takes them; an exception
                that it raises ends the stream and is raised here.
            live: a newer frame replaces one that waits; otherwise nothing is dropped.

        Raises:
            FailedPrecondition: the server has not come back within ``wait_s``.
        """
        outbox = Outbox(map(sendable, frames), None if live else IN_FLIGHT, self._slots)
        try:
            with self._translated():
                yield from self._replies(outbox)
        finally:
            outbox.close()
            self.missed = outbox.missed
        yield outbox.summary()
        if outbox.error is not None:
            raise outbox.error

    def model(self) -> ModelInfo:
        """What the server has loaded."""
        with self._translated():
            request = wire.GetModelRequest()
            response: wire.GetModelResponse = self._ask("GetModel", request, self._until())
            return to_info(response.model)

    def status(self) -> ServerStatus:
        """How the server does; it says so while it loads, too."""
        with self._translated():
            request = wire.GetStatusRequest()
            response: wire.GetStatusResponse
            response = self._ask("GetStatus", request, self._until())
            return to_status(response.status)

    def _infer(self, frame: Frame) -> wire.InferResponse:
        """Through shared memory, where there is a slot."""
        response: wire.InferResponse
        try:
            with self._slots.placed(frame.image) as slot:
                response = self._ask("Infer", infer_request(frame, slot), self._until())
                return response
        except grpc.RpcError as error:
            if slot is None or error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
        response = self._ask("Infer", infer_request(frame), self._until())
        self._slots.forget()  # refused was the memory: another server has come
        return response

    def _replies(self, outbox: Outbox) -> Iterator[Reply]:
        """Replies to all frames, over as many calls as it takes."""
        until: float | None = None
        while True:
            replies, loss = yield from self._one_call(outbox)
            outbox.wait_for_next(self._stop.is_set)
            if outbox.done:
                return
            if replies or until is None:
                until = self._until()
            elif time.monotonic() >= until:  # it is there, and takes no stream
                raise loss or FailedPrecondition(f"{self._server} ends every stream; see its log")
            self._ask("GetModel", wire.GetModelRequest(), until, outbox.nothing_to_wait)

    def _one_call(self, outbox: Outbox) -> Generator[Reply, None, tuple[int, grpc.RpcError | None]]:
        """Replies until the server ends the call; gives their number, and the error if it broke."""
        call = self._stub.StreamInfer(outbox.requests())
        replies = 0
        try:
            for message in call:
                reply = to_reply(message)
                outbox.reply(reply)
                if not isinstance(reply, StreamSummary):
                    replies += 1
                    yield reply
        except grpc.RpcError as error:
            if error.code() not in _AWAY:
                raise
            return replies, error
        finally:
            outbox.leave()
            call.cancel()
        return replies, None

    def _until(self) -> float:
        return time.monotonic() + self._wait_s

    def _ask(
        self,
        method: str,
        request: Any,
        until: float,
        over: Callable[[], bool] = lambda: False,
    ) -> Any:
        """Call, again and again while nobody is there to answer."""
        said = False
        while True:
            try:
                answer = getattr(self._stub, method)(request, timeout=self._timeout_s)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE and self._reconnected():
                    continue
                left = until - time.monotonic()
                given_up = left <= 0 or self._stop.is_set() or over()
                if error.code() is not grpc.StatusCode.UNAVAILABLE or given_up:
                    raise
                if not said:
                    log.warning("%s; waiting up to %.0f s", self._absent(error), left)
                said = True
                time.sleep(min(_POLL_S, left))
            else:
                if said:
                    log.warning("%s answers", self._server)
                return answer

    def _reconnected(self) -> bool:
        """Whether there are newer certificates to try with."""
        if newer := self._link.reopen():
            self._stub = detector_pb2_grpc.FailureDetectorStub(self._link.channel)
        return newer

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The one place where a gRPC error becomes one of ours."""
        try:
            yield
        except grpc.RpcError as error:
            code = error.code()
            if code is grpc.StatusCode.UNAVAILABLE:
                todo = self._to_do(str(error.details()))
                raise FailedPrecondition(f"{self._absent(error)}; {todo}") from error
            kind = _ERRORS.get(code, MisgivingError)
            raise kind(f"{self._server} answered {code.name}: {error.details()}") from error

    def _to_do(self, details: str) -> str:
        if "still loading" in details:
            return "expected it to be ready. Wait longer"
        if through_proxy(self._server):
            return "expected a server behind it. Set no_proxy to go past it, or mend it"
        if self._tls and any(word in details for word in _TLS_FAILED):
            return (
                f"expected a server with TLS whose certificate is by {self._tls}/ca.crt and names "
                "this host, and that takes ours. Compare the certificates of both"
            )
        if "Socket closed" in details:
            return "expected a server without TLS. Where it has TLS, name certificates with --tls"
        return "expected a server there. Start one with 'misgiving serve'"

    def _absent(self, error: grpc.RpcError) -> str:
        return f"no answer from {self._server}{through_proxy(self._server)} ({error.details()})"
