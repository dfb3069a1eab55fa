"""A server's status as a message, and back."""

from dataclasses import asdict, fields

from misgiving.runtime.status import Quantiles, ServerStatus, ShadowStatus, SpoolStatus
from misgiving.runtime.wire.results import to_info, to_model
from misgiving.v1 import detector_pb2 as wire


def to_status_message(status: ServerStatus) -> wire.Status:
    """For a client."""
    return wire.Status(
        serving=status.serving,
        uptime_nano=_nano(status.uptime_s),
        model=to_model(status.model) if status.model else None,
        frames_received=status.received,
        frames_answered=status.answered,
        frames_dropped=status.dropped,
        frames_failed=status.failed,
        persons=status.persons,
        persons_flagged=status.flagged,
        frames_kept=status.kept,
        age=_of_quantiles(status.age),
        server_age=_of_quantiles(status.server_age),
        queue=_of_quantiles(status.queue),
        inference=_of_quantiles(status.inference),
        shadow=wire.Shadow(**asdict(status.shadow)) if status.shadow else None,
        spool=to_spool_message(status.spool) if status.spool else None,
        last_exchange=status.last_exchange,
        drifting=status.drifting,
    )


def to_status(message: wire.Status) -> ServerStatus:
    """What a message holds."""
    return ServerStatus(
        serving=message.serving,
        uptime_s=message.uptime_nano / 1e9,
        model=to_info(message.model) if message.HasField("model") else None,
        received=message.frames_received,
        answered=message.frames_answered,
        dropped=message.frames_dropped,
        failed=message.frames_failed,
        persons=message.persons,
        flagged=message.persons_flagged,
        kept=message.frames_kept,
        age=_to_quantiles(message.age),
        server_age=_to_quantiles(message.server_age),
        queue=_to_quantiles(message.queue),
        inference=_to_quantiles(message.inference),
        shadow=_to_shadow(message.shadow) if message.HasField("shadow") else None,
        spool=to_spool(message.spool) if message.HasField("spool") else None,
        last_exchange=message.last_exchange,
        drifting=message.drifting,
    )


def _of_quantiles(one: Quantiles) -> wire.Quantiles:
    return wire.Quantiles(count=one.count, p50_seconds=one.p50_s, p99_seconds=one.p99_s)


def _to_quantiles(message: wire.Quantiles) -> Quantiles:
    return Quantiles(message.count, message.p50_seconds, message.p99_seconds)


_SAME = [field.name for field in fields(SpoolStatus) if field.name != "oldest_age_s"]


def to_spool_message(spool: SpoolStatus) -> wire.Spool:
    """For whoever asks how a vehicle does."""
    counts = {name: getattr(spool, name) for name in _SAME}
    return wire.Spool(oldest_age_nano=_nano(spool.oldest_age_s), **counts)


def to_spool(message: wire.Spool) -> SpoolStatus:
    """What a message holds."""
    counts = {name: getattr(message, name) for name in _SAME}
    return SpoolStatus(oldest_age_s=message.oldest_age_nano / 1e9, **counts)


def _to_shadow(message: wire.Shadow) -> ShadowStatus:
    return ShadowStatus(**{one.name: getattr(message, one.name) for one in fields(ShadowStatus)})


def _nano(seconds: float) -> int:
    return round(seconds * 1e9)
