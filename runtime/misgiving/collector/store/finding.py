"""Where the parts of a store are: in its folder, or where they are named."""

import re
from pathlib import Path

import sqlalchemy as sa

from misgiving.collector.store.database import Database, said, sqlite_url
from misgiving.collector.store.objects import FolderObjects, Objects
from misgiving.runtime.errors import FailedPrecondition, InvalidInput


def check_folder(folder: Path) -> None:
    """Raise InvalidInput where a URL stands in the place of the folder."""
    if scheme := re.match("([a-z][a-z0-9+]+):/", str(folder)):
        raise InvalidInput(
            f"--store is {scheme[1]}:…; expected a folder. Name a database by --database, and "
            "S3 by --objects"
        )


def check_there(folder: Path, url: str | None, objects: str | None) -> None:
    """Raise FailedPrecondition where what is not named elsewhere is not in the folder either."""
    if not (objects or (folder / "objects").is_dir()):
        or_bucket = ", or a bucket with --objects" if url else ""
        raise FailedPrecondition(
            f"{folder} is no store; expected a folder written by 'misgiving collect'. "
            f"Name it with --store{or_bucket}"
        )
    if objects and not (url or _sqlite(folder).exists()):
        raise FailedPrecondition(
            f"{folder} has no database, and none is named; expected that of the objects. "
            "Name it with --database"
        )


def objects_of(folder: Path, url: str | None) -> Objects:
    """In the folder, or in S3 by its URL."""
    if url is None:
        return FolderObjects(folder)
    from misgiving.collector.store.s3 import S3Objects

    return S3Objects(url)


def database_of(folder: Path, named: sa.URL | None) -> Database:
    """SQLite in the folder, or another one that is named; opened."""
    if named is None:
        return Database(sqlite_url(_sqlite(folder)), f"database of store {folder}", "--store")
    return Database(named, f"database {said(named)}")


def _sqlite(folder: Path) -> Path:
    return folder / "store.sqlite"
