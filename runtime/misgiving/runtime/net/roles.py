"""Who may call what: the names in a client's certificate, and the roles that they have.

Decided before a method is entered. Health and reflection are open to all who come through the
handshake; services whose name ends in Admin need the role admin, and all others infer.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import grpc
import grpc.aio

Role = Literal["infer", "admin"]

_OPEN = ("/grpc.health.", "/grpc.reflection.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Roles:
    """Names of certificates, DNS or URI, that have each role; one that ends in ``*`` stands for
    all that begin so.
    """

    infer: tuple[str, ...] | None = None
    """None for everybody who comes through the handshake."""
    admin: tuple[str, ...] = ()
    """These may infer as well."""

    def restrict(self, method: str) -> bool:
        """Whether anybody is refused there."""
        role = _role(method)
        return role == "admin" or (role == "infer" and self.infer is not None)

    def refusal(self, method: str, names: tuple[str, ...]) -> tuple[grpc.StatusCode, str] | None:
        """Status and message for a call that may not be made, else None.

        Args:
            method: /SERVICE/METHOD.
            names: of the caller's certificate.
        """
        role = _role(method)
        if not self.restrict(method):
            return None
        having = self.admin if role == "admin" else (*(self.infer or ()), *self.admin)
        if any(fits(entry, name) for entry in having for name in names):
            return None
        if not names:
            return (
                grpc.StatusCode.UNAUTHENTICATED,
                f"the caller of {method} has no name; expected a certificate with a DNS or URI "
                f"name in its SAN that has the role {role}. Send one",
            )
        return (
            grpc.StatusCode.PERMISSION_DENIED,
            f"{', '.join(names[:3])} may not call {method}; expected a name with the role {role}. "
            f"Add it to {role} in the [tls] settings of the server",
        )


class RoleCheck(grpc.aio.ServerInterceptor):
    """Ends calls that their caller may not make."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        self._checked: dict[str, Any] = {}  # nothing is made for a call

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        if (known := self._checked.get(method)) is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is not None and self._roles.restrict(method):
            handler = self._guard(handler, method)
        if handler is not None:
            self._checked[method] = handler
        return handler

    def _guard(self, handler: Any, method: str) -> Any:
        kind = kind_of(handler)
        answer = getattr(handler, kind)
        guard = self._generator if inspect.isasyncgenfunction(answer) else self._coroutine
        return handler._replace(**{kind: guard(answer, method)})

    def _coroutine(self, answer: Any, method: str) -> Any:
        async def guarded(request: Any, context: Any) -> Any:
            await self._check(method, context)
            return await answer(request, context)

        return guarded

    def _generator(self, answer: Any, method: str) -> Any:
        async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
            await self._check(method, context)
            async for response in answer(request, context):
                yield response

        return guarded

    async def _check(self, method: str, context: Any) -> None:
        if refused := self._roles.refusal(method, names_of(context.auth_context())):
            await context.abort(*refused)


def names_of(peer: Mapping[str, Iterable[bytes]]) -> tuple[str, ...]:
    """The DNS and URI names of a certificate that gRPC has verified."""
    found = (*peer.get("peer_uri", ()), *peer.get("peer_dns", ()))
    return tuple(name.decode(errors="replace") for name in found)


def kind_of(handler: Any) -> str:
    """The field of a handler that answers."""
    kind = "stream" if handler.request_streaming else "unary"
    return kind + ("_stream" if handler.response_streaming else "_unary")


def _role(method: str) -> Role | None:
    if method.startswith(_OPEN):
        return None
    return "admin" if method.rpartition("/")[0].endswith("Admin") else "infer"


def fits(entry: str, name: str) -> bool:
    """Whether an entry stands for a name; one that ends in ``*`` does for all that begin so."""
    if entry.endswith("*"):
        return name.startswith(entry[:-1])
    return name == entry
