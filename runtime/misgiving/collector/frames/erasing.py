"""Frames erased for good: what goes, in which order, and the proof that nothing is left.

The object goes before the rows. A process that ends in between leaves a row without an object,
which the next attempt finds again; the other way round, the object would get a row again when the
store is opened.
"""

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from misgiving.collector.frames.devices import DAY_NS
from misgiving.collector.frames.erased import Why, note_erased
from misgiving.collector.frames.selection import FrameSelection, count_frames, named, select_frames
from misgiving.collector.frames.words import spoken_size
from misgiving.collector.store import Store
from misgiving.collector.store.folding import fold
from misgiving.collector.store.tables import (
    BATCH_FRAMES,
    DECLINED,
    FRAMES,
    LABEL_SETS,
    LABELLED,
    MARKS,
    RELEASES,
    REPORTS,
    RUNS,
)
from misgiving.runtime.errors import FailedPrecondition

log = logging.getLogger(__name__)

_PAGE = 200


@dataclass(slots=True)
class Erased:
    """What is to be erased, or was."""

    frames: int = 0
    size_bytes: int = 0
    uploads: int = 0
    """Unfinished ones."""
    declined: int = 0
    """Notes of frames that were declined before their bytes travelled."""
    reports: int = 0
    """Rows of what devices said of themselves, where all of a device is erased."""
    devices: Counter[str] = field(default_factory=Counter)
    """Device → frames."""
    label_sets: Counter[str] = field(default_factory=Counter)
    """Version and path of each label set with labels made of the frames → how many of them."""
    batches: Counter[str] = field(default_factory=Counter)
    """Name of each export that holds copies of them → how many."""

    def __str__(self) -> str:
        devices = ", ".join(
            f"{name or '(no name)'} {n:,}" for name, n in self.devices.most_common(5)
        )
        more = len(self.devices) - 5
        of = f" of {devices}{f' and {more} devices more' if more > 0 else ''}" if devices else ""
        reports = f", {self.reports:,} rows of reports" if self.reports else ""
        return f"{self.frames:,} frames, {spoken_size(self.size_bytes)}{of}{reports}"

    @property
    def kept_elsewhere(self) -> list[str]:
        """A line for each label set and export that still has something of them."""
        return [
            f"label set {name} has labels made of {count:,} of them; delete it, or make it anew"
            for name, count in sorted(self.label_sets.items())
        ] + [
            f"export {name} has copies of {count:,} of them; delete its folder where it still is"
            for name, count in sorted(self.batches.items())
        ]


def to_be_erased(store: Store, selection: FrameSelection) -> Erased:
    """What :func:`erase` would erase now."""
    found, c = Erased(), FRAMES.c
    with store.database.connect(reads=True) as connection:
        found.frames, found.size_bytes = count_frames(connection, selection)
        of_device = sa.select(c.device_id, sa.func.count()).where(*selection.clauses())
        found.devices.update(dict(_pairs(connection, of_device.group_by(c.device_id))))
        digests = sa.select(c.digest).where(*selection.clauses())
        _add_elsewhere(connection, digests, found)
        if _is_whole_devices(selection):
            found.reports = sum(_count_reports(connection, selection.devices, time.time_ns()))
    return found


def erase(store: Store, selection: FrameSelection) -> Erased:
    """Erase the frames that arrived before now, with their marks, and every unfinished upload.

    An unfinished upload does not say whose it is; its vehicle sends it again. Where nothing but
    devices is asked for, what they reported goes too.

    Args:
        store: of the collector.
        selection: which frames.

    Raises:
        FailedPrecondition: something of them is left, because it came again meanwhile.
    """
    until, whole = time.time_ns(), _is_whole_devices(selection)
    if selection.until_ns is not None:
        until = min(until, selection.until_ns)
    selection = dataclasses.replace(selection, until_ns=until)
    erased = Erased()
    _erase_frames(store, erased, selection, Why.ASKED)
    with store.database.connect() as connection:
        _delete_for_good(connection)
        if (fit := _declined(selection)) is not None:
            erased.declined = connection.execute(sa.delete(DECLINED).where(*fit)).rowcount
        if whole:
            erased.reports = _erase_reports(connection, selection.devices, until)
    erased.uploads = store.drop_unfinished()
    fold(store.database)  # no sum has a name any more of which there is no frame
    store.database.forget()
    return erased


