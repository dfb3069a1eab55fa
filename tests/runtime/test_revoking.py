"""Revocations travel: only a key that a vehicle trusts revokes, once and for good."""

import signal
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from misgiving.collector.control.cli import app
from misgiving.collector.control.control import Control
from misgiving.collector.control.releases import Releases
from misgiving.collector.control.revoking import Revoking as Announcing
from misgiving.collector.control.revoking import Said
from misgiving.collector.store import Store
from misgiving.collector.store.tables import REVOCATIONS
from misgiving.runtime.bundles import floor, revoked
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.revocations import (
    MAX_BYTES,
    Revocations,
    SignedList,
    check_revocations,
    mind,
    parse_revocations,
    sign_revocations,
)
from misgiving.runtime.bundles.trust import Trust
from misgiving.runtime.control.link import Link
from misgiving.runtime.control.revoking import Revoking
from misgiving.runtime.errors import BundleError, DataError, FailedPrecondition
from misgiving.runtime.wire.reports import RevocationsState, Running
from runtime.commands import COMMAND, server
from runtime.trusting import Fleet, P256Fleet
from shared.collecting import collecting, eventually
from shared.reporting import report
from shared.serving import serving

BAD = "d" * 64


@pytest.fixture(autouse=True)
def _state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MISGIVING_STATE", str(tmp_path / "state"))
    caplog.set_level("WARNING", "misgiving")


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def listed(fleet: Fleet, *lines: str, key: Path | None = None) -> Path:
    """A list that a key has signed."""
    path = fleet.folder / "revoked.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    Path(f"{path}.sig").unlink(missing_ok=True)
    sign_revocations(path, key or fleet.key)
    return path


def signed(fleet: Fleet, *lines: str, key: Path | None = None) -> SignedList:
    return SignedList.read(listed(fleet, *lines, key=key))


def test_what_a_list_says() -> None:
    text = f"# of May\n{BAD}  # it is slow\n\nfloor bright spots 7\nfloor bright spots 3\n"
    assert parse_revocations(text.encode(), "l") == Revocations(
        frozenset({BAD}), {"bright spots": 7}
    )


@pytest.mark.parametrize("text", ["", "# nothing", "soon", "floor 7", "floor a -1", BAD[1:]])
def test_lists_that_say_nothing_or_what_nobody_understands(text: str) -> None:
    with pytest.raises(FailedPrecondition, match=r"expected (ids of keys|the id of a key)"):
        parse_revocations(text.encode(), "l")


@pytest.mark.parametrize("kind", [Fleet, P256Fleet])
def test_a_trusted_key_revokes(kind: type[Fleet], tmp_path: Path) -> None:
    fleet = kind(tmp_path)
    key = fleet.pem if isinstance(fleet, P256Fleet) else fleet.key
    trust = Trust.read(fleet.trusted)
    one = signed(fleet, BAD, key=key)
    assert check_revocations(one, trust, "l").revoked == {BAD}
    for other in (
        SignedList(one.text.replace(b"d", b"e"), one.signatures),
        SignedList(one.text, b""),
        SignedList(one.text, b"junk\n" + one.signatures[:-9]),
        signed(fleet, BAD, key=fleet.other),
    ):
        with pytest.raises(BundleError, match="no valid signature by a trusted key"):
            check_revocations(other, trust, "l")


def test_another_signature_beside_it_spoils_nothing(fleet: Fleet) -> None:
    path = listed(fleet, BAD, key=fleet.other)
    sign_revocations(path, fleet.key)
    one = SignedList.read(path)
    assert one.signatures.count(b"\n") == 2
    assert check_revocations(one, Trust.read(fleet.trusted), "l").revoked == {BAD}


def test_a_key_that_is_revoked_revokes_nothing(fleet: Fleet) -> None:
    fleet.trust(fleet.other)
    mind(Revocations(frozenset({fleet.id}), {}))
    with pytest.raises(BundleError, match=f"expected one by one of {fleet.other_id}"):
        check_revocations(signed(fleet, BAD), Trust.read(fleet.trusted), "l")


