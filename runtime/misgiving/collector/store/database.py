"""The database of a store: SQLite in a file, or PostgreSQL for several collectors."""

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from misgiving.collector.store.migrating import is_current, migrate
from misgiving.runtime.durable import Places
from misgiving.runtime.errors import FailedPrecondition, InvalidInput

_LOCK = sa.text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")

_REFUSED = re.compile("does not exist|permission denied|authentication failed|no password|pg_hba")
"""PostgreSQL's words for what stays wrong until somebody corrects it."""

_WAIT_S = 20
"""For another process's write in SQLite, or for a server that does not acknowledge: vehicles wait a
minute, and hear before that what is wrong."""


_LOOK = 10_000
"""Instructions of SQLite's machine between two looks at the clock: about a millisecond."""


class StoreUnavailable(FailedPrecondition):
    """The database or the object store does not answer now; a vehicle keeps its frame."""

    status = "UNAVAILABLE"


class StoreReplaced(FailedPrecondition):
    """The folder or SQLite's file is gone, or another one than was opened."""


class TooSlow(StoreUnavailable):
    """A statement took longer than it may."""


class Locked(StoreUnavailable):
    """Another process has kept SQLite's lock for longer than anybody waits for it."""


class Database:
    """Connections to a store's tables, which are made or brought up when it is opened.

    Args:
        url: SQLAlchemy's name of it.
        name: what errors call it; without a password.
        option: the option by which another is named.

    Raises:
        FailedPrecondition: it cannot be opened, or a later release wrote it.
    """

    def __init__(self, url: sa.URL, name: str, option: str = "--database") -> None:
        self._url, self._name, self._option = url, name, option
        self._engine = _engine(url)
        self._places = Places((), ())
        try:
            with self.connect(reads=True) as connection:
                current = is_current(connection)
            if not current:
                with self.connect() as connection:
                    migrate(connection)
            self._places = Places((), self.files)
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """What errors call it; without a password."""
        return self._name

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def forget(self) -> None:
        """Leave nothing of what was deleted in SQLite's log, unless somebody reads meanwhile."""
        if self._engine.dialect.name == "sqlite":
            self._check_file()
            with self._translated(), closing(self._engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @property
    def files(self) -> list[Path]:
        """The database's file; none where it is a server's."""
        name = self._url.database if self._engine.dialect.name == "sqlite" else None
        return [Path(name)] if name and os.path.isfile(name) else []

    @contextmanager
    def connect(
        self, *, reads: bool = False, within_s: float | None = None
    ) -> Iterator[sa.Connection]:
        """A transaction, durable when the block has ended well, and undone otherwise.

        Args:
            reads: nothing is written. SQLite has one writer at a time, and any number who read.
            within_s: how long PostgreSQL may work on one statement, and SQLite on all of them;
                None for as long as it takes.

        Raises:
            StoreUnavailable: the database does not answer; TooSlow, one statement takes too long.
            StoreReplaced: SQLite's file is another one than was opened.
            FailedPrecondition: it is damaged.
        """
        self._check_file()
        with self._translated(), self._engine.connect() as connection:
            begin = "BEGIN" if reads else "BEGIN IMMEDIATE"
            connection.execution_options(sqlite_begin=begin)
            with connection.begin(), _limited(connection, within_s):
                yield connection

    @contextmanager
    def alone(self, *digests: str) -> Iterator[sa.Connection | None]:
        """Held by whoever stores frames, against other collectors of the same database.

        Gives the transaction that holds the locks. Those with SQLite are on one machine, where the
        locks of the uploads' files are enough: None.
        """
        if self._engine.dialect.name != "postgresql":
            yield None
            return
        keys = sorted(int(digest[:15], 16) for digest in digests)  # in one order for everybody
        with self.connect() as connection:  # the locks end with the transaction
            connection.execute(_LOCK, {"keys": keys})
            yield connection

    def _check_file(self) -> None:
        """A connection that is opened once the file is away makes a new one, and takes the log of
        the old one, with all that is only in there, for its own.
        """
        if replaced := self._places.replaced():
            raise StoreReplaced(
                f"{replaced} is gone, or another one than was opened; expected it to stay. "
                "Put it back, or start again what has opened it"
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            raise self._error(error) from error

    def _error(self, error: sa.exc.SQLAlchemyError) -> FailedPrecondition:
        if "statement timeout" in str(error) or str(error.__cause__) == "interrupted":
            return TooSlow(
                f"{self._name} has worked on this for too long; expected fewer frames to look "
                "through. Ask for one device, or for a shorter time"
            )
        cause = str(getattr(error, "orig", None) or error).partition("\n")[0]
        if self._url.password:
            cause = cause.replace(str(self._url.password), "***")
        kind: type[FailedPrecondition] = StoreUnavailable
        if "not a database" in cause or "malformed" in cause:
            expected, hint = "one written by 'misgiving collect'", "Restore it"
            kind = FailedPrecondition
        elif "is locked" in cause:
            expected, hint = f"its turn within {_WAIT_S} s", "End what holds it"
            kind = Locked
        elif self._engine.dialect.name == "sqlite":
            expected = "one written by 'misgiving collect'"
            hint = "Free its disk, or let it be written"
        elif _REFUSED.search(cause):
            expected, hint = "one that this user may read and write", "Correct that"
        else:
            expected, hint = "it to answer", "Start it"
        return kind(
            f"{self._name}: {cause}; expected {expected}. {hint}, or name another {self._option}"
        )


def sqlite_url(path: Path) -> sa.URL:
    """SQLAlchemy's name of a file."""
    return sa.URL.create("sqlite", database=str(path))


def database_url(text: str) -> sa.URL:
    """What ``--database`` names.

    Raises:
        InvalidInput: it is neither SQLite's nor PostgreSQL's.
    """
    expected = "expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise InvalidInput(f"--database is no URL; {expected}. Correct it") from error
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise InvalidInput(f"--database is {said(url)}; {expected}. Name one of these")
    if url.drivername == "sqlite" and not url.database:
        raise InvalidInput(f"--database is {said(url)}, without a file; {expected}. Name a file")
    return url


def said(url: sa.URL) -> str:
    """A database's URL for logs and errors: a password may stand in two places of it."""
    shown = url.set(drivername=url.get_backend_name(), query={})
    return shown.render_as_string(hide_password=True)


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": _WAIT_S}, max_overflow=32)
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    waits = {"connect_timeout": "10", "tcp_user_timeout": str(_WAIT_S * 1000)}
    url = url.update_query_dict({k: v for k, v in waits.items() if k not in url.query})
    # A connection that the server has ended meanwhile is replaced before it is used.
    return sa.create_engine(url, pool_pre_ping=True, max_overflow=64)


@contextmanager
def _limited(connection: sa.Connection, within_s: float | None) -> Iterator[None]:
    """Nothing works for longer meanwhile."""
    if within_s is None:
        yield
    elif connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {round(1000 * within_s)}")
        yield
    else:
        driver, end = connection.connection.driver_connection, time.monotonic() + within_s
        assert driver is not None
        driver.set_progress_handler(lambda: time.monotonic() > end, _LOOK)
        try:
            yield
        finally:
            driver.set_progress_handler(None, 0)


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transactions leave out what changes tables, and begin without a lock.
    connection.isolation_level = None
    _log_ahead(connection)
    connection.execute("PRAGMA synchronous=FULL")


def _log_ahead(connection: Any) -> None:
    """Of those who make a new file at once SQLite lets one do this, and the others fail at once."""
    end = time.monotonic() + _WAIT_S / 2  # where it has waited itself, it is not asked again
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "is locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options()["sqlite_begin"])
