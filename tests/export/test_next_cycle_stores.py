"""The next step of active learning, of frames in PostgreSQL and S3 that are away at every step."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docs.helpers import invoke
from export.cycling import Fleet, states
from misgiving.collector import Store
from misgiving.collector.control.releases import Releases
from misgiving.collector.frames.standing import batch_counts
from misgiving.collector.store import StoreUnavailable
from misgiving.export.next_cycle import models, tasks
from misgiving.export.next_cycle.asked import SelectTable
from misgiving.export.next_cycle.selecting import pick, selection_of
from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.errors import DataError, MisgivingError
from misgiving.runtime.wire.collected import to_message
from shared.collecting import files_below, serialise
from shared.rows import mark
from shared.services import S3, Postgres

NO_DATABASE = (
    r"^database postgresql://.* expected it to answer. Start it, or name .* store.database"
)
NO_BUCKET = "^objects at s3://.* expected it to answer. Start it, or name another store.objects"


@pytest.fixture
def fleet(fleet: Fleet, postgres: Postgres, s3: S3) -> Fleet:
    return fleet.moved(postgres, s3)


def before(
    patch: pytest.MonkeyPatch, holder: Any, name: str, number: int, do: Callable[[], None]
) -> None:
    """Something happens before a function is called, the so manieth time."""
    function, calls = getattr(holder, name), list[None]()

    def called(*given: Any, **more: Any) -> Any:
        calls.append(None)
        if len(calls) == number:
            do()
        return function(*given, **more)

    patch.setattr(holder, name, called)


def test_a_cycle_whose_servers_go_away_at_every_step(
    fleet: Fleet, checkpoint: Path, postgres: Postgres, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training and export are as of a call before: neither knows where the frames are."""

    def away(server: Postgres | S3, said: str, **more: Any) -> None:
        try:
            with pytest.raises(StoreUnavailable, match=said):
                fleet.go(**more)
        finally:
            server.start()

    before(monkeypatch, Store, "__init__", 1, postgres.kill)
    away(postgres, NO_DATABASE)
    assert not fleet.out.exists()
    before(monkeypatch, Store, "read", 7, s3.kill)
    away(s3, NO_BUCKET)  # in the midst of the pictures
    assert files_below(fleet.out / "tasks") == []
    picks = fleet.picks
    before(monkeypatch, tasks, "record_batch", 1, postgres.kill)
    away(postgres, NO_DATABASE)
    assert fleet.go()["import"].state == "waits for you"
    assert fleet.picks == picks

    fleet.label(fleet.out / "labels" / "project-1.json")
    shutil.copytree(checkpoint, fleet.out / "checkpoint")
    shutil.copytree(DEFAULT_BUNDLE, fleet.out / "bundle")
    before(monkeypatch, tasks, "record_labels", 1, postgres.kill)
    away(postgres, NO_DATABASE)
    # What takes hours is between the import and the release, and needs neither of them.
    before(monkeypatch, models, "learn", 1, postgres.kill)
    before(monkeypatch, models, "learn", 1, s3.kill)
    try:
        assert fleet.go()["sign"].state == "waits for you"
    finally:
        s3.start()
    away(postgres, NO_DATABASE, release=True)
    before(monkeypatch, Releases, "announce", 1, postgres.kill)
    away(postgres, NO_DATABASE, release=True)
    for _ in range(2):
        assert set(states(fleet.go(release=True)).values()) == {"done"}

    with fleet.store() as store, store.database.connect(reads=True) as connection:
        assert [(one.frames, one.labelled) for one in batch_counts(connection)] == [(14, 14)]
    words = ["--database", str(fleet.place.url), "--objects", str(fleet.place.objects)]
    listed = invoke(["fleet", "release", "list", "--store", str(fleet.place.folder), *words])
    assert listed.count("lite-lsp") == 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("database = ", "# ", "parts has no database, .* Name it with store.database"),
        ("objects = ", "# ", "parts is no store; .* store.path, or a bucket with store.objects"),
        ("/fleet/kept", "/flat", "14 of 14 picked frames cannot be read; .* Restore the store's"),
    ],
)
def test_half_a_store(fleet: Fleet, old: str, new: str, said: str) -> None:
    with pytest.raises(MisgivingError, match=said):
        fleet.go(fleet.asked(old, new))


def test_a_database_of_another_fleet_is_named(fleet: Fleet, postgres: Postgres) -> None:
    asked = fleet.asked(str(fleet.place.url), other := postgres.make())
    name = other.partition("?")[0]
    with pytest.raises(DataError, match=f"database {name} has no frame that fits and is new"):
        fleet.go(asked)


def test_the_same_frames_are_picked_as_of_sqlite(fleet: Fleet, tmp_path: Path) -> None:
    """Whatever people said of some, and in whatever order a database sorts."""
    asked = SelectTable(budget=6, audit=8)
    first, second, *_, last = fleet.digests()
    picks = []
    with fleet.store() as store, Store(tmp_path / "copy") as copy:
        for _, frame in store.frames():
            copy.put(serialise(to_message(frame)))
        for one in (store, copy):
            with one.database.connect() as connection:
                for digest, said in ((first, "label"), (second, "ignore"), (last, "confirmed")):
                    mark(connection, digest, said)
            picks.append(pick(one.database, selection_of(asked), asked, 7))
    assert picks[0] == picks[1]
    assert first in {picks[0].picked[0], *picks[0].drawn}
    assert second not in picks[0].picked
