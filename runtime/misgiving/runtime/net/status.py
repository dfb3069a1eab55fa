"""The one place where an exception becomes a gRPC status and a message."""

import logging
from typing import Any, NoReturn

import grpc

from misgiving.runtime.errors import MisgivingError, ResourceExhausted

log = logging.getLogger(__name__)

_LONGEST = 600
"""Characters of a message. Percent-encoded as 12 each they still are in the 8 KiB of trailing
metadata that clients take; only what a client has sent makes more."""


async def refuse(context: Any, error: Exception) -> NoReturn:
    """End a call with the status of an error, and say when to try again where time helps."""
    await context.abort(*status_of(error), retry_hint(error))
    raise AssertionError("abort raises")


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Status and message; what we did not raise on purpose is logged, and not told."""
    if isinstance(error, MisgivingError):
        said = str(error)
        return grpc.StatusCode[error.status], _cut(said) if len(said) > _LONGEST else said
    log.error("unexpected error", exc_info=error)
    return (
        grpc.StatusCode.INTERNAL,
        f"unexpected {type(error).__name__}; the server goes on and has logged where it happened",
    )


def _cut(said: str) -> str:
    """The beginning says what is wrong, the end what to do."""
    half = _LONGEST // 2 - 1
    return f"{said[:half]}…{said[-half:]}"


def retry_hint(error: Exception) -> tuple[tuple[str, str], ...]:
    """Trailing metadata that says when to try again, where time helps.

    The name is gRPC's own: its clients wait as long where they are configured to retry.
    """
    if not isinstance(error, ResourceExhausted) or error.retry_after_ms is None:
        return ()
    return (("grpc-retry-pushback-ms", str(error.retry_after_ms)),)
