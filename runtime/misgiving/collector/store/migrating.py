"""Bring a database to the tables of this release, whoever of several collectors opens it first."""

import logging
import threading
from pathlib import Path

import sqlalchemy as sa

from misgiving.runtime.errors import FailedPrecondition

_MIGRATIONS = Path(__file__).with_name("migrations")
_VERSION = sa.table("alembic_version", sa.column("version_num", sa.String))
_LOCK = 0x6D697367  # of PostgreSQL's advisory locks, which are numbers
_IN_PROCESS = threading.Lock()  # Alembic's context is one for the process


def newest() -> str:
    """The revision of this release: the files' names are in order."""
    return max(path.name[1:5] for path in (_MIGRATIONS / "versions").glob("r*.py"))


def is_current(connection: sa.Connection) -> bool:
    """Whether the tables are those of this release.

    Raises:
        FailedPrecondition: they are those of a later one.
    """
    if not sa.inspect(connection).has_table(_VERSION.name):
        return False
    found = connection.scalar(sa.select(_VERSION.c.version_num)) or ""
    if found > newest():
        raise FailedPrecondition(
            f"database has tables of revision {found}; this release knows those up to "
            f"{newest()}. Install the release that wrote them"
        )
    return found == newest()


def migrate(connection: sa.Connection) -> None:
    """Make the tables, or bring them up; in a transaction that writes, and others wait meanwhile.

    SQLite's own lock is held by the transaction.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it speaks while it is imported, too
    from alembic import command, config  # 0.1 s, which only a first start has to take

    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    if is_current(connection):
        return
    settings = config.Config()
    settings.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    with _IN_PROCESS:
        command.upgrade(settings, "head")