def erase_old(
    store: Store,
    before_ns: int,
    labelled_before_ns: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Erased:
    """Erase what arrived before a time, in Unix nanoseconds, and notes of what was declined then.

    Args:
        store: of the collector.
        before_ns: the time.
        labelled_before_ns: the time of frames with labels, not later; None for none of these.
        stopped: whether to leave the rest to another time.
    """
    erased = Erased()
    unlabelled = FrameSelection(until_ns=before_ns, unlabelled=True)
    _erase_frames(store, erased, unlabelled, Why.EXPIRED, stopped)
    if labelled_before_ns is not None:
        left = FrameSelection(until_ns=labelled_before_ns)
        _erase_frames(store, erased, left, Why.EXPIRED_LABELLED, stopped)
    with store.database.connect() as connection:
        _delete_for_good(connection)
        old = DECLINED.c.declined_time_unix_nano < before_ns
        erased.declined = connection.execute(sa.delete(DECLINED).where(old)).rowcount
    erased.uploads = store.drop_unfinished(before_ns)
    if erased.frames or erased.uploads or erased.declined:
        store.database.forget()
        log.info(
            "retention: %s, %d unfinished uploads and %d notes of declined frames are erased",
            *(erased, erased.uploads, erased.declined),
        )
    for line in erased.kept_elsewhere:
        log.warning("retention: %s", line)
    return erased


def _erase_frames(
    store: Store,
    erased: Erased,
    selection: FrameSelection,
    why: Why,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    while not stopped():
        with store.database.connect(reads=True) as connection:
            page = select_frames(connection, selection, limit=_PAGE)
            digests = [frame.digest for frame in page]
            _add_elsewhere(connection, digests, erased)
        if not page:
            break
        for frame in page:
            store.drop(frame.digest)
        with store.database.connect() as connection:
            gone = _delete_rows(connection, digests, why)
        erased.devices.update(device for device, _ in gone)
        erased.size_bytes += sum(size for _, size in gone)
        erased.frames += len(gone)
        _prove_empty(store, digests)


def _delete_rows(
    connection: sa.Connection, digests: Sequence[str], why: Why
) -> list[tuple[str, int]]:
    """Device and size of each frame that no other process has deleted meanwhile."""
    _delete_for_good(connection)
    for table in (MARKS, BATCH_FRAMES):
        connection.execute(sa.delete(table).where(table.c.digest.in_(digests)))
    c = FRAMES.c
    rows = sa.delete(FRAMES).where(c.digest.in_(digests)).returning(c.device_id, c.size_bytes)
    gone = [(device, size) for device, size in connection.execute(rows)]
    note_erased(connection, why, [size for _, size in gone], time.time_ns() // DAY_NS)
    return gone


def _delete_for_good(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":  # which would leave the bytes in its pages
        connection.exec_driver_sql("PRAGMA secure_delete = ON")


def _is_whole_devices(selection: FrameSelection) -> bool:
    """Whether all of some devices is meant."""
    return bool(selection.devices) and selection == FrameSelection(devices=selection.devices)


def _erase_reports(connection: sa.Connection, devices: Sequence[str], until_ns: int) -> int:
    """Erase what devices reported before a time, with what they acknowledged in it, and quotes.

    Raises:
        FailedPrecondition: some of it is left.
    """
    names = connection.scalars(sa.select(RUNS.c.device_id).where(*named(RUNS.c.device_id, devices)))
    for name in set(names):
        said = f" devices: {name} says: "  # why a release was halted
        anonymous = sa.func.replace(RELEASES.c.halted, said, " devices: an erased one says: ")
        quoting = RELEASES.c.halted.contains(said, autoescape=True)
        connection.execute(sa.update(RELEASES).where(quoting).values(halted=anonymous))
    erased = 0
    for table in (REPORTS, RUNS):
        gone = connection.execute(sa.delete(table).where(*_reported(table, devices, until_ns)))
        erased += gone.rowcount
    if left := sum(_count_reports(connection, devices, until_ns)):
        raise FailedPrecondition(f"{left} reports are left; expected none. Run it again")
    return erased


def _count_reports(
    connection: sa.Connection, devices: Sequence[str], until_ns: int
) -> Iterator[int]:
    for table in (REPORTS, RUNS):
        rows = sa.select(sa.func.count()).select_from(table)
        yield connection.scalar(rows.where(*_reported(table, devices, until_ns))) or 0


def _reported(
    table: sa.Table, devices: Sequence[str], until_ns: int
) -> list[sa.ColumnElement[bool]]:
    return [*named(table.c.device_id, devices), table.c.received_time_unix_nano < until_ns]


def _declined(selection: FrameSelection) -> list[sa.ColumnElement[bool]] | None:
    """What notes of declined frames must fulfil; None where these cannot be asked that."""
    others = FrameSelection(until_ns=selection.until_ns, since_ns=selection.since_ns)
    known = {name: getattr(selection, name) for name in ("devices", "streams", "campaigns")}
    if selection != dataclasses.replace(others, **known):
        return None
    c = DECLINED.c
    found = named(c.device_id, selection.devices) + named(c.stream_id, selection.streams)
    found += [c.campaign.in_(selection.campaigns)] if selection.campaigns else []
    found += [c.declined_time_unix_nano < selection.until_ns]
    if selection.since_ns is not None:
        found.append(c.declined_time_unix_nano >= selection.since_ns)
    return found


def _prove_empty(store: Store, digests: Sequence[str]) -> None:
    left = Counter({"objects": sum(map(store.holds, digests))})
    with store.database.connect(reads=True) as connection:
        for table in (MARKS, BATCH_FRAMES, FRAMES):
            rows = sa.select(sa.func.count()).where(table.c.digest.in_(digests))
            left[f"rows of {table.name}"] = connection.scalar(rows.select_from(table)) or 0
    if said := ", ".join(f"{count} {what}" for what, count in left.items() if count):
        raise FailedPrecondition(
            f"of {len(digests)} erased frames {said} are there; expected none. A vehicle has sent "
            "them again, or somebody has marked them: run it again"
        )


def _add_elsewhere(connection: sa.Connection, digests: Any, erased: Erased) -> None:
    """Count who else has something of frames, given by their digests or a query of these."""
    c = LABELLED.c
    named = sa.select(c.version, LABEL_SETS.c.path, sa.func.count())
    labels = named.outerjoin_from(LABELLED, LABEL_SETS, c.version == LABEL_SETS.c.version)
    labels = labels.where(c.digest.in_(digests)).group_by(c.version, LABEL_SETS.c.path)
    for version, path, count in connection.execute(labels):
        erased.label_sets[f"{version} ({path})" if path else version] += count
    batches = sa.select(BATCH_FRAMES.c.batch, sa.func.count())
    batches = batches.where(BATCH_FRAMES.c.digest.in_(digests)).group_by(BATCH_FRAMES.c.batch)
    erased.batches.update(dict(_pairs(connection, batches)))


def _pairs(connection: sa.Connection, query: sa.Select[Any]) -> list[tuple[str, int]]:
    return [(name, count) for name, count in connection.execute(query)]
