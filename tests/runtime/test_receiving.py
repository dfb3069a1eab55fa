"""A release on its way to a vehicle: resumed, verified, exchanged, and never tried twice."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from misgiving.collector.control import releases as releases_module
from misgiving.collector.control.control import Control
from misgiving.collector.control.releases import Releases
from misgiving.collector.store import Store
from misgiving.collector.store.tables import RELEASE_CHUNKS
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.trust import Trust
from misgiving.runtime.client import Client
from misgiving.runtime.control.link import Link
from misgiving.runtime.control.receiving import Receiving
from misgiving.runtime.control.shelf import Shelf
from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.settings.model import Settings
from misgiving.runtime.wire.releases import Release
from misgiving.runtime.wire.reports import ReleaseState
from runtime.commands import COMMAND, server
from runtime.trusting import Fleet
from shared.collecting import collecting, eventually

NAME = "bright-spots"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def announced(store: Store, fleet: Fleet, release: int) -> Release:
    return Releases(store.database).announce(fleet.packed(release), fleet.trusted)


class Answering:
    """What answers, as a test says: an exchanger has tests of its own."""

    name, release, last = NAME, 1, "the former answers again"

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.taken: list[Path] = []
        self.error: Exception | None = None

    def standing(self, digest: str) -> str:
        return self.states.get(digest, "")

    def take(self, path: Path) -> None:
        if self.error:
            raise self.error
        self.taken.append(path)
        self.states[path.stem] = "loading"


class Vehicle:
    def __init__(self, folder: Path, address: str, trusted: Path) -> None:
        self.shelf, self.answering = Shelf(folder), Answering()
        self.link = Link(address)
        self.receiving = Receiving(
            self.shelf,
            self.link,
            "van-7",
            lambda path: Bundle.load(path, Trust.read(trusted)).digest,
            self.answering,
        )

    def step(self, fetches: bool = True) -> ReleaseState | None:
        return self.receiving.step(fetches)


@pytest.fixture
def vehicle(tmp_path: Path, store: Store, fleet: Fleet) -> Iterator[Vehicle]:
    with collecting(store) as address:
        made = Vehicle(tmp_path / "released", address, fleet.trusted)
        yield made
        made.link.close()


def test_a_release_is_fetched_taken_and_proved(
    vehicle: Vehicle, store: Store, fleet: Fleet
) -> None:
    assert vehicle.step() is None
    made = announced(store, fleet, 2)
    assert vehicle.step(fetches=False) is None
    assert vehicle.step() == ReleaseState(made.digest, "loading")
    assert vehicle.answering.taken == [vehicle.shelf.current]
    for state in ("probation", "proved"):
        vehicle.answering.states[made.digest] = state
        assert vehicle.step() == ReleaseState(made.digest, state)
    assert len(vehicle.answering.taken) == 1


def test_what_was_cut_goes_on_at_its_byte(
    vehicle: Vehicle, store: Store, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases_module, "CHUNK_BYTES", 1000)
    made = announced(store, fleet, 2)
    lost = sa.delete(RELEASE_CHUNKS).where(RELEASE_CHUNKS.c.offset_bytes == 2000)
    with store.database.connect() as database:
        found = sa.select(RELEASE_CHUNKS).where(RELEASE_CHUNKS.c.offset_bytes == 2000)
        row = dict(database.execute(found).mappings().one())
        database.execute(lost)
    state = ReleaseState(made.digest, "fetching", f"2,000 of {made.size_bytes:,} bytes")
    assert vehicle.step() == state
    with store.database.connect() as database:
        database.execute(sa.insert(RELEASE_CHUNKS).values(row))
        # What is there is not sent again: it could not be.
        database.execute(sa.delete(RELEASE_CHUNKS).where(RELEASE_CHUNKS.c.offset_bytes < 2000))
    assert vehicle.step() == ReleaseState(made.digest, "loading")


def test_bytes_that_were_altered_are_refused(vehicle: Vehicle, store: Store, fleet: Fleet) -> None:
    made = announced(store, fleet, 2)
    with store.database.connect() as database:
        other = sa.update(RELEASE_CHUNKS).values(chunk=b"x" * made.size_bytes)
        database.execute(other.where(RELEASE_CHUNKS.c.offset_bytes == 0))
        database.execute(sa.delete(RELEASE_CHUNKS).where(RELEASE_CHUNKS.c.offset_bytes > 0))
    state = vehicle.step()
    assert state is not None
    assert state.state == "refused"
    assert "release has sha256" in state.why
    assert vehicle.answering.taken == []


def test_more_bytes_than_announced_are_refused(
    vehicle: Vehicle, store: Store, fleet: Fleet
) -> None:
    made = announced(store, fleet, 2)
    with store.database.connect() as database:
        row = {"digest": made.digest, "offset_bytes": 1 << 20, "chunk": b"more"}
        database.execute(sa.delete(RELEASE_CHUNKS).where(RELEASE_CHUNKS.c.offset_bytes == 1 << 20))
        database.execute(sa.insert(RELEASE_CHUNKS).values(row))
        short = sa.update(RELEASE_CHUNKS).where(RELEASE_CHUNKS.c.offset_bytes == 0)
        database.execute(short.values(chunk=b"x" * (1 << 20)))
    state = vehicle.step()
    assert state is not None
    assert "is longer than its" in state.why


def test_keys_of_the_vehicle_decide_and_once(
    tmp_path: Path, vehicle: Vehicle, store: Store, fleet: Fleet
) -> None:
    zipped = fleet.packed(2)
    made = Releases(store.database).announce(zipped, Path(f"{fleet.key}.pub"))
    fleet.revoke(made.digest)
    for _ in range(2):
        state = vehicle.step()
        assert state is not None
        assert state.state == "refused"
        assert "is revoked" in state.why
    assert vehicle.answering.taken == []
    assert list((tmp_path / "released").glob("*.zip")) == []


def test_an_older_release_than_answers_is_left_alone(
    vehicle: Vehicle, store: Store, fleet: Fleet
) -> None:
    announced(store, fleet, 1)
    assert vehicle.step() is None


def test_what_goes_back_is_not_tried_again(vehicle: Vehicle, store: Store, fleet: Fleet) -> None:
    first = announced(store, fleet, 2)
    vehicle.step()
    kept = vehicle.shelf.current
    vehicle.answering.states = {first.digest: "proved"}
    vehicle.step()
    second = announced(store, fleet, 3)
    vehicle.step()
    assert vehicle.shelf.current == vehicle.shelf.path(second.digest)
    Releases(store.database).halt(second.digest, "by hand")  # which takes it from nobody
    vehicle.answering.states = {first.digest: "proved"}
    for _ in range(2):
        state = vehicle.step()
        assert state == ReleaseState(second.digest, "back", "the former answers again")
    assert vehicle.shelf.current == kept
    assert len(vehicle.answering.taken) == 2


def test_what_is_refused_at_once_is_said(vehicle: Vehicle, store: Store, fleet: Fleet) -> None:
    vehicle.answering.error = FailedPrecondition("another model")
    made = announced(store, fleet, 2)
    state = ReleaseState(made.digest, "refused", "refused: another model")
    assert vehicle.step() == state
    assert vehicle.shelf.current is None


def test_a_damaged_shelf_is_empty(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.path("d").write_bytes(b"")
    shelf.choose("d")
    assert Shelf(tmp_path).current == tmp_path / "d.zip"
    (tmp_path / "shelf.json").write_text("{")
    assert Shelf(tmp_path).current is None


def test_releases_need_keys_and_a_collector() -> None:
    spool = {"folder": Path("spool"), "collector": "127.0.0.1:1"}
    with pytest.raises(ValueError, match="Add --trust DIR"):
        Settings.model_validate({"spool": spool, "fleet": {"releases": Path("released")}})
    for asked in ({"releases": Path("released")}, {"campaigns": True}):
        with pytest.raises(ValueError, match="Add --collector HOST:PORT"):
            Settings.model_validate({"fleet": asked})


def test_a_server_exchanges_its_bundle_and_starts_with_it(
    tmp_path: Path, store: Store, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISGIVING_STATE", str(tmp_path / "state"))
    own = fleet.packed(1)
    Releases(store.database).announce(fleet.packed(2, version="1.5"), fleet.trusted)
    file = tmp_path / "misgiving.toml"
    file.write_text(
        '[server]\ndevice_id = "van-7"\n[spool]\nfolder = "spool"\n[fleet]\nreleases = "released"\n'
    )
    options = ("--config", file, "--threads", 1, "--trust", fleet.trusted, "--bundle", own)
    with collecting(store) as collector:
        with server(*options, "--collector", collector) as (process, address):
            with Client(address) as client:
                eventually(lambda: client.model().version == "1.5")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        (run,) = Control(store.database).runs()
    assert run.report.release is not None
    assert run.report.release.state == "probation"
    # Without a collector it starts with what was released, unless that is refused by then.
    assert _version(*options, "--collector", collector) == "1.5"
    fleet.revoke(run.report.release.digest)
    assert _version(*options, "--collector", collector) == "1"


def _version(*options: object) -> str:
    """Of the bundle that a server starts with."""

    command = [*COMMAND, "serve", "--listen", "127.0.0.1:0", *map(str, options)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            return next(line.split()[2] for line in lines if line.startswith("serving "))
        finally:
            process.kill()
