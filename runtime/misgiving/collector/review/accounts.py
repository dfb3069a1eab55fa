"""Who may look: accounts in the store's database, passwords as argon2 hashes, and how often
somebody may guess."""

import hashlib
import ipaddress
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy.dialects import postgresql, sqlite

from misgiving.collector.store.database import Database
from misgiving.collector.store.tables import ACCOUNTS, KEYS, LOGIN_ATTEMPTS
from misgiving.runtime.errors import InvalidInput, NotFound, ResourceExhausted

SHORTEST = 12
LONGEST = 1024
"""Characters of a password."""
FAILURES = 5
"""Wrong passwords for one name from one address within WINDOW_S, after which others wait."""
FROM_ONE = 20
"""The same for one address, whatever the names."""
WINDOW_S = 300.0

_LOCK = 0x6D67_6C67  # of PostgreSQL's advisory locks, which are numbers
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
    """Counts logins that fail in the database, for all processes together, and says when there are
    too many.

    A login counts from before its password is looked at until it has proved right, so that guesses
    at once are no more than one after the other.

    Args:
        database: of the store.
        clock: Unix nanoseconds.
    """

    def __init__(self, database: Database, clock: Callable[[], int] = time.time_ns) -> None:
        self._database, self._clock = database, clock
        self._key = Accounts(database).signing_key()

    def begin(self, name: str, address: str) -> int:
        """Count a login, to be taken back by :meth:`succeeded`.

        Raises:
            ResourceExhausted: too many have failed of late; this one is not counted.
        """
        c, now = LOGIN_ATTEMPTS.c, self._clock()
        begun = now - round(WINDOW_S * 1e9)
        whence = _network(address)
        hashed = {"address": self._hashed(whence), "login": self._hashed(whence, name)}
        with self._database.connect(reads=True) as connection:  # a flood keeps nobody from writing
            _check(connection, hashed, begun)
        with self._database.connect() as connection:
            if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            _check(connection, hashed, begun)
            connection.execute(sa.delete(LOGIN_ATTEMPTS).where(c.at_unix_nano <= begun))
            new = sa.insert(LOGIN_ATTEMPTS).values(at_unix_nano=now, **hashed).returning(c.id)
            return int(connection.execute(new).scalar_one())

    def succeeded(self, attempt: int) -> None:
        """A login was no guess."""
        with self._database.connect() as connection:
            connection.execute(sa.delete(LOGIN_ATTEMPTS).where(LOGIN_ATTEMPTS.c.id == attempt))

    def _hashed(self, *parts: str) -> str:
        """Who has failed, and from where, is nobody's to read; a name may be a password."""
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=32).hexdigest()


def _network(address: str) -> str:
    """Of an IPv6 address that of the network, which one household or server has whole."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # of a test, or of a socket without one
        return address
    if found.version == 4:
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))


def _check(connection: sa.Connection, hashed: dict[str, str], begun: int) -> None:
    """Raise ResourceExhausted where too many logins have failed since a time."""
    c = LOGIN_ATTEMPTS.c
    for column, most in (("login", FAILURES), ("address", FROM_ONE)):
        times = sa.select(c.at_unix_nano).where(c[column] == hashed[column], c.at_unix_nano > begun)
        last = times.order_by(c.at_unix_nano.desc()).offset(most - 1).limit(1)
        if (at := connection.scalar(last)) is not None:
            wait_s = (at - begun) / 1e9
            error = ResourceExhausted(
                f"{most} passwords were wrong within {WINDOW_S / 60:.0f} minutes; expected fewer. "
                f"Try again in {wait_s:.0f} s"
            )
            error.retry_after_ms = int(1000 * wait_s)
            raise error


def _stamp(password_hash: str) -> str:
    return hashlib.sha256(password_hash.encode()).hexdigest()[:16]
