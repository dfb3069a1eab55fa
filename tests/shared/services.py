"""A real PostgreSQL and a real server that speaks S3, each in a folder of its own.

``.ci/run`` installs the first, from Debian's packages; the second comes with ``[dev]``.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from misgiving.collector.store import Store
from shared.collecting import DEADLINE_S, eventually, files_below
from shared.ports import unused_port

KEYS = {
    "AWS_ACCESS_KEY_ID": "ACCESSKEYID",
    "AWS_SECRET_ACCESS_KEY": "secretsecret",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_RCLONE = Path(sys.executable).with_name("rclone")


class _Server:
    """A process that may be ended and started again."""

    def __init__(self, command: list[str], log: Path, stop: signal.Signals, **options: Any) -> None:
        self._command, self._log, self._stop, self._options = command, log, stop, options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, **self._options)
        eventually(self._answers)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process:
            self._process.send_signal(self._stop)
            self._process.wait(DEADLINE_S)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        return self.answers()

    def answers(self) -> bool:
        raise NotImplementedError


class Postgres(_Server):
    """A server that is reached by a socket in its folder, and syncs what it writes.

    Args:
        folder: empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._emptied, programs = folder, "", _postgres()
        # It refuses to run as root.
        user: dict[str, Any] = {}
        if not os.geteuid():
            user = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(folder, "postgres", "postgres")
        data = str(folder / "data")
        options = [*("--auth=trust", "--no-sync", "-U", "postgres", "-E", "UTF8", "--locale=C")]
        subprocess.run(
            [str(programs / "initdb"), *options, data], check=True, capture_output=True, **user
        )
        command = [str(programs / "postgres"), "-D", data, "-k", str(folder)]
        command += ["-c", "listen_addresses=", "-c", "max_connections=200"]
        command += ["-c", "recovery_init_sync_method=syncfs"]  # sooner than a file at a time
        # Of the signals, this one ends all its processes, and nothing is written any more.
        super().__init__(command, folder / "log", signal.SIGQUIT, **user)

    def url(self, name: str) -> str:
        """Of a database."""
        return f"postgresql://postgres@/{name}?host={self._folder}"

    def make(self) -> str:
        """A new database; its URL."""
        name = f"d{secrets.token_hex(6)}"
        self._execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def emptied(self) -> str:
        """A database whose tables, if there are any, have no rows; the same one each time."""
        if not self._emptied:
            self._emptied = self.make()
        tables = sa.MetaData()
        with self._connect(self._emptied) as connection:
            connection.exec_driver_sql("SET session_replication_role = replica")  # no triggers
            tables.reflect(connection)
            for name in tables.tables.keys() - {"alembic_version"}:
                connection.exec_driver_sql(f"DELETE FROM {name}")
        return self._emptied

    def answers(self) -> bool:
        try:
            self._execute("SELECT 1")
        except sa.exc.OperationalError:
            return False
        return True

    def _execute(self, statement: str) -> None:
        with self._connect(self.url("postgres")) as connection:
            connection.exec_driver_sql(statement)

    def _connect(self, url: str) -> sa.Connection:
        url = url.replace("postgresql:", "postgresql+psycopg:")
        options = {"isolation_level": "AUTOCOMMIT", "poolclass": sa.NullPool}
        return sa.create_engine(url, **options).connect()


class S3(_Server):
    """rclone's server; each folder below its own is a bucket.

    Args:
        folder: empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "buckets"
        self.folder.mkdir()
        port = unused_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        keys = f"{KEYS['AWS_ACCESS_KEY_ID']},{KEYS['AWS_SECRET_ACCESS_KEY']}"
        command = [str(_RCLONE), "serve", "s3", "--config", ""]
        command += ["--auth-key", keys, "--addr", f"127.0.0.1:{port}", str(self.folder)]
        super().__init__(command, folder / "log", signal.SIGKILL)

    def make(self) -> str:
        """A new bucket; the URL of a prefix in it."""
        name = f"b{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}/fleet/kept"

    def client(self) -> Any:
        """Of boto3; the server remembers for minutes which files there are, so ask through it."""
        import boto3

        keys = {name.lower(): value for name, value in KEYS.items() if "ACCESS_KEY" in name}
        return boto3.session.Session().client("s3", endpoint_url=self.endpoint, **keys)

    def answers(self) -> bool:
        host, port = self.endpoint.removeprefix("http://").split(":")
        try:
            socket.create_connection((host, int(port))).close()
        except OSError:
            return False
        return True


@dataclass(frozen=True)
class Place:
    """What a store is opened with."""

    folder: Path
    url: str | None = None
    objects: str | None = None
    s3: S3 | None = None

    def open(self) -> Store:
        return Store(self.folder, self.url, self.objects)

    @property
    def arguments(self) -> list[str]:
        """The same for another process; empty where something is not named."""
        return [str(self.folder), self.url or "", self.objects or ""]

    def all_objects(self) -> list[str]:
        """Digests of all objects, sorted."""
        if not self.s3:
            return sorted(Path(name).name for name in files_below(self.folder / "objects"))
        listed = self.s3.client().list_objects_v2(Bucket=self._bucket)
        return sorted(Path(one["Key"]).name for one in listed.get("Contents", ()))

    def damage(self, digest: str, body: bytes | None) -> None:
        """Write an object as no collector does, or take it away."""
        key = f"{digest[:2]}/{digest}"
        if self.s3 and body is None:
            self.s3.client().delete_object(Bucket=self._bucket, Key=f"fleet/kept/{key}")
        elif self.s3:
            self.s3.client().put_object(Bucket=self._bucket, Key=f"fleet/kept/{key}", Body=body)
        elif body is None:
            (self.folder / "objects" / key).unlink()
        else:
            (self.folder / "objects" / key).parent.mkdir(exist_ok=True)
            (self.folder / "objects" / key).write_bytes(body)

    @property
    def _bucket(self) -> str:
        assert self.objects
        return self.objects.split("/")[2]


@contextmanager
def started(kind: type[Postgres] | type[S3]) -> Iterator[Any]:
    """A server; skips the test where it is not installed."""
    if kind is Postgres and not _postgres():
        pytest.skip("there is no PostgreSQL server; .ci/run installs it")
    if kind is S3 and not _RCLONE.exists():
        pytest.skip("there is no rclone, an S3 server; it comes with [dev]")
    # Short, for the name of a socket, and not below what only root may enter.
    folder = Path(tempfile.mkdtemp(prefix="misgiving-"))
    server = kind(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


def _postgres() -> Path | None:
    """The folder of the newest PostgreSQL's programs."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(found, key=lambda path: int(path.parts[-3]), default=None)
    return newest.parent if newest else None
