"""The verb ``status``: a running server in the words of a person, or as a record."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from misgiving.runtime.client import Client
from misgiving.runtime.nouns import ModelInfo
from misgiving.runtime.status import Quantiles, ServerStatus, ShadowStatus, SpoolStatus
from misgiving.runtime.telemetry.durations import BUCKETS_S
from misgiving.runtime.wire.records import finite


def status(server: str, as_json: bool = False, tls: Path | None = None) -> int:
    """Print how a server does; TLS as :class:`~misgiving.runtime.Client` takes it.

    Returns:
        The exit code: 0 only where it answers frames.

    Raises:
        FailedPrecondition: nobody answers there.
    """
    with Client(server, wait_s=0, tls=tls) as client:
        said = client.status()
    print(json.dumps(status_record(said)) if as_json else "\n".join(lines(said)))
    return 0 if said.serving else 1


def status_record(said: ServerStatus) -> dict[str, object]:
    """A status as a plain record, without what clients of the model need."""
    record = asdict(said)
    if said.model:
        record["model"] = {
            "name": said.model.name,
            "version": said.model.version,
            "bundle_digest": said.model.bundle_digest,
            "engine": said.model.engine,
            "threshold": finite(said.model.threshold),
            "audit_rate": said.model.audit_rate,
        }
    return record


def lines(said: ServerStatus) -> Iterator[str]:
    """A line for each thing that somebody may ask."""
    yield _line("health", "serving" if said.serving else "NOT SERVING")
    if said.model:
        yield from _of_model(said.model)
    if said.last_exchange:
        yield _line("exchange", said.last_exchange)
    yield _line("up", duration(said.uptime_s))
    rate = said.answered / said.uptime_s if said.uptime_s else 0.0
    yield _line(
        "frames",
        f"{said.answered:,} answered, {rate:.3g} per second",
        f"{said.dropped:,} of {said.received:,} dropped{_share(said.dropped, said.received)}",
        f"{said.failed:,} failed{_share(said.failed, said.received)}",
        f"{said.kept:,} to be kept",
    )
    yield _line(
        "persons",
        f"{said.persons:,}",
        f"{said.flagged:,} flagged{_share(said.flagged, said.persons)}",
    )
    if said.drifting:
        yield _line("drift", "predicted losses have left the bundle's reference")
    yield _line("age", _quantiles(said.age, "from capture to answer"))
    yield _line("answered in", _quantiles(said.server_age, "from receipt to answer"))
    yield _line("queue", _quantiles(said.queue, "from receipt to inference"))
    yield _line("inference", _quantiles(said.inference, "all looks at a frame"))
    yield _line("spool", *(_of_spool(said.spool) if said.spool else ["nothing is collected"]))
    if said.shadow:
        yield _line("shadow", *_of_shadow(said.shadow))


def _of_model(model: ModelInfo) -> Iterator[str]:
    yield _line("model", f"{model.name} {model.version}", f"bundle {model.bundle_digest[:12]}")
    yield _line("engine", model.engine)
    yield _line("flags", f"from predicted_loss {model.threshold:.4g} on")


def _of_spool(spool: SpoolStatus) -> Iterator[str]:
    oldest = f", the oldest for {duration(spool.oldest_age_s)}" if spool.pending else ""
    yield f"{spool.pending:,} pending{oldest}"
    yield size(spool.size_bytes)
    yield f"{spool.uploaded:,} uploaded ({size(spool.uploaded_bytes)})"
    yield f"{spool.lost:,} lost, {spool.evicted:,} evicted, {spool.refused:,} refused"


def _of_shadow(shadow: ShadowStatus) -> Iterator[str]:
    yield f"{shadow.compared:,} compared, {shadow.busy:,} left out, {shadow.failed:,} failed"
    yield f"it disagrees on {shadow.disagreed:,} of {shadow.persons:,} persons" + _share(
        shadow.disagreed, shadow.persons
    )


def _line(name: str, *facts: str) -> str:
    return f"{name:<12}{'; '.join(facts)}"


def _share(part: int, whole: int) -> str:
    return f" ({100 * part / whole:.3g} %)" if part else ""


def _quantiles(one: Quantiles, what: str) -> str:
    if not one.count:
        return f"not measured yet, {what}"
    return f"p50 {_within(one.p50_s)}, p99 {_within(one.p99_s)}, {what}"


def _within(seconds: float) -> str:
    """A quantile, to two digits; one beyond the histogram's ends is only known to be there."""
    if seconds <= BUCKETS_S[0]:
        return f"below {duration(BUCKETS_S[0])}"
    if seconds >= BUCKETS_S[-1]:
        return f"above {duration(BUCKETS_S[-1])}"
    return duration(float(f"{seconds:.2g}"))


def duration(seconds: float) -> str:
    """For example ``12 ms``, ``3.2 s``, ``5 min``, ``7 h 12 min``, ``3 d 4 h``."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
