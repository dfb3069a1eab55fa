"""The one place where an exception becomes a gRPC status and a message."""

import logging

import grpc

from misgiving.runtime.errors import MisgivingError

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
