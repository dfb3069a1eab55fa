"""The one place where an exception becomes a gRPC status and a message."""

import logging

import grpc

from misgiving.runtime.errors import MisgivingError, ResourceExhausted

log = logging.getLogger(__name__)


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Status and message; what we did not raise on purpose is logged, and not told."""
    if isinstance(error, MisgivingError):
        return grpc.StatusCode[error.status], str(error)
    log.error("unexpected error", exc_info=error)
    return (
        grpc.StatusCode.INTERNAL,
        f"unexpected {type(error).__name__}; the server goes on and has logged where it happened",
    )


def retry_hint(error: Exception) -> tuple[tuple[str, str], ...]:
    """Trailing metadata that says when to try again, where time helps.

    The name is gRPC's own: its clients wait as long where they are configured to retry.
    """
    if not isinstance(error, ResourceExhausted) or error.retry_after_ms is None:
        return ()
    return (("grpc-retry-pushback-ms", str(error.retry_after_ms)),)
