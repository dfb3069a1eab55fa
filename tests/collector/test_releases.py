"""Bundles released ring by ring: who gets them, what halts them, and that the bytes come whole."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from misgiving.collector.control import releases as releases_module
from misgiving.collector.control.cli import app
from misgiving.collector.control.control import Control
from misgiving.collector.control.releases import Releases
from misgiving.collector.control.rings import in_ring, place_of, why_halt
from misgiving.collector.store import Store
from misgiving.collector.store.tables import RELEASES
from misgiving.runtime.control.link import Link
from misgiving.runtime.errors import BundleError, DataError, FailedPrecondition, NotFound
from misgiving.runtime.wire.releases import Release
from misgiving.runtime.wire.reports import ReleaseState, Report, Running, serialised
from runtime.trusting import Fleet
from shared.collecting import collecting
from shared.reporting import HOUR_NS, report

FLEET = [f"van-{number}" for number in range(1000)]
CANARY = min(FLEET, key=place_of)
LAST = max(FLEET, key=place_of)


@pytest.mark.parametrize(
    ("share", "least", "most"), [(0.01, 3, 20), (0.1, 70, 130), (1, 1000, 1000)]
)
def test_a_ring_is_a_share_of_the_fleet(share: float, least: int, most: int) -> None:
    members = [name for name in FLEET if in_ring(name, share, FLEET)]
    assert least <= len(members) <= most
    assert CANARY in members


def test_rings_grow_around_the_same_devices() -> None:
    one, ten = ({name for name in FLEET if in_ring(name, share, FLEET)} for share in (0.01, 0.1))
    assert one < ten


@pytest.mark.parametrize("count", [1, 2, 30, 99])
def test_a_small_fleet_has_a_canary(count: int) -> None:
    fleet = [name for name in FLEET if place_of(name) >= 0.01][:count]
    assert sum(in_ring(name, 0.01, fleet) for name in fleet) == 1


def test_a_device_that_is_alone_and_new_is_the_canary() -> None:
    assert in_ring(LAST, 0.01, [])


def says(device_id: str, state: str, digest: str = "d", **fields: object) -> Report:
    return report(device_id=device_id, release=ReleaseState(digest, state), **fields)


def of(digest: str) -> dict[str, object]:
    """That live scores have left the reference of this bundle."""
    return {"drifting": True, "running": Running("n", "1", digest, "e", 0.5)}


DRIFTS = of("d")
GOOD = [says(f"van-{number}", "proved") for number in range(40)]


@pytest.mark.parametrize(
    ("reports", "halts"),
    [
        ([], False),
        (GOOD, False),
        ([says("a", "probation"), says("b", "fetching")], False),
        ([says("a", "back")], True),
        ([says("a", "refused")], True),
        ([says("a", "proved", **DRIFTS)], True),
        ([report(**DRIFTS)], False),  # drifted before, without the release
        ([says("a", "back", digest="another")], False),
        ([*GOOD, says("a", "back")], False),  # one of 41
        ([*GOOD[:19], says("a", "back")], True),  # one of 20
    ],
)
def test_what_halts_a_release(reports: list[Report], halts: bool) -> None:
    assert bool(why_halt("d", reports)) == halts


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.fixture
def releases(store: Store) -> Releases:
    return Releases(store.database)


def running(device_id: str, name: str, **fields: object) -> Report:
    return report(device_id=device_id, running=Running(name, "1", "old", "e", 0.5), **fields)


def test_a_release_goes_from_ring_to_ring(fleet: Fleet, store: Store, releases: Releases) -> None:
    made = releases.announce(fleet.packed(7), fleet.trusted)
    control = Control(store.database)
    for device_id in (CANARY, LAST):
        control.add(running(device_id, made.name), 1)
    assert releases.release_of(CANARY, made.name) == made
    assert releases.release_of(LAST, made.name) is None
    assert releases.release_of(CANARY, "another") is None
    with pytest.raises(FailedPrecondition, match="no device has proved"):
        releases.advance(made.digest[:8])
    proved = ReleaseState(made.digest, "proved")
    control.add(running(CANARY, made.name, sequence=2, release=proved), 2)
    assert releases.advance(made.digest[:8]) == 0.1
    assert releases.release_of(LAST, made.name) is None
    assert releases.advance(made.digest[:8]) == 1
    assert releases.release_of(LAST, made.name) == made
    later = releases.announce(fleet.packed(8), fleet.trusted)
    assert [releases.release_of(x, made.name) for x in (CANARY, LAST)] == [later, made]
    releases.halt(later.digest, "by hand")
    assert releases.release_of(CANARY, made.name) == made
    with pytest.raises(FailedPrecondition, match="all have release"):
        releases.advance(made.digest)
    with pytest.raises(NotFound, match="0 releases"):
        releases.advance("no")


def test_a_canary_that_goes_back_halts_it(
    fleet: Fleet, store: Store, releases: Releases, caplog: pytest.LogCaptureFixture
) -> None:
    made = releases.announce(fleet.packed(7), fleet.trusted)
    with collecting(store) as address:
        link = Link(address)
        bad = running(CANARY, made.name, release=ReleaseState(made.digest, "back", "is slow"))
        link.report(serialised(bad))
        link.close()
    assert releases.release_of(CANARY, made.name) is None
    (one,) = releases.announced()
    assert one.halted == f"1 of 1 devices: {CANARY} says: is slow"
    assert "is halted" in caplog.text
    with pytest.raises(FailedPrecondition, match="is halted"):
        releases.advance(made.digest)
    later = releases.announce(fleet.packed(8), fleet.trusted)
    assert releases.release_of(CANARY, made.name) == later


def test_a_release_advances_by_itself_where_it_may(
    fleet: Fleet, store: Store, releases: Releases
) -> None:
    by_hand = releases.announce(fleet.packed(6), fleet.trusted)
    made = releases.announce(fleet.packed(7), fleet.trusted, 24)
    began = time.time_ns()
    proved, bad = (says(CANARY, state, made.digest) for state in ("proved", "back"))
    day = 24 * HOUR_NS

    def ring() -> int:
        return releases.announced()[1].ring

    for report_, now in (
        (proved, began + day - HOUR_NS),  # too soon
        (says(CANARY, "probation", made.digest), began + day),
        (says(CANARY, "proved", by_hand.digest), began + day),
        (says(CANARY, "proved", made.digest, **of(made.digest)), began + day),  # drifts
        (bad, began + day),
        (report(), began + day),
    ):
        assert releases.advance_due(report_, now) == ""
    assert ring() == 0
    said = releases.advance_due(proved, began + day)
    assert said == f"release 1 of {made.name} goes to 10% of the vehicles"
    assert releases.advance_due(proved, began + 2 * day - HOUR_NS) == ""  # each ring has its hours
    assert ring() == 1
    with ThreadPoolExecutor(4) as collectors:  # which get such reports at once
        every = collectors.map(lambda _: releases.advance_due(proved, began + 2 * day), range(4))
        assert len([one for one in every if one]) == 1
    assert ring() == 2
    assert releases.advance_due(proved, began + 9 * day) == ""
    assert releases.announced()[0].ring == 0


def test_a_release_that_is_halted_does_not_advance(
    fleet: Fleet, store: Store, releases: Releases
) -> None:
    made = releases.announce(fleet.packed(7), fleet.trusted, 1)
    releases.halt(made.digest, "by hand")
    later = time.time_ns() + 2 * HOUR_NS
    assert releases.advance_due(says(CANARY, "proved", made.digest), later) == ""
    assert releases.announced()[0].ring == 0


def test_a_report_that_comes_advances_it(
    fleet: Fleet, store: Store, releases: Releases, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "misgiving")
    made = releases.announce(fleet.packed(7), fleet.trusted, 0.01)
    with store.database.connect() as database:
        database.execute(sa.update(RELEASES).values(ring_time_unix_nano=1))
    proved = running(CANARY, made.name, release=ReleaseState(made.digest, "proved"))
    with collecting(store) as address:
        link = Link(address)
        link.report(serialised(proved))
        link.close()
    assert releases.announced()[0].ring == 1
    assert "goes to 10% of the vehicles" in caplog.text


def test_bytes_of_old_releases_are_deleted(fleet: Fleet, store: Store, releases: Releases) -> None:
    def with_all(made: Release) -> None:
        Control(store.database).add(
            running(CANARY, made.name, sequence=made.release, release=proved(made)), 1
        )
        releases.advance(made.digest)
        releases.advance(made.digest)

    def proved(made: Release) -> ReleaseState:
        return ReleaseState(made.digest, "proved")

    def dropped() -> list[int]:
        for one in releases.announced():
            there = any(True for _ in chunks_of(one.release.digest))
            assert there != one.dropped
        return [one.release.release for one in releases.announced() if one.dropped]

    def chunks_of(digest: str) -> Iterator[bytes]:
        try:
            yield from releases.read(digest, 0)
        except NotFound:
            return

    made = {}
    for release in range(1, 6):
        made[release] = releases.announce(fleet.packed(release), fleet.trusted)
    assert dropped() == []  # vehicles that are in no ring of a later one may get any
    releases.halt(made[1].digest, "by hand")
    made[6] = releases.announce(fleet.packed(6), fleet.trusted)
    assert dropped() == [1]
    with_all(made[5])
    assert dropped() == [1, 2, 3]  # the newest three stay
    with_all(made[6])
    assert dropped() == [1, 2, 3]
    for release in (6, 5, 4):
        releases.halt(made[release].digest, "by hand")
    assert releases.release_of(CANARY, made[6].name) is None  # there is nothing to give
    with pytest.raises(NotFound, match="or an old one"):
        next(releases.read(made[2].digest, 0))


def test_bytes_come_whole_from_any_place(
    fleet: Fleet, store: Store, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases_module, "CHUNK_BYTES", 1000)
    zipped = fleet.packed(7)
    made = releases.announce(zipped, fleet.trusted)
    body = zipped.read_bytes()
    assert made.size_bytes == len(body) > 3000
    with collecting(store) as address:
        link = Link(address)
        for at in (0, 1, 999, 1000, 2500, len(body) - 1, len(body)):
            assert b"".join(link.read("van-7", made.digest, at, 60)) == body[at:]
        with pytest.raises(grpc.RpcError, match="is no release"):
            list(link.read("van-7", "no", 0, 60))
        assert link.release(CANARY, made.name) == made
        link.close()


def test_what_is_not_announced(fleet: Fleet, releases: Releases) -> None:
    zipped = fleet.packed(7)
    with pytest.raises(DataError, match="Pack it"):
        releases.announce(fleet.bundle, fleet.trusted)
    with pytest.raises(BundleError, match="is signed by key"):
        releases.announce(zipped, Path(f"{fleet.other}.pub"))
    releases.announce(zipped, fleet.trusted)
    for again in (zipped, fleet.packed(6)):
        with pytest.raises(DataError, match="expected a later one"):
            releases.announce(again, fleet.trusted)


def test_the_verbs(fleet: Fleet, tmp_path: Path) -> None:
    with Store(tmp_path / "store"):
        pass

    def said(*words: object) -> str:
        words = ("release", *words, "--store", tmp_path / "store")
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.stdout

    announced = said("announce", fleet.packed(7), "--trust", fleet.trusted)
    assert announced.startswith("release 1 of bright-spots (")
    digest = announced.split("(")[1][:12]
    assert said("list") == f"{digest} bright-spots 1, ring of 1%: no device yet\n"
    said("halt", digest)
    assert said("list").endswith("HALTED: by hand\n")