def test_a_signature_of_a_bundle_is_none_of_a_list(fleet: Fleet) -> None:
    fleet.sign()
    manifest = (fleet.bundle / "manifest.json").read_bytes()
    forged = SignedList(manifest, (fleet.bundle / "manifest.sig").read_bytes())
    with pytest.raises(BundleError, match="no valid signature"):
        check_revocations(forged, Trust.read(fleet.trusted), "l")


def test_a_list_that_is_too_long(fleet: Fleet) -> None:
    with pytest.raises(FailedPrecondition, match="longer than 65,536 bytes"):
        check_revocations(SignedList(b"#" * (MAX_BYTES + 1), b""), Trust.read(fleet.trusted), "l")


def test_what_is_minded_stays_and_floors_only_rise(fleet: Fleet) -> None:
    fleet.edit(release=5)
    fleet.sign()
    assert Bundle.load(fleet.bundle, Trust.read(fleet.trusted)).manifest.release == 5
    assert mind(Revocations(frozenset({BAD}), {"bright-spots": 6}))
    assert not mind(Revocations(frozenset({BAD}), {"bright-spots": 2}))  # an older list, again
    assert mind(Revocations(frozenset({"e" * 64}), {}))
    assert revoked.read() == {BAD, "e" * 64}
    assert floor.read() == {"bright-spots": 6}
    with pytest.raises(BundleError, match="takes no older one"):
        Bundle.load(fleet.bundle, Trust.read(fleet.trusted))


