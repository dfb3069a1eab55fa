"""Which device sends, by its certificate, and how much it may send.

With a client's certificate its first DNS or URI name is the device's identity: it sends frames of
its own names alone, and of others' frames it is not even told that they are there.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import sqlalchemy as sa

from misgiving.collector.frames.words import spoken_size
from misgiving.collector.store.database import Database
from misgiving.collector.store.rows import StoredFrame
from misgiving.collector.store.tables import FRAMES
from misgiving.runtime.errors import DataError, MisgivingError, printable
from misgiving.runtime.net.roles import names_of

DAY_NS = 86_400 * 10**9


class Nameless(MisgivingError):
    """A certificate that says nobody's name."""

    status = "UNAUTHENTICATED"


class Foreign(DataError):
    """A frame of another device than the certificate's."""

    status = "PERMISSION_DENIED"


class OverQuota(MisgivingError):
    """A device has sent its share of the day; it keeps the frame, and sends it later."""

    status = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, by the names of a certificate; nobody knows where there is none."""

    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, peer: Mapping[str, Iterable[bytes]]) -> "Caller":
        """The caller of a gRPC context's ``auth_context()``.

        Raises:
            Nameless: its certificate has neither a DNS nor a URI name.
        """
        names = names_of(peer)
        if not names and "x509_pem_cert" in peer:
            raise Nameless(
                "the certificate has no name; expected a DNS or URI name in its SAN, which is the "
                "device's. Issue it with one"
            )
        return cls(names)

    @property
    def identity(self) -> str:
        """The name that stands for the device; empty where it has no certificate."""
        return self.names[0] if self.names else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """What devices may do.

    >>> Devices(bytes_per_day=2 << 30, frames_per_day=20_000).any_name
    False
    """

    bytes_per_day: int | None = None
    """Of one device, in the last 24 hours; None for no limit."""
    frames_per_day: int | None = None
    """The same in frames."""
    any_name: bool = False
    """A device may send frames of any name, for gateways that send those of others."""


class Gate:
    """Holds devices to their rules.

    Args:
        rules: what devices may do.
        database: of the store.
    """

    def __init__(self, rules: Devices, database: Database) -> None:
        self._rules, self._database = rules, database

    def may_read(self, caller: Caller, digest: str) -> bool:
        """Whether a caller may be told that a stored frame is there: it is its own."""
        if not caller.names or self._rules.any_name:
            return True
        c = FRAMES.c
        with self._database.connect(reads=True) as connection:
            owner = connection.execute(
                sa.select(c.identity, c.device_id).where(c.digest == digest)
            ).one_or_none()
        return owner is None or not owner[0] or bool({*owner} & {*caller.names})

    def name_of(self, caller: Caller, device_id: str, what: str = "frame") -> str:
        """The device of what a caller sends.

        Raises:
            Foreign: it is another than the certificate's.
        """
        if not caller.names or (self._rules.any_name and device_id):
            return device_id
        if device_id and device_id not in caller.names:
            raise Foreign(
                f"{what} is of device {device_id!r}, the certificate of "
                f"{', '.join(caller.names[:3])}; expected one of these names, or none. Set "
                "device_id to it, or let the collector take --any-device"
            )
        return device_id or caller.identity

    def admitting(self, caller: Caller) -> Callable[[StoredFrame], StoredFrame]:
        """A function that gives the row of each of a call's frames, as it is to be stored.

        It raises Foreign where the frame is another device's, and OverQuota.
        """

        take = self.offering(caller)

        def admit(row: StoredFrame) -> StoredFrame:
            name = self.name_of(caller, row.device_id)
            take(name, row.size_bytes)
            return replace(row, identity=caller.identity, device_id=name)

        return admit

    def check_caller(self, caller: Caller) -> None:
        """Raise OverQuota before the bytes travel, where a certificate says who it is."""
        if caller.names:
            self.offering(caller)("", 0)

    def offering(self, caller: Caller) -> Callable[[str, int], None]:
        """A function that takes a caller's frames one after the other: device and size in bytes.

        It raises OverQuota where one is too many, counting the stored ones and those before it.
        """
        sent = dict[str, tuple[int, int]]()
        unlimited = self._rules.bytes_per_day is None and self._rules.frames_per_day is None
        column = FRAMES.c.identity if caller.names else FRAMES.c.device_id

        def take(device_id: str, size: int) -> None:
            if unlimited:
                return
            name = caller.identity or device_id
            if name not in sent:
                sent[name] = self._sent(column, name)
            self._check_quota(name, *sent[name])
            sent[name] = sent[name][0] + 1, sent[name][1] + size

        return take

    def _sent(self, column: sa.Column[str], name: str) -> tuple[int, int]:
        """Frames and bytes of a name in the last 24 hours."""
        size = sa.func.coalesce(sa.func.sum(FRAMES.c.size_bytes), 0)
        sent = sa.select(sa.func.count(), size).where(
            column == name, FRAMES.c.received_time_unix_nano > time.time_ns() - DAY_NS
        )
        with self._database.connect(reads=True) as connection:
            frames, size_bytes = connection.execute(sent).one()
        return frames, int(size_bytes)

    def _check_quota(self, name: str, frames: int, size_bytes: int) -> None:
        most_bytes, most = self._rules.bytes_per_day, self._rules.frames_per_day
        if most is not None and frames >= most:
            raise _over(name, f"{frames:,} frames", f"{most:,} frames")
        if most_bytes is not None and size_bytes >= most_bytes:
            raise _over(name, spoken_size(size_bytes), spoken_size(most_bytes))


def _over(name: str, sent: str, quota: str) -> OverQuota:
    return OverQuota(
        f"device {printable(name) or '(no name)'} has sent {sent} in 24 hours; expected at most "
        f"{quota}. Keep the frame and send it later"
    )
