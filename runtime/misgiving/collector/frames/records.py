"""Frames as plain records, for ``--json`` and exports, and as a table for people."""

from collections.abc import Iterable, Sequence
from typing import Any

from misgiving.collector.frames.standing import Standing
from misgiving.collector.frames.words import spoken_size, spoken_time
from misgiving.collector.store.rows import StoredFrame
from misgiving.runtime.errors import printable
from misgiving.runtime.wire.collected import KeptFrame
from misgiving.runtime.wire.records import finite, person_record

_COLUMNS = ("DIGEST", "ARRIVED", "DEVICE", "STREAM", "REASON", "LOSS", "P(FAIL)", "STANDS")
_LONGEST = 32
"""Characters of a name in a table; JSON has the whole."""


def frame_record(row: StoredFrame, standing: Standing) -> dict[str, Any]:
    """A frame's row, and where the frame stands; what is not known is null."""
    return {
        "digest": row.digest,
        "frame_id": row.frame_id,
        "stream_id": row.stream_id,
        "device_id": row.device_id,
        "identity": row.identity,
        "captured": spoken_time(row.capture_time_unix_nano) or None,
        "arrived": spoken_time(row.received_time_unix_nano),
        "size_bytes": row.size_bytes,
        "image_digest": row.image_digest,
        "same_as": standing.same_as or None,
        "reason": row.reason,
        "campaign": row.campaign,
        "flagged": row.flagged,
        "predicted_loss": None if (loss := row.max_predicted_loss) is None else finite(loss),
        "failure_probability": row.failure_probability,
        "threshold": row.threshold,
        "sampling_probability": row.sampling_probability,
        "person_count": row.persons,
        "bundle_digest": row.bundle_digest,
        "engine": row.engine,
        "precision": row.precision,
        "software_version": row.software_version,
        "sealed_with": row.sealed_with,
        "stage": standing.stage.value,
        "mark": standing.mark or None,
        "batches": list(standing.batches),
        "label_sets": list(standing.label_sets),
    }


def person_records(frame: KeptFrame) -> list[dict[str, Any]]:
    """What was said of each person; a joint or signal without a name has its number."""
    return [
        person_record(
            person,
            _named(frame.keypoint_names, len(person.keypoints)),
            _named(frame.signal_names, len(person.signals)),
        )
        for person in frame.persons
    ]


def table(rows: Iterable[tuple[StoredFrame, Standing]]) -> list[str]:
    """Frames as lines for people, below their heading."""
    return aligned([_COLUMNS, *(_cells(row, standing) for row, standing in rows)])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of words as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def short(name: str) -> str:
    """A name in a table, whatever a client has chosen for one."""
    name = printable(name) or "-"
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def details(row: StoredFrame, standing: Standing, frame: KeptFrame) -> list[str]:
    """Everything about one frame but its marks, as lines for people."""
    said = {
        "frame": frame.frame.name,
        "device": _with(short(row.device_id), row.identity, "sent by"),
        "captured": spoken_time(row.capture_time_unix_nano) or "not known",
        "arrived": f"{spoken_time(row.received_time_unix_nano)}, {spoken_size(row.size_bytes)}",
        "picture": _with(row.image_digest or "not known", standing.same_as, "that of frame"),
        "kept for": _with(row.reason or "no reason", row.campaign, "campaign"),
        "sampling": "not known" if (p := row.sampling_probability) is None else f"{p:.3g}",
        "answered by": ", ".join(
            [f"bundle {row.bundle_digest[:12]}"]
            + [one for one in (row.engine, row.precision, row.software_version) if one]
        ),
        "stands": _stands(standing),
        "batches": ", ".join(standing.batches) or "none",
        "label sets": ", ".join(standing.label_sets) or "none",
    }
    lines = [row.digest, *(f"  {key:<12} {printable(text)}" for key, text in said.items())]
    return lines + [f"  person {n:<5} {_person(one)}" for n, one in enumerate(frame.persons)]


def _person(person: Any) -> str:
    said = f"predicted loss {person.predicted_loss:.3f}"
    if person.failure_probability is not None:
        said += f", P(failure) {person.failure_probability:.2f}"
    said += ", flagged" if person.flag.raised else ""
    region = person.region
    at = f"{region.width:.0f} x {region.height:.0f} px at ({region.x:.0f}, {region.y:.0f})"
    return f"{said}, {person.flag.code or 'undecided'}; {at}"


def _cells(row: StoredFrame, standing: Standing) -> tuple[str, ...]:
    loss, probability = row.max_predicted_loss, row.failure_probability
    return (
        row.digest[:12],
        spoken_time(row.received_time_unix_nano),
        short(row.device_id),
        short(row.stream_id),
        row.reason or "-",
        "-" if loss is None else f"{loss:.3f}",
        "-" if probability is None else f"{probability:.2f}",
        _stands(standing) + (f", picture of {standing.same_as[:12]}" if standing.same_as else ""),
    )


def _stands(standing: Standing) -> str:
    return _with(standing.stage.value, standing.mark, "marked")


def _with(said: str, more: str, how: str) -> str:
    return f"{said}, {how} {more}" if more else said


def _named(names: Sequence[str], count: int) -> Sequence[str]:
    return names if len(names) == count else [str(number) for number in range(count)]
