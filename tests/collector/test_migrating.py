"""A database of an earlier release is brought up; one of a later release is refused."""

import hashlib
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from misgiving.collector.store import Store
from misgiving.collector.store.migrating import newest
from misgiving.collector.store.tables import TABLES
from misgiving.runtime.errors import FailedPrecondition
from shared.collecting import child, collected, line_of, person, serialise

OF_BEFORE = """
CREATE TABLE frames (
    digest VARCHAR(64) NOT NULL,
    frame_id TEXT NOT NULL,
    stream_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    capture_time_unix_nano BIGINT NOT NULL,
    received_time_unix_nano BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    bundle_digest TEXT NOT NULL,
    max_predicted_loss DOUBLE,
    reason TEXT NOT NULL,
    PRIMARY KEY (digest)
);
CREATE INDEX ix_frames_bundle_digest ON frames (bundle_digest);
CREATE INDEX ix_frames_device_id ON frames (device_id);
CREATE INDEX ix_frames_received_time_unix_nano ON frames (received_time_unix_nano);
"""
BODY = serialise(
    collected("before", persons=[person(0, loss=0.5), person(1, loss=3.0, threshold=2.0)])
)
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def of_before(tmp_path: Path) -> Path:
    """A store as the release before the migrations left it: a frame, and one whose file is lost."""
    path = tmp_path / "objects" / DIGEST[:2] / DIGEST
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        database.executescript(f"PRAGMA journal_mode=WAL; {OF_BEFORE}")
        rows = [
            (DIGEST, "before", "front", "car-7", 1, 1234, len(BODY), "b" * 64, 3.0, "audit"),
            ("f" * 64, "lost", "front", "car-7", 2, 5678, 9, "b" * 64, None, "audit"),
        ]
        database.executemany(f"INSERT INTO frames VALUES ({', '.join('?' * 10)})", rows)
    database.close()
    return tmp_path


def test_rows_of_before_stay_and_are_completed(of_before: Path) -> None:
    with Store(of_before, create=False) as store:
        row, lost = (row for row in store._rows.of_bundle(""))
    assert (row.digest, row.received_time_unix_nano, row.reason) == (DIGEST, 1234, "audit")
    image = collected("before").frame.image.encoded
    assert row.image_digest == hashlib.sha256(image).hexdigest()
    assert (row.flagged, row.persons, row.threshold) == (True, 2, 2.0)
    assert row.sampling_probability == 1.0
    assert row.embedding == b"\0\0\x80\x3f\0\0\0\x40"
    assert (row.campaign, row.identity) == ("", "")
    assert (lost.frame_id, lost.image_digest, lost.flagged, lost.engine) == ("lost", None, None, "")


def test_migrations_make_the_tables_that_the_code_has(of_before: Path) -> None:
    Store(of_before).close()
    Store(of_before / "new").close()
    for folder in (of_before, of_before / "new"):
        engine = sa.create_engine(f"sqlite:///{folder / 'store.sqlite'}")
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), TABLES) == []
        engine.dispose()


def test_a_database_of_a_later_release_is_refused(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(FailedPrecondition, match=f"revision 9999; .* up to {newest()}. Install"):
        Store(tmp_path)


OPENED = """
import sys
from pathlib import Path
from misgiving.collector.store import Store

print("ready", flush=True)
sys.stdin.readline()
Store(Path(sys.argv[1])).close()
print("opened", flush=True)
"""


def test_processes_that_open_it_at_once(of_before: Path) -> None:
    with (
        child(OPENED, of_before) as one,
        child(OPENED, of_before) as two,
        child(OPENED, of_before) as three,
    ):
        all_of_them = (one, two, three)
        assert [line_of(process) for process in all_of_them] == ["ready"] * 3
        for process in all_of_them:
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [line_of(process) for process in all_of_them] == ["opened"] * 3
