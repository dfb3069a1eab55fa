"""Durable store-and-forward on the vehicle: what is stored stays until the fleet side has it.

:meth:`Spool.offer` only puts a frame into a bounded queue; one thread serialises the frames, seals
them where it is to, and commits what has come meanwhile at once. A frame is *stored* once its
commit has returned from fsync, and not before. Pending and refused frames survive a restart; the
counters start again at zero.
"""

import hashlib
import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from misgiving.runtime.durable import Places
from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.flags.budgets import DAY
from misgiving.runtime.flags.streams import NEAR_DUPLICATE
from misgiving.runtime.outbox.counts import SINCE_START, SpoolCounts
from misgiving.runtime.outbox.records import DATABASE, Record, Records
from misgiving.runtime.outbox.value import (
    Entry,
    Likeness,
    check_fits,
    choose_victims,
    is_twin,
    reason_of,
    score_of,
    too_old,
)
from misgiving.runtime.wire.collected import KeptFrame, to_message
from misgiving.runtime.wire.offers import header_of
from misgiving.runtime.wire.sealing import FRAME, HEADER, seal

log = logging.getLogger(__name__)

COMMIT_S = 1.0
"""How long frames are got ready for one commit at most; the last of them may take longer."""

_LOOK_S = 60.0
"""Between two looks at what is too old, where no frame comes."""


