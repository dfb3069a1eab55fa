"""What earlier releases stored and exported is read as what it meant."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from misgiving.collector import Store, export_annotations, read_corrected
from misgiving.runtime.outbox.records import DATABASE
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.outbox.uploader import Uploader
from misgiving.v1.pose_pb2 import Flag, FlagReason
from shared.collecting import collected, collecting, eventually, person, serialise


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A flagged and an audited person, as releases before ``Flag.kept`` wrote them."""
    reasons = (FlagReason.FLAG_REASON_PREDICTED_LOSS, FlagReason.FLAG_REASON_AUDIT)
    with Store(tmp_path / "store") as store:
        for number, reason in enumerate(reasons):
            one = person(number)
            one.flag.CopyFrom(Flag(raised=True, reason=reason, sampling_probability=1.0))
            store.put(serialise(collected(f"{number}", persons=[one])))
        yield store


def test_an_audited_frame_is_kept_and_not_flagged(store: Store, tmp_path: Path) -> None:
    assert [row.reason for row, _ in store.frames()] == ["predicted_loss", "audit"]
    counts = export_annotations(store, tmp_path / "out")
    assert (counts.persons, counts.flagged, counts.audited) == (2, 1, 1)


def test_an_export_of_before_is_imported(store: Store, tmp_path: Path) -> None:
    export_annotations(store, tmp_path / "out")
    original = json.loads((tmp_path / "out" / "original.json").read_text())
    for annotation in original["annotations"]:
        key = annotation["misgiving"]
        key["flag_reason"], key["flagged"] = key.pop("kept"), True
    corrected = json.loads(json.dumps(original))
    for annotation in corrected["annotations"]:
        annotation["keypoints"][0] += 5  # somebody has looked
    for name, document in (("original", original), ("annotations", corrected)):
        (tmp_path / "out" / f"{name}.json").write_text(json.dumps(document))
    assert len(read_corrected(tmp_path / "out").labels.persons) == 2


@pytest.mark.parametrize("columns", ["", ", stored_at REAL"])
def test_a_spool_of_before_is_uploaded(tmp_path: Path, columns: str) -> None:
    """It says nothing of a frame's value; its digests are what the collector has them by."""
    bodies = [serialise(collected(name)) for name in ("one", "two")]
    rows = [(hashlib.sha256(body).hexdigest(), "front/x", len(body), body) for body in bodies]
    database = sqlite3.connect(tmp_path / DATABASE)
    database.execute(
        "CREATE TABLE frames (seq INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, "
        f"name TEXT NOT NULL, size INTEGER NOT NULL, refusal TEXT, body BLOB NOT NULL{columns})"
    )
    insert = "INSERT INTO frames (digest, name, size, body) VALUES (?, ?, ?, ?)"
    database.executemany(insert, rows)
    database.commit()
    database.close()
    spool = Spool(tmp_path)
    with Store(tmp_path / "store") as store:
        with collecting(store) as address:
            uploader = Uploader(spool, address)
            uploader.start()
            eventually(lambda: spool.counts().uploaded == 2)
            uploader.stop(60)
        assert {row.digest for row, _ in store.frames()} == {digest for digest, *_ in rows}
    spool.close()
