"""Programs of the last release meet those of today: vehicles, spools, bundles, stores, label sets.

Where the older one does not know something, the newer one does without it, or one line says so.
"""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from misgiving.collector.annotations import export_annotations
from misgiving.collector.store import Store
from misgiving.runtime.client import Client
from misgiving.runtime.verbs import command
from misgiving.trainer.data import open_data
from shared import tiny
from shared.collecting import eventually
from versions.programs import TODAY, Version, unpacked

FRAMES = ["0", "1", "2"]
OTHER = {"old": "new", "new": "old"}

Versions = Mapping[str, Version]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    return {"old": unpacked(tmp_path_factory.mktemp("released")), "new": TODAY}


def rows(file: Path, query: str) -> list[tuple[object, ...]]:
    """Of a database of either version, as no program of either reads it."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()


def stored(store: Path) -> list[str]:
    """Frames of a store that have a row."""
    file = store / "store.sqlite"
    return [str(name) for (name,) in rows(file, "SELECT frame_id FROM frames ORDER BY frame_id")]


@pytest.fixture(scope="module")
def spools(versions: Versions, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of a vehicle of each version, which answered today's client with the other one's bundle."""
    made = {}
    for name, vehicle in versions.items():
        made[name] = tmp_path_factory.mktemp(name) / "spool"
        words = ["serve", "--bundle", versions[OTHER[name]].bundle, "--threshold", 0]
        with vehicle.service(*words, "--spool", made[name]) as address, Client(address) as client:
            for number in FRAMES:
                (one,) = client.infer(tiny.spots([3] * 14, 255 - int(number)), (), number).persons
                assert one.flag.raised
    return made


@dataclass(frozen=True, slots=True)
class Meeting:
    """Whose vehicle spooled frames, whose sent them on, and whose collector took them."""

    spooled: str
    sent: str
    took: str


OF_BEFORE = Meeting("old", "old", "new")
UPDATED = Meeting("old", "new", "new")
AHEAD = Meeting("new", "new", "old")
BACK = Meeting("new", "old", "new")

Delivered = Callable[[Meeting], tuple[Path, Path]]


def send(vehicle: Version, spool: Path, collector: Version, store: Path, *options: object) -> None:
    """All frames of a spool, until the vehicle says that it has none left."""
    with collector.service("collect", "--store", store, *options) as address:
        words = ["serve", "--bundle", vehicle.bundle, "--spool", spool, "--collector", address]
        with vehicle.service(*words) as at, Client(at) as client:

            def pending() -> int:
                said = client.status().spool
                assert said is not None
                return said.pending

            eventually(lambda: pending() == 0)


@pytest.fixture(scope="module")
def delivered(
    versions: Versions, spools: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Delivered:
    """The spool and the store of a meeting."""

    @cache
    def made(meeting: Meeting) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("meeting")
        shutil.copytree(spools[meeting.spooled], folder / "spool")
        send(versions[meeting.sent], folder / "spool", versions[meeting.took], folder / "store")
        return folder / "spool", folder / "store"

    return made


@pytest.mark.parametrize("meeting", [OF_BEFORE, UPDATED, AHEAD, BACK])
def test_frames_arrive_once_and_are_deleted(delivered: Delivered, meeting: Meeting) -> None:
    spool, store = delivered(meeting)
    assert rows(spool / "spool.sqlite", "SELECT * FROM frames") == []
    assert stored(store) == FRAMES
    for digest, reason in rows(store / "store.sqlite", "SELECT digest, reason FROM frames"):
        body = (store / "objects" / str(digest)[:2] / str(digest)).read_bytes()
        assert (hashlib.sha256(body).hexdigest(), reason) == (digest, "predicted_loss")


def test_a_sealed_spool_goes_back_too(versions: Versions, tmp_path: Path) -> None:
    """A vehicle of before sends sealed frames, which it cannot read, to whoever opens them."""
    key = X25519PrivateKey.generate()
    raw, pem = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    (tmp_path / "fleet.key").write_bytes(key.private_bytes(pem, raw, serialization.NoEncryption()))
    (tmp_path / "fleet.key").chmod(0o600)
    (tmp_path / "fleet.pub").write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    file, spool, store = (tmp_path / name for name in ("misgiving.toml", "spool", "store"))
    file.write_text('[spool]\nfolder = "spool"\nseal_to = "fleet.pub"\n')
    words = ["serve", "--config", file, "--bundle", TODAY.bundle, "--threshold", 0]
    with TODAY.service(*words) as address, Client(address) as client:
        client.infer(tiny.spots([3] * 14), (), "secret")
    assert b"secret" not in (spool / "spool.sqlite").read_bytes()
    send(versions["old"], spool, TODAY, store, "--open-with", tmp_path / "fleet.key")
    assert rows(spool / "spool.sqlite", "SELECT * FROM frames") == []
    assert stored(store) == ["secret"]


def test_reports_wait_for_a_collector_that_takes_them(delivered: Delivered) -> None:
    spool, _ = delivered(AHEAD)
    assert rows(spool / "reports.sqlite", "SELECT at FROM reports")


def test_a_store_of_before_is_opened(delivered: Delivered, tmp_path: Path) -> None:
    shutil.copytree(delivered(AHEAD)[1], tmp_path / "store")
    with Store(tmp_path / "store", create=False) as store:
        found = [row for row, _ in store.frames()]
        counts = export_annotations(store, tmp_path / "out")
    assert sorted(row.frame_id for row in found) == FRAMES
    assert all(row.image_digest and row.flagged for row in found)
    assert (counts.images, counts.flagged) == (3, 3)


def test_a_collector_that_goes_back_destroys_nothing(
    versions: Versions, spools: dict[str, Path], delivered: Delivered, tmp_path: Path
) -> None:
    """It takes frames as objects; today's collector gives them rows again."""
    store, spool = tmp_path / "store", tmp_path / "spool"
    shutil.copytree(delivered(OF_BEFORE)[1], store)
    shutil.copytree(spools["new"], spool)
    send(versions["old"], spool, versions["old"], store)
    assert len(list((store / "objects").glob("*/*"))) == 6
    with Store(store, create=False) as opened:
        assert sorted(row.frame_id for row, _ in opened.frames()) == sorted(2 * FRAMES)
    assert rows(spool / "spool.sqlite", "SELECT * FROM frames") == []


def test_label_sets(versions: Versions, delivered: Delivered, tmp_path: Path) -> None:
    shutil.copytree(delivered(AHEAD)[1], tmp_path / "store")
    old = versions["old"].said
    # The store of before first, for the newer program changes it.
    for run, name in ((old, "old"), (lambda *words: command.run([*map(str, words)]), "new")):
        out, labels = tmp_path / f"{name}-out", tmp_path / f"{name}-labels"
        run("annotations", "export", "--store", tmp_path / "store", "--out", out)
        run("annotations", "import", out, "--out", labels, "--trust-untouched")
    assert len(open_data(f"labels:{tmp_path / 'old-labels'}")) == 3
    code, said, err = versions["old"].run("-c", READS, tmp_path / "new-labels")
    assert (code, err) == (0, "")
    assert "schema_version: Input should be less than or equal to 3" in said
    assert said.count("\n") == 1


READS = """
import sys
from misgiving.runtime.errors import DataError
from misgiving.trainer.data import open_data
try:
    open_data(f"labels:{sys.argv[1]}")
except DataError as error:
    print(error)
"""