class Spool:
    """A folder of frames on their way to the fleet side.

    Args:
        folder: made where it is missing; belongs to one process at a time.
        quota_bytes: of stored frames; beyond it the least valuable go, see ``value.py``.
        max_age_s: stored frames that are older go; None for no limit.
        seal_to: the fleet's public key, for which frames are sealed; None seals none.
        near_duplicate: cosine distance of embeddings up to which a frame is nearly the same as
            another, and worth less; None compares none.
        queue_size: frames that wait for the disk; beyond it they are lost.
        queue_bytes: of these frames together; a stalled disk must not take the memory.

    Raises:
        FailedPrecondition: the folder cannot be opened, or another process has it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        quota_bytes: int = 1 << 30,
        max_age_s: float | None = None,
        seal_to: X25519PublicKey | None = None,
        near_duplicate: float | None = NEAR_DUPLICATE,
        queue_size: int = 64,
        queue_bytes: int = 256 << 20,
    ) -> None:
        self.arrived = threading.Event()
        """Set whenever a frame has been stored; the one uploader clears it."""
        self._quota_bytes = quota_bytes
        self._max_age_s = max_age_s
        self._seal_to = seal_to
        self._likeness = Likeness(near_duplicate)
        self._queue: queue.SimpleQueue[KeptFrame | None] = queue.SimpleQueue()
        self._queue_size = queue_size
        self._queue_bytes = queue_bytes
        self._queued_bytes = 0
        self._queued_s = deque[float]()  # when those were offered that are not on disk
        self._turned_away = 0  # for want of room in the queue, since it was last empty
        self._losses = 0  # in a row
        self._counts: Counter[str] = Counter()
        self._state = threading.Lock()  # counters and entries; never held during disk I/O
        self._closed = False
        self._records = Records(folder)
        self._places = Places([folder], [folder / DATABASE])
        self._entries = self._records.entries(time.time(), time.monotonic())
        if seal_to and (plain := sum(bool(entry.content) for entry in self._entries.values())):
            log.warning(
                "%s: %d frames are not sealed, and stay so: they came before", folder, plain
            )
        self._writer = threading.Thread(target=self._write, name="spool", daemon=True)
        self._writer.start()

    def offer(self, frame: KeptFrame) -> bool:
        """Hand over a frame, whose image must not be changed from then on; never blocks.

        Returns:
            False where the frame is lost: the queue is full, or the spool closed.
        """
        with self._state:
            self._counts["offered"] += 1
            if taken := not self._closed and self._has_room(frame.size):
                self._queued_bytes += frame.size
                self._queued_s.append(time.monotonic())
                self._queue.put(frame)
            else:
                self._counts["lost"] += 1
                self._turned_away += 1
            first = self._turned_away == 1
        if first and not taken:
            why = "the spool is closed" if self._closed else "too many wait for the disk"
            log.warning("frame %s is lost: %s", frame.frame.name, why, extra=frame.frame.ids)
        return taken

    def pending(self) -> list[str]:
        """Digests of the frames to be uploaded, oldest first."""
        return list(self.entries())

    def entries(self) -> dict[str, Entry]:
        """The frames to be uploaded by digest, oldest first."""
        with self._state:
            return {digest: one for digest, one in self._entries.items() if not one.refused}

    def read(self, digest: str) -> bytes:
        """The serialised frame, sealed where it is.

        Raises:
            KeyError: it is not, or no longer, in the spool.
        """
        return self._records.body(digest)

    def header(self, digest: str) -> bytes:
        """The FrameHeader of a frame, sealed where that is; empty where there is none.

        Raises:
            KeyError: the frame is not, or no longer, in the spool.
        """
        return self._records.header(digest)

    def remove(self, *digests: str) -> None:
        """Forget frames that the collector has acknowledged, in one commit."""
        self._forget(digests, "uploaded")

    def decline(self, digest: str, why: str) -> None:
        """Forget a frame that the collector has written down as not wanted."""
        for entry in self._forget([digest], "declined"):
            log.warning("frame %s (%s) is declined by the collector: %s", entry.name, digest, why)

    def refuse(self, digest: str, why: str) -> None:
        """Move a frame aside which the collector will never take; it stays on disk."""
        with self._records.lock:
            self._records.refuse(digest, why)
            with self._state:
                if (entry := self._entries.get(digest)) is None:
                    return
                self._entries[digest] = replace(entry, refused=True)
        log.warning("frame %s (%s) is refused by the collector: %s", entry.name, digest, why)

    def counts(self) -> SpoolCounts:
        """The counters of this moment, without disk I/O."""
        now = time.monotonic()
        with self._state:
            entries = list(self._entries.values())
            since_start = {name: self._counts[name] for name in SINCE_START}
            queued, oldest_s = len(self._queued_s), min(self._queued_s, default=now)
        pending = [entry for entry in entries if not entry.refused]
        known = bool(pending and pending[0].stored_at)
        return SpoolCounts(
            **since_start,
            pending=len(pending),
            refused=len(entries) - len(pending),
            bytes=sum(entry.size for entry in entries),
            oldest_age_s=now - pending[0].since_s if known else 0.0,
            queued=queued,
            queued_age_s=now - oldest_s,
        )

    def close(self) -> None:
        """Store what is queued, then let go of the folder."""
        with self._state:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        self._writer.join()
        self._records.close()
        self._places.close()

    def _has_room(self, size: int) -> bool:
        fits = self._queued_bytes + size <= self._queue_bytes
        return fits and len(self._queued_s) < self._queue_size

    def _write(self) -> None:
        going_on = True
        self._expire()
        while going_on:
            frames, ready, going_on = self._gather()
            self._expire()
            self._store_together(ready)
            self._done(frames)

    def _gather(self) -> tuple[list[KeptFrame], list["_Ready"], bool]:
        """Frames for one commit, and those of them that are ready for it; False at the end."""
        frames: list[KeptFrame] = []
        ready: list[_Ready] = []
        try:
            frame = self._queue.get(timeout=_LOOK_S)
            end = time.monotonic() + COMMIT_S
            while frame is not None:
                frames.append(frame)
                try:
                    ready.append(self._made_ready(frame))
                except Exception as error:  # whatever it is, the next frame gets its chance
                    self._lose(frame, error)
                if time.monotonic() >= end:
                    break
                frame = self._queue.get_nowait()
        except queue.Empty:
            return frames, ready, True
        return frames, ready, frame is not None

    def _made_ready(self, frame: KeptFrame) -> "_Ready":
        message = to_message(frame)
        body, header = message.SerializeToString(deterministic=True), header_of(message)
        digest = content = hashlib.sha256(body).hexdigest()
        if self._seal_to:
            body, header = seal(body, self._seal_to, FRAME), seal(header, self._seal_to, HEADER)
            digest = hashlib.sha256(body).hexdigest()
        entry = Entry(
            frame.frame.name,
            len(body),
            stored_at=time.time(),
            since_s=time.monotonic(),
            score=score_of(frame),
            reason=reason_of(frame),
            content=content,
        )
        check_fits(entry.size, self._quota_bytes)
        return _Ready(frame, Record(digest, entry, body, header, self._seal_to is not None))

    def _store_together(self, ready: Sequence["_Ready"]) -> None:
        """Store them all, or each that can be where that fails: a disk may have room for some."""
        try:
            if ready:
                self._store(ready)
        except Exception as error:  # whatever it is, the next frame gets its chance
            self._likeness.forget([one.record.digest for one in ready])
            if len(ready) == 1:
                self._lose(ready[0].frame, error)
                return
            for one in ready:
                self._store_together([one])

    def _store(self, ready: Sequence["_Ready"]) -> None:
        self._check_places()
        with self._records.lock:  # held by whoever changes the entries
            entries, new, twins = self._with_twins(ready)
            victims = choose_victims(entries, self._quota_bytes)
            gone = set(victims)
            self._records.change([x for x in new if x.digest not in gone], victims, twins)
            with self._state:
                self._entries = entries
                self._counts["stored"] += len(ready)
                evicted = self._evicted(victims)
        for victim in evicted:
            log.warning("frame %s is evicted: the spool's quota is full", victim.name)
        if self._losses > 1:
            log.warning("the spool stores again; %d frames in a row are lost", self._losses)
        self._losses = 0
        self.arrived.set()

    def _with_twins(
        self, ready: Sequence["_Ready"]
    ) -> tuple[dict[str, Entry], list[Record], list[str]]:
        """All entries with those of new frames; these; which of the others one resembles."""
        entries, new, twins = dict(self._entries), list[Record](), list[str]()
        known = {entry.content for entry in entries.values()}
        for frame, record in ((one.frame, one.record) for one in ready):
            entry = record.entry
            if entry.content in known:
                continue
            known.add(entry.content)
            alike = None if entry.audit else self._likeness.nearest(frame)
            if alike and is_twin(entry, entries.get(alike)):
                entry = replace(entry, twin=True)
            elif alike:
                entries[alike] = replace(entries[alike], twin=True)
                twins.append(alike)
            self._likeness.remember(record.digest, frame)
            entries[record.digest] = entry
            new.append(replace(record, entry=entry))
        return entries, new, twins

    def _expire(self) -> None:
        """Let go of what is too old."""
        if self._max_age_s is None:
            return
        try:
            with self._records.lock:
                gone = too_old(self._entries, time.monotonic(), self._max_age_s)
                if gone:
                    self._records.change([], gone, [])
                with self._state:
                    evicted = self._evicted(gone)
                    self._counts["expired"] += len(gone)
        except FailedPrecondition as error:
            log.warning("frames that are too old stay: %s", error)
            return
        for victim in evicted:
            days = self._max_age_s / DAY
            log.warning("frame %s is evicted: it is older than %g days", victim.name, days)

    def _evicted(self, victims: list[str]) -> list[Entry]:
        self._counts["evicted"] += len(victims)
        self._likeness.forget(victims)
        return [self._entries.pop(victim) for victim in victims]

    def _forget(self, digests: Sequence[str], counted: str) -> list[Entry]:
        """Those of them that were there."""
        with self._records.lock:
            self._records.change([], digests, [])
            with self._state:
                gone = [self._entries.pop(one) for one in digests if one in self._entries]
                self._counts[counted] += len(gone)
                self._counts[f"{counted}_bytes"] += sum(entry.size for entry in gone)
        return gone

    def _check_places(self) -> None:
        """What goes into a file that has lost its name would be gone with this process."""
        if replaced := self._places.replaced():
            raise FailedPrecondition(
                f"{replaced} is gone, or another one than was opened; expected the spool to stay. "
                "Start the server again"
            )

    def _lose(self, frame: KeptFrame, error: Exception) -> None:
        """Of losses in a row the first is told: a full disk would fill the log, too."""
        with self._state:
            self._counts["lost"] += 1
        self._losses += 1
        level = logging.WARNING if self._losses == 1 else logging.DEBUG
        log.log(level, "frame %s is lost: %s", frame.frame.name, error, extra=frame.frame.ids)

    def _done(self, frames: Sequence[KeptFrame]) -> None:
        """These are no longer in memory."""
        with self._state:
            self._queued_bytes -= sum(frame.size for frame in frames)
            for _ in frames:
                self._queued_s.popleft()
            turned_away = 0 if self._queued_s else self._turned_away
            self._turned_away -= turned_away
        if turned_away:
            log.warning("the spool has room again; %d frames are lost", turned_away)


@dataclass(frozen=True, slots=True)
class _Ready:
    frame: KeptFrame
    record: Record
