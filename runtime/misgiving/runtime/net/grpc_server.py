"""What every gRPC server of ours is made with: its limits, and an answer to bytes that are none."""

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from misgiving.runtime.errors import (
    FailedPrecondition,
    InvalidInput,
    MisgivingError,
    ResourceExhausted,
)
from misgiving.runtime.geometry import MAX_REGIONS
from misgiving.runtime.net import fields
from misgiving.runtime.net.listening import check_address
from misgiving.runtime.net.roles import RoleCheck, Roles, kind_of
from misgiving.runtime.net.room import Admission, Limits, held
from misgiving.runtime.net.status import refuse

log = logging.getLogger(__name__)

OPTIONS = (
    # Otherwise a second server on the same port would silently share its calls.
    ("grpc.so_reuseport", 0),
    # Clients may ping an idle stream every ten seconds, or a little sooner where a network bunches
    # them; gRPC's own default hangs up on these.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A client that hangs, or whose cable was pulled, says no goodbye: its streams would stay for
    # gRPC's two hours. It is asked every half minute, and has twenty seconds to answer.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    # Nor does a connection that never says anything keep its descriptor for gRPC's two minutes.
    ("grpc.server_handshake_timeout_ms", 20_000),
    # What a call has sent that has no room yet. gRPC would let that grow to megabytes each; a
    # message that is being read has as much as it needs.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_535),
)

_QUIET_S = 60.0
"""Between two lines about malformed requests; what comes meanwhile is counted."""


def new_server(limits: Limits = Limits(), roles: Roles = Roles()) -> Any:
    """A server that answers a malformed request with INVALID_ARGUMENT, whatever the service.

    Args:
        limits: of what may be under way.
        roles: who may call what.
    """
    ours = (
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_allowed_incoming_connections", limits.connections),
    )
    server = grpc.aio.server(
        interceptors=[Admission(limits), RoleCheck(roles), _Malformed()],
        options=[*OPTIONS, *ours],
    )
    # With each call gRPC waits anew for the next one of every registered method, and there are
    # dozens; what is not registered it finds by its name.
    server.add_registered_method_handlers = lambda *_: None  # type: ignore[method-assign]
    return server


def add_health(server: grpc.aio.Server, *services: str) -> health.aio.HealthServicer:
    """Health and reflection beside services; what it says of its health is up to the caller."""
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return checks


def bind(server: grpc.aio.Server, listen: str, tls: Path | None = None) -> str:
    """Take an address for a server; gives it with the port that was really taken.

    Args:
        server: which is not started yet.
        listen: HOST:PORT; port 0 takes a free one.
        tls: folder of its certificates, see ``tls.py``; None for a server without.

    Raises:
        InvalidInput: ``listen`` is not HOST:PORT.
        FailedPrecondition: the port is in use, or not ours to take; certificates are missing.
    """
    host = check_address(listen)
    ours = _credentials(tls) if tls else None
    try:
        port = server.add_secure_port(listen, ours) if ours else server.add_insecure_port(listen)
    except RuntimeError as error:
        raise FailedPrecondition(
            f"{listen} cannot be bound; expected a free port of this machine. "
            "Stop what listens there, or choose another with --listen"
        ) from error
    return f"{host}:{port}"


def _credentials(tls: Path) -> grpc.ServerCredentials:
    from misgiving.runtime.net.tls import server_credentials  # loaded where it is needed

    return server_credentials(tls)


class _Malformed(grpc.aio.ServerInterceptor):
    """Left to itself, grpc.aio answers UNKNOWN and logs a traceback for each such request."""

    def __init__(self) -> None:
        self._guarded: dict[str, Any] = {}  # methods of our services: nothing is made for a call
        self._count = 0
        self._said = float("-inf")
        self._reading: set[asyncio.Task[None]] = set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        if (known := self._guarded.get(method)) is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        self._guarded[method] = made = self._guard(handler)
        return made

    def _guard(self, handler: Any) -> Any:
        kind = kind_of(handler)
        answer = getattr(handler, kind)
        guard = self._generator if inspect.isasyncgenfunction(answer) else self._coroutine
        return handler._replace(
            request_deserializer=_lenient(handler.request_deserializer),
            **{kind: guard(answer, self._each if handler.request_streaming else self._one)},
        )

    def _coroutine(self, answer: Any, checked: Any) -> Any:
        async def guarded(request: Any, context: Any) -> Any:
            try:
                return await answer(checked(request, context), context)
            except InvalidInput as error:
                await refuse(context, error)

        return guarded

    def _generator(self, answer: Any, checked: Any) -> Any:
        async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                async for response in answer(checked(request, context), context):
                    yield response
            except (InvalidInput, ResourceExhausted) as error:
                await refuse(context, error)

        return guarded

    async def _each(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            try:
                if its := held():
                    await its.keep()
                message = self._one(request, context)
            except MisgivingError:
                self._read_to_the_end(requests)
                raise
            yield message

    def _read_to_the_end(self, requests: AsyncIterator[Any]) -> None:
        """gRPC never frees a call of which a message was left unread; the refusal ends this."""
        self._reading.add(task := asyncio.create_task(_exhausted(requests)))
        task.add_done_callback(self._reading.discard)

    def _one(self, request: Any, context: Any) -> Any:
        if not isinstance(request, InvalidInput):
            return request
        self._count += 1
        if (now := time.monotonic()) - self._said > _QUIET_S:
            self._said = now
            log.warning("request no. %d that is no message, from %s", self._count, context.peer())
        raise request


async def _exhausted(requests: AsyncIterator[Any]) -> None:
    with contextlib.suppress(Exception):
        async for _ in requests:
            pass


def _lenient(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """The message, or, where there is none, the error that the call is to raise."""
    kind = deserialize.__self__.DESCRIPTOR  # type: ignore[attr-defined]

    def read(data: bytes) -> Any:
        if its := held():
            its.came(len(data))
        if fields.are_many(data, kind):
            return InvalidInput(
                f"{kind.name} has more than {fields.MAX_FIELDS:,} fields; expected one frame with "
                f"up to {MAX_REGIONS} regions. Send other frames in requests of their own"
            )
        try:
            return deserialize(data)
        except DecodeError:
            return InvalidInput(
                f"{len(data)} bytes are no message of this call; expected protobuf of its request. "
                "Generate the client from protos/"
            )

    return read
