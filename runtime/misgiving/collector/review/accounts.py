"""Who may look: accounts in the store's database, passwords as argon2 hashes, and how often
somebody may guess."""

import hashlib
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy.dialects import postgresql, sqlite

from misgiving.collector.store.database import Database
from misgiving.collector.store.tables import ACCOUNTS, KEYS
from misgiving.runtime.errors import InvalidInput, NotFound, ResourceExhausted

SHORTEST = 12
LONGEST = 1024
"""Characters of a password."""
FAILURES = 5
"""Wrong passwords for one name from one address within WINDOW_S, after which others wait."""
FROM_ONE = 20
"""The same for one address, whatever the names."""
WINDOW_S = 300.0

_REMEMBERED = 10_000
_SESSIONS = "review_sessions"
_HASHER = PasswordHasher()


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who has logged in."""

    name: str
    stamp: str
    """Of the password, so that a new one ends the sessions of the old."""

    is_authenticated = is_active = True
    is_anonymous = False

    def get_id(self) -> str:
        """What a session remembers."""
        return f"{self.stamp}:{self.name}"


class Accounts:
    """The accounts of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, password: str) -> None:
        """Make an account, or give it another password.

        Raises:
            InvalidInput: no name, or a password that is too short.
        """
        if not re.fullmatch(r"[\w.@+-]{1,64}", name):
            raise InvalidInput(
                f"name is {name[:80]!r}; expected up to 64 letters, digits and . @ + - _. "
                "Choose another"
            )
        if not SHORTEST <= len(password) <= LONGEST:
            raise InvalidInput(
                f"password has {len(password)} characters; expected {SHORTEST} or more, and at "
                f"most {LONGEST}. Choose a longer one, for example of four words"
            )
        row = {"password_hash": _HASHER.hash(password), "created_unix_nano": time.time_ns()}
        with self._database.connect() as connection:
            connection.execute(sa.delete(ACCOUNTS).where(ACCOUNTS.c.name == name))
            connection.execute(sa.insert(ACCOUNTS).values(name=name, **row))

    def remove(self, name: str) -> None:
        """Take an account away; its sessions end.

        Raises:
            NotFound: there is none.
        """
        with self._database.connect() as connection:
            gone = connection.execute(sa.delete(ACCOUNTS).where(ACCOUNTS.c.name == name))
        if not gone.rowcount:
            known = ", ".join(self.names()) or "none"
            raise NotFound(f"there is no account {name[:80]!r}; expected one of: {known}")

    def names(self) -> list[str]:
        """Of all accounts."""
        with self._database.connect(reads=True) as connection:
            return list(connection.scalars(sa.select(ACCOUNTS.c.name).order_by(ACCOUNTS.c.name)))

    def check(self, name: str, password: str) -> Account | None:
        """Who has this name and password; takes as long where there is no such name."""
        known = self._hash(name)
        try:
            _HASHER.verify(known or self._nobody, password[: LONGEST + 1])
        except (VerificationError, InvalidHashError):
            return None
        return Account(name, _stamp(known)) if known else None

    def of_session(self, remembered: str) -> Account | None:
        """Whom a session remembers, while the password is the same."""
        stamp, _, name = remembered.partition(":")
        known = self._hash(name)
        if known is None or not secrets.compare_digest(stamp.encode(), _stamp(known).encode()):
            return None
        return Account(name, stamp)

    def signing_key(self) -> bytes:
        """What signs sessions and forms, made once: all processes of a database have the same."""
        key = sa.select(KEYS.c.value).where(KEYS.c.name == _SESSIONS)
        with self._database.connect(reads=True) as connection:
            found = connection.scalar(key)
        if found is None:
            with self._database.connect() as connection:
                dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
                made = dialect.insert(KEYS).values(name=_SESSIONS, value=secrets.token_bytes(32))
                connection.execute(made.on_conflict_do_nothing())  # or of another process
                found = connection.scalar(key)
        assert found
        return bytes(found)

    @cached_property
    def _nobody(self) -> str:
        """A hash of no password, so that a name that is not there takes as long."""
        return _HASHER.hash(secrets.token_hex())

    def _hash(self, name: str) -> str | None:
        row = sa.select(ACCOUNTS.c.password_hash).where(ACCOUNTS.c.name == name)
        with self._database.connect(reads=True) as connection:
            return connection.scalar(row)


class Throttle:
    """Counts wrong passwords in this process, and says when there were too many.

    Args:
        clock: seconds, never back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failed: dict[tuple[str, ...], deque[float]] = {}

    def check(self, name: str, address: str) -> None:
        """Raise ResourceExhausted where too many guesses failed of late."""
        with self._lock:
            now = self._clock()
            for key, most in self._keys(name, address):
                times = self._recent(key, now)
                if len(times) >= most:
                    wait = times[-most] + WINDOW_S - now
                    error = ResourceExhausted(
                        f"{most} passwords were wrong within {WINDOW_S / 60:.0f} minutes; expected "
                        f"fewer. Try again in {wait:.0f} s"
                    )
                    error.retry_after_ms = int(1000 * wait)
                    raise error

    def failed(self, name: str, address: str) -> None:
        """Count a wrong password."""
        with self._lock:
            now = self._clock()
            for key, _ in self._keys(name, address):
                self._failed[key] = self._recent(key, now)
                self._failed[key].append(now)
            while len(self._failed) > _REMEMBERED:
                del self._failed[next(iter(self._failed))]

    def _recent(self, key: tuple[str, ...], now: float) -> "deque[float]":
        times = self._failed.pop(key, deque[float]())
        while times and times[0] <= now - WINDOW_S:
            times.popleft()
        if times:
            self._failed[key] = times
        return times

    def _keys(self, name: str, address: str) -> tuple[tuple[tuple[str, ...], int], ...]:
        return ((address, name), FAILURES), ((address,), FROM_ONE)


def _stamp(password_hash: str) -> str:
    return hashlib.sha256(password_hash.encode()).hexdigest()[:16]
