"""Bundles that are released to vehicles, in the store's database."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from misgiving.collector.control.control import Control
from misgiving.collector.control.revoking import Revoking
from misgiving.collector.control.rings import RINGS, in_ring, problem, why_halt
from misgiving.collector.store.database import Database
from misgiving.collector.store.tables import RELEASE_CHUNKS, RELEASES, RUNS
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.revocations import parse_revocations
from misgiving.runtime.bundles.trust import Trust
from misgiving.runtime.errors import DataError, FailedPrecondition, NotFound
from misgiving.runtime.wire.releases import Release
from misgiving.runtime.wire.reports import Report

CHUNK_BYTES = 1 << 20
KEPT = 3
"""Of the newest releases of a model, bytes are kept; of an older one while somebody may get it."""

_HOUR_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Announced:
    """A release, and how far it has come."""

    release: Release
    ring: int
    """Index into RINGS."""
    halted: str
    """Why nobody else gets it; empty while others do."""
    dropped: bool
    """Whether its bytes are deleted."""
    advance_after_hours: float | None
    """In a ring, after which it goes to the next by itself; None where that is done by hand."""


class Releases:
    """Bundles that are released to vehicles. May be called from any thread.

    Args:
        database: of the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._control = Control(database)

    def announce(
        self, path: Path, trust: Path, advance_after_hours: float | None = None
    ) -> Release:
        """Release a bundle to the first ring.

        Args:
            path: of its zip.
            trust: the keys that the vehicles trust.
            advance_after_hours: see :meth:`advance_due`; None to advance it by hand.

        Raises:
            BundleError: they would refuse it.
            DataError: it is a folder, or was announced before, or a later one was.
        """
        if path.is_dir():
            raise DataError(f"{path} is a folder; expected a zip. Pack it with 'misgiving pack'")
        bundle = Bundle.load(path, self._trust(trust))
        body, manifest = path.read_bytes(), bundle.manifest
        release = Release(
            digest=bundle.digest,
            name=manifest.name,
            version=manifest.version,
            release=manifest.release,
            size_bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
        )
        for one in self.announced():
            if one.release.name == release.name and one.release.release >= release.release:
                raise DataError(
                    f"release {one.release.release} of {release.name} is announced, and "
                    f"{path} is release {release.release}; expected a later one. Export it again"
                )
        now = time.time_ns()
        row = asdict(release) | {
            "announced_time_unix_nano": now,
            "ring": 0,
            "ring_time_unix_nano": now,
            "halted": "",
            "advance_after_hours": advance_after_hours,
        }
        with self._database.connect() as database:
            for at in range(0, len(body), CHUNK_BYTES):
                chunk = {"digest": release.digest, "offset_bytes": at}
                chunk |= {"chunk": body[at : at + CHUNK_BYTES]}
                database.execute(sa.insert(RELEASE_CHUNKS).values(chunk))
            database.execute(sa.insert(RELEASES).values(row))
        self._drop_old(release.name)
        return release

    def announced(self) -> list[Announced]:
        """All, the last one at the end."""
        query = sa.select(RELEASES).order_by(RELEASES.c.announced_time_unix_nano)
        with self._database.connect(reads=True) as database:
            return [
                Announced(
                    Release(
                        row.digest, row.name, row.version, row.release, row.size_bytes, row.sha256
                    ),
                    row.ring,
                    row.halted,
                    row.dropped,
                    row.advance_after_hours,
                )
                for row in database.execute(query)
            ]

    def release_of(self, device_id: str, name: str) -> Release | None:
        """What a device with a model of this name is to run: the last release that is not halted,
        and in whose ring it is.
        """
        fleet = self._devices(name)
        for one in reversed(self.announced()):
            its = one.release.name == name and not (one.halted or one.dropped)
            if its and in_ring(device_id, RINGS[one.ring], fleet):
                return one.release
        return None

    def read(self, digest: str, offset: int) -> Iterator[bytes]:
        """The bytes of a release from an offset on.

        Raises:
            NotFound: there is no such release, or its bytes are deleted.
        """
        at = offset - offset % CHUNK_BYTES
        query = sa.select(RELEASE_CHUNKS.c.chunk).where(RELEASE_CHUNKS.c.digest == digest)
        begun = False
        while True:
            with self._database.connect(reads=True) as database:
                chunk = database.scalar(query.where(RELEASE_CHUNKS.c.offset_bytes == at))
            if chunk is None:
                there = (one.release.digest for one in self.announced() if not one.dropped)
                if not begun and digest not in there:
                    raise NotFound(
                        f"{digest[:12]!r} is no release, or an old one; expected one that is given "
                        "to vehicles. Ask for that"
                    )
                return
            yield chunk[max(0, offset - at) :]
            begun, at = True, at + CHUNK_BYTES

    def advance(self, digest: str) -> float:
        """Give a release to the next ring; returns its share of the fleet.

        Raises:
            NotFound: there is no such release.
            FailedPrecondition: it is halted, or with all, or no device has proved it yet.
        """
        one = self._find(digest)
        release = one.release
        if one.halted:
            raise FailedPrecondition(
                f"release {release.version} of {release.name} is halted: {one.halted}; expected a "
                "sound one. Announce a later release"
            )
        if one.ring + 1 == len(RINGS):
            raise FailedPrecondition(f"all have release {release.version} of {release.name}")
        states = [one.release for one in self._reports() if one.release]
        if not any(x.digest == release.digest and x.state == "proved" for x in states):
            raise FailedPrecondition(
                f"no device has proved release {release.version} of {release.name} yet; expected "
                "one whose report says so. Wait, and see 'misgiving fleet release list'"
            )
        self._advance(one, time.time_ns())
        return RINGS[one.ring + 1]

    def advance_due(self, report: Report, now_ns: int) -> str:
        """Give a release to the next ring where it is to go there by itself; says so, else nothing.

        It goes once it has been in its ring for its hours, is not halted, and a device reports
        that it has proved it. Of several collectors one does so.

        Args:
            report: that has come.
            now_ns: Unix time.
        """
        state = report.release
        if not state or state.state != "proved" or problem(report, state.digest):
            return ""
        c = RELEASES.c
        due = sa.select(c.ring).where(c.digest == state.digest, c.ring < len(RINGS) - 1)
        due = due.where(c.advance_after_hours * _HOUR_NS <= now_ns - c.ring_time_unix_nano)
        with self._database.connect(reads=True) as database:
            ring = database.scalar(due)
        if ring is None:  # as of nearly every report
            return ""
        one = self._find(state.digest)
        if one.halted or one.ring != ring or not self._advance(one, now_ns):
            return ""
        share, release = RINGS[one.ring + 1], one.release
        return f"release {release.version} of {release.name} goes to {share:.0%} of the vehicles"

    def halt(self, digest: str, why: str) -> None:
        """Give a release to nobody else.

        Raises:
            NotFound: there is no such release.
        """
        self._change(self._find(digest).release.digest, halted=why)

    def judge(self, report: Report) -> str:
        """Halt a release where too many devices do without it; says why, else nothing.

        Args:
            report: that has come.
        """
        if not (state := report.release) or not problem(report, state.digest):
            return ""
        going = [x for x in self.announced() if x.release.digest == state.digest and not x.halted]
        if not going or not (why := why_halt(state.digest, self._reports())):
            return ""
        self._change(state.digest, halted=why)
        return f"release {going[0].release.version} of {going[0].release.name} is halted: {why}"

    def states(self, digest: str) -> dict[str, int]:
        """How many devices are how far with a release."""
        counts: dict[str, int] = {}
        for one in self._reports():
            if one.release and one.release.digest == digest:
                counts[one.release.state] = counts.get(one.release.state, 0) + 1
        return counts

    def _trust(self, path: Path) -> Trust:
        """What vehicles take that mind the last list of revocations."""
        trust = Trust.read(path)
        if (signed := Revoking(self._database).newest()) is None:
            return trust
        says = parse_revocations(signed.text, "the last list")
        return replace(trust, revoked=trust.revoked | says.revoked, floors=says.floors)

    def _devices(self, name: str) -> list[str]:
        """All that ever reported a model of this name."""
        query = sa.select(RUNS.c.device_id).where(RUNS.c.model == name).distinct()
        with self._database.connect(reads=True) as database:
            return list(database.scalars(query))

    def _reports(self) -> list[Report]:
        """The newest of each device."""
        return list({x.report.device_id: x.report for x in self._control.runs()}.values())

    def _find(self, digest: str) -> Announced:
        found = [
            one for one in self.announced() if digest and one.release.digest.startswith(digest)
        ]
        if len(found) != 1:
            raise NotFound(
                f"{len(found)} releases have a digest that begins with {digest!r}; expected one "
                "that 'misgiving fleet release list' shows. Name that"
            )
        return found[0]

    def _advance(self, one: Announced, now_ns: int) -> bool:
        """Whether it is this call that gave it to the next ring."""
        c, digest = RELEASES.c, one.release.digest
        still = sa.update(RELEASES).where(c.digest == digest, c.ring == one.ring, c.halted == "")
        with self._database.connect() as database:
            to_next = still.values(ring=one.ring + 1, ring_time_unix_nano=now_ns)
            advanced = database.execute(to_next).rowcount == 1
        self._drop_old(one.release.name)
        return advanced

    def _drop_old(self, name: str) -> None:
        """Delete the bytes of releases that nobody is given any more, but of the newest."""
        with_all = False
        for at, one in enumerate(x for x in reversed(self.announced()) if x.release.name == name):
            if at >= KEPT and not one.dropped and (with_all or one.halted):
                digest = one.release.digest
                with self._database.connect() as database:
                    of_digest = RELEASE_CHUNKS.c.digest == digest
                    database.execute(sa.delete(RELEASE_CHUNKS).where(of_digest))
                    its = RELEASES.c.digest == digest
                    database.execute(sa.update(RELEASES).where(its).values(dropped=True))
            with_all = with_all or (one.ring + 1 == len(RINGS) and not one.halted)

    def _change(self, digest: str, **values: Any) -> None:
        with self._database.connect() as database:
            of_digest = RELEASES.c.digest == digest
            database.execute(sa.update(RELEASES).where(of_digest).values(values))
