"""How a server does, in numbers; :class:`ServerStatus` is all of it."""

from dataclasses import dataclass

from misgiving.runtime.nouns import ModelInfo


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of durations since a server's start; see :class:`ServerStatus`."""

    count: int
    p50_s: float
    """In seconds, as the next; 0 where nothing was measured."""
    p99_s: float


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """What waits on the vehicle for its upload, in frames; see :class:`ServerStatus`."""

    pending: int
    refused: int
    """Kept, but the collector does not want them."""
    size_bytes: int
    """Of those pending and refused."""
    oldest_age_s: float
    """Since the oldest pending one was stored."""
    lost: int
    """To be kept, and never stored."""
    evicted: int
    """Deleted to keep the quota."""
    uploaded: int
    uploaded_bytes: int


@dataclass(frozen=True, slots=True)
class ShadowStatus:
    """What a second bundle, which answers silently, has looked at; see :class:`ServerStatus`."""

    compared: int
    """Frames that it has answered too."""
    busy: int
    """Frames that were drawn for it while it had no room."""
    failed: int
    """Frames that it could not answer."""
    persons: int
    """That were compared."""
    disagreed: int
    """Of these, persons on whom the two disagree."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """How a server does; counts are since its start.

    >>> with Client("127.0.0.1:50051") as client:
    ...     status = client.status()
    >>> status.serving, status.model.name, status.failed
    (True, 'lite-lsp', 0)
    """

    serving: bool
    """A model is loaded, and the server does not end."""
    uptime_s: float
    model: ModelInfo | None
    """None while none is loaded."""
    received: int
    """Frames: answered + dropped + failed + those under way."""
    answered: int
    dropped: int
    failed: int
    persons: int
    flagged: int
    """Persons whose score flags them."""
    kept: int
    """Frames to be kept."""
    age: Quantiles
    """From capture to answer, of the frames whose capture time is known."""
    server_age: Quantiles
    """From receipt to answer."""
    queue: Quantiles
    """From receipt to the start of inference."""
    inference: Quantiles
    shadow: ShadowStatus | None
    """None where no shadow was asked for."""
    spool: SpoolStatus | None
    """None where nothing is collected."""
    last_exchange: str = ""
    """What became of the last bundle that came while the server ran."""
    drifting: bool = False
    """Live scores are not distributed as the bundle's reference has them."""