def test_a_damaged_memory_is_said_and_stops_nobody(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    mind(Revocations(frozenset({BAD}), {}))
    (floor.state_folder() / "revoked").write_text("junk")
    assert Trust.read(fleet.trusted).revoked == frozenset()
    assert "count as none until they come again" in caplog.text


def test_a_state_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(FailedPrecondition, match="Name one by MISGIVING_STATE"):
        mind(Revocations(frozenset({BAD}), {}))


def step(address: str, fleet: Fleet) -> RevocationsState | None:
    """Of a vehicle that has just started."""
    link = Link(address)
    try:
        return Revoking(link, "van-7", lambda: Trust.read(fleet.trusted)).step(True)
    finally:
        link.close()


def test_a_vehicle_minds_what_its_collector_hands_out(store: Store, fleet: Fleet) -> None:
    announcing = Announcing(store.database)
    with collecting(store) as address:
        link = Link(address)
        vehicle = Revoking(link, "van-7", lambda: Trust.read(fleet.trusted))
        assert vehicle.step(True) is None
        first, _ = announcing.announce(listed(fleet, BAD), fleet.trusted)
        assert vehicle.step(False) is None
        for _ in range(2):
            assert vehicle.step(True) == RevocationsState(first.sha256)
        assert link.revocations("van-7", "") == first
        assert link.revocations("van-7", first.sha256) is None
        second, _ = announcing.announce(listed(fleet, BAD, fleet.other_id), fleet.trusted)
        assert vehicle.step(True) == RevocationsState(second.sha256)
        link.close()
    assert Trust.read(fleet.trusted).revoked == {BAD, fleet.other_id}


def test_whoever_has_the_collector_revokes_nothing(
    store: Store, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    announcing = Announcing(store.database)
    announced, _ = announcing.announce(listed(fleet, BAD, "floor bright-spots 3"), fleet.trusted)
    with collecting(store) as address:
        assert step(address, fleet) == RevocationsState(announced.sha256)
        forged = signed(fleet, fleet.id, "floor bright-spots 9", key=fleet.other)
        row = {"sha256": forged.sha256, "list": forged.text, "signatures": forged.signatures}
        with store.database.connect() as database:
            later = sa.insert(REVOCATIONS).values(announced_time_unix_nano=2**62, **row)
            database.execute(later)
        state = step(address, fleet)
    assert state is not None
    assert state.sha256 == forged.sha256
    assert "no valid signature by a trusted key" in state.refusal
    assert "revocations are refused" in caplog.text
    running = Running("bright-spots", "1", BAD, "onnxruntime", 0.5)
    Control(store.database).add(report(revocations=state, running=running), 1)
    assert announcing.said(forged) == Said(0, {state.refusal: 1}, 0)
    assert announcing.said(announced) == Said(0, {}, 1)
    assert revoked.read() == {BAD}
    assert floor.read() == {"bright-spots": 3}


def test_a_collector_of_before_knows_none(fleet: Fleet) -> None:
    with serving() as older:  # of ours, and without this service
        assert step(older.address, fleet) is None


def test_what_is_not_announced(store: Store, fleet: Fleet) -> None:
    announcing = Announcing(store.database)
    with pytest.raises(BundleError, match="no valid signature"):
        announcing.announce(listed(fleet, BAD, key=fleet.other), fleet.trusted)
    announcing.announce(listed(fleet, BAD, "floor a 7"), fleet.trusted)
    for lines, lacking in (([BAD, "floor a 6"], "floor a 7"), (["floor a 8"], BAD)):
        with pytest.raises(DataError, match=f"lacks {lacking}, which was announced before"):
            announcing.announce(listed(fleet, *lines), fleet.trusted)
    again, _ = announcing.announce(listed(fleet, BAD, "floor a 7"), fleet.trusted)
    assert announcing.newest() == again


def test_releases_that_are_revoked_go_to_nobody(store: Store, fleet: Fleet) -> None:
    releases, announcing = Releases(store.database), Announcing(store.database)
    three, four = (releases.announce(fleet.packed(n), fleet.trusted) for n in (3, 4))
    announcing.announce(listed(fleet, four.digest), fleet.trusted)
    assert [one.halted for one in releases.announced()] == ["", "revoked"]
    assert releases.release_of("van-7", three.name) == three
    announcing.announce(listed(fleet, four.digest, "floor bright-spots 7"), fleet.trusted)
    assert [one.halted for one in releases.announced()] == ["revoked", "revoked"]
    with pytest.raises(BundleError, match="takes no older one"):
        releases.announce(fleet.packed(6), fleet.trusted)
    seven = fleet.packed(7)
    said = (four.digest, Bundle.load(seven).digest, "floor bright-spots 7")
    announcing.announce(listed(fleet, *said), fleet.trusted)
    with pytest.raises(BundleError, match="is revoked"):
        releases.announce(seven, fleet.trusted)


def test_a_server_minds_them_and_does_not_start_again(
    tmp_path: Path, store: Store, fleet: Fleet
) -> None:
    fleet.sign()
    digest = Bundle.load(fleet.bundle).digest
    announced, _ = Announcing(store.database).announce(listed(fleet, digest), fleet.trusted)
    options = ("--threads", 1, "--trust", fleet.trusted, "--bundle", fleet.bundle)
    with collecting(store) as collector:
        sends = ("--collector", collector, "--spool", tmp_path / "spool")
        with server(*options, *sends) as (process, _):
            eventually(lambda: revoked.read() == {digest})
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    (run,) = Control(store.database).runs()
    assert run.report.revocations == RevocationsState(announced.sha256)
    assert Announcing(store.database).said(announced) == Said(1, {}, 1)
    command = [*COMMAND, "serve", "--listen", "127.0.0.1:0", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "is revoked (digest" in done.stderr


def test_the_verbs(fleet: Fleet, store: Store) -> None:
    def said(*words: object) -> str:
        done = CliRunner().invoke(app, ["revocations", *map(str, words)])
        assert done.exit_code == 0, done.output
        return done.output

    path = fleet.folder / "revoked.txt"
    path.write_text(f"{BAD}\nfloor bright-spots 3\n")
    of = ("--store", fleet.folder / "store")
    assert said("list", *of) == "nothing is revoked\n"
    assert said("sign", path, "--key", fleet.key).startswith(f"{path} signed by key {fleet.id}")
    announced = said("announce", path, *of, "--trust", fleet.trusted)
    assert "answer with" not in announced
    running = Running("bright-spots", "1", BAD, "onnxruntime", 0.5)
    Control(store.database).add(report(running=running), 1)
    announced = said("announce", path, *of, "--trust", fleet.trusted)
    assert "1 vehicles answer with a bundle of it" in announced
    assert "keys and bundles: 1, floors: 1" in announced
    lines = said("list", *of).splitlines()
    assert lines[:2] == [BAD, "floor bright-spots 3"]
    assert "mind it: 0, that refuse it: 0; that answer with a bundle of it: 1" in lines[2]
