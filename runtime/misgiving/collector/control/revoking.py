"""Lists of revocations that are handed out to vehicles, in the store's database."""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from misgiving.collector.control.control import Control, insert_once
from misgiving.collector.store.database import Database
from misgiving.collector.store.tables import RELEASES, REVOCATIONS
from misgiving.runtime.bundles.revocations import (
    Revocations,
    SignedList,
    check_revocations,
    parse_revocations,
)
from misgiving.runtime.bundles.trust import Trust
from misgiving.runtime.errors import DataError


@dataclass(frozen=True, slots=True)
class Said:
    """How many vehicles do what with a list."""

    minded: int
    refused: Counter[str]
    """By reason."""
    answering: int
    """With a bundle that it names, until they start again or get another one."""


class Revoking:
    """What vehicles are to take no longer. May be called from any thread.

    Args:
        database: of the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def announce(self, path: Path, trust: Path) -> tuple[SignedList, Revocations]:
        """Hand a list out to all vehicles; one that was announced before is handed out again.

        Releases of which it says that vehicles take them no longer are halted.

        Args:
            path: of the list; its signatures are in ``PATH.sig``.
            trust: the keys that the vehicles trust.

        Raises:
            BundleError, FailedPrecondition: they would refuse it.
            DataError: an earlier one says something that it lacks.
        """
        signed = SignedList.read(path)
        says = check_revocations(signed, Trust.read(trust), path)
        newest = self.newest()
        if newest and (lacking := says.lacks(parse_revocations(newest.text, "the last list"))):
            raise DataError(
                f"{path} lacks {lacking[0]}, which was announced before; expected all of that too: "
                "nothing is ever taken back from a list. Add it, and sign it again"
            )
        now = time.time_ns()
        with self._database.connect() as database:
            its = REVOCATIONS.c.sha256 == signed.sha256
            row = {"announced_time_unix_nano": now, "signatures": signed.signatures}
            whole = row | {"sha256": signed.sha256, "list": signed.text}
            database.execute(insert_once(database, REVOCATIONS, whole))
            database.execute(sa.update(REVOCATIONS).where(its).values(row))
            revoked: list[sa.ColumnElement[bool]] = [RELEASES.c.digest.in_(says.revoked)]
            for name, release in says.floors.items():
                revoked.append(sa.and_(RELEASES.c.name == name, RELEASES.c.release < release))
            going = sa.update(RELEASES).where(RELEASES.c.halted == "", sa.or_(*revoked))
            database.execute(going.values(halted="revoked"))
        return signed, says

    def newest(self, known_sha256: str = "") -> SignedList | None:
        """The last list; None where there is none, or it is known."""
        time_ = REVOCATIONS.c.announced_time_unix_nano
        with self._database.connect(reads=True) as database:
            row = database.execute(sa.select(REVOCATIONS).order_by(time_.desc()).limit(1)).first()
        if row is None or row.sha256 == known_sha256:
            return None
        return SignedList(row.list, row.signatures)

    def said(self, signed: SignedList) -> Said:
        """What the newest report of each vehicle says of a list."""
        last = {run.report.device_id: run.report for run in Control(self._database).runs()}
        states = [one.revocations for one in last.values() if one.revocations]
        states = [state for state in states if state.sha256 == signed.sha256]
        refused = Counter(state.refusal for state in states if state.refusal)
        words = parse_revocations(signed.text, "the list").revoked
        running = [one.running for one in last.values() if one.running]
        return Said(
            minded=sum(not state.refusal for state in states),
            refused=refused,
            answering=sum(one.bundle_digest in words for one in running),
        )
