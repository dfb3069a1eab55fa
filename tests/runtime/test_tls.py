"""TLS on real servers: who gets in, what is read again, and what is said where nobody does."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path

import grpc
import pytest

from misgiving.collector.store import Store
from misgiving.runtime.client import Client
from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.net import tls
from misgiving.runtime.net.tls import read
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.outbox.uploader import Uploader
from misgiving.runtime.verbs.status import status
from shared.certificates import LOOPBACK, Authority
from shared.collecting import collecting, eventually, kept, offer
from shared.serving import BLACK, serving

CAR = "spiffe://fleet.example/car/7"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


@pytest.fixture
def own(tmp_path: Path, authority: Authority) -> Path:
    """Certificates of a server."""
    return authority.issue(tmp_path / "own", *LOOPBACK)


@pytest.fixture
def car(tmp_path: Path, authority: Authority) -> Path:
    """Those of a client."""
    return authority.issue(tmp_path / "car", CAR)


def gets_in(address: str, tls: Path | None) -> bool:
    with Client(address, wait_s=0, tls=tls) as client:
        try:
            return bool(client.infer(BLACK).persons)
        except FailedPrecondition:
            return False


def test_only_who_has_a_certificate_of_the_authority_gets_in(
    own: Path, car: Path, tmp_path: Path
) -> None:
    strange = Authority.new().issue(tmp_path / "strange", CAR)
    shutil.copy(own / "ca.crt", strange)  # it believes the server, and not the other way round
    nameless = tmp_path / "nameless"
    nameless.mkdir()
    shutil.copy(own / "ca.crt", nameless)
    with serving(tls=own) as server:
        assert gets_in(server.address, car)
        assert not gets_in(server.address, strange)
        assert not gets_in(server.address, nameless)
        assert not gets_in(server.address, None)


def test_a_server_without_an_authority_asks_for_no_certificate(own: Path, tmp_path: Path) -> None:
    client = tmp_path / "client"
    client.mkdir()
    (own / "ca.crt").rename(client / "ca.crt")
    with serving(tls=own) as server:
        assert gets_in(server.address, client)


def test_a_health_check_shows_the_servers_own_certificate(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a container there is no other."""
    with serving(tls=own) as server:
        code = status(server.address, tls=own)
        assert capsys.readouterr().out.startswith("health")
        with pytest.raises(FailedPrecondition, match="name certificates with --tls"):
            status(server.address)
    assert code in (0, 1)  # of a server that may still be loading


def test_a_server_of_another_name_or_authority_is_not_believed(
    own: Path, car: Path, tmp_path: Path, authority: Authority
) -> None:
    elsewhere = authority.issue(tmp_path / "elsewhere", "fleet.example")
    with (
        serving(tls=elsewhere) as server,
        Client(server.address, wait_s=0, tls=car) as client,
        pytest.raises(FailedPrecondition, match=r"expected a server with TLS .* names this"),
    ):
        client.model()
    Authority.new().issue(car, CAR)
    with serving(tls=own) as server:
        assert not gets_in(server.address, car)


@pytest.mark.parametrize("theirs", [True, False])
def test_tls_on_one_side_alone_is_one_line_that_says_so(own: Path, car: Path, theirs: bool) -> None:
    said = "Where it has TLS, name certificates with --tls" if theirs else "a server with TLS"
    with (
        serving(tls=own if theirs else None) as server,
        Client(server.address, wait_s=0, tls=None if theirs else car) as client,
        pytest.raises(FailedPrecondition, match=said) as caught,
    ):
        client.model()
    assert "\n" not in str(caught.value)


def test_certificates_are_read_again_without_a_restart(
    own: Path, car: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both sides move to another authority; who was connected stays so."""
    with serving(tls=own) as server, Client(server.address, wait_s=0, tls=car) as before:
        assert before.infer(BLACK).persons
        new = Authority.new()
        new.issue(own, *LOOPBACK)
        assert gets_in(server.address, new.issue(tmp_path / "new", CAR))
        assert not gets_in(server.address, car)
        assert before.infer(BLACK).persons
    assert any("read again" in record.message for record in caplog.records)


WORSE: dict[str, Callable[[Path], object]] = {
    "another's key": lambda own: shutil.copy(own.parent / "car" / "tls.key", own),
    "no key": lambda own: (own / "tls.key").unlink(),
    "junk": lambda own: (own / "tls.crt").write_text("junk"),
    "no authority any more": lambda own: (own / "ca.crt").unlink(),
    "junk for an authority": lambda own: (own / "ca.crt").write_text("junk"),
}


@pytest.mark.parametrize("name", WORSE)
def test_what_cannot_be_used_leaves_the_former_in_force(
    own: Path, car: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tls=own) as server:
        assert gets_in(server.address, car)
        WORSE[name](own)
        assert gets_in(server.address, car)
        assert not gets_in(server.address, None)
    warned = [record for record in caplog.records if "in force" in record.message]
    assert len(warned) == 1


def lacking_all(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lacking_all, "own holds no .*; expected tls.crt, tls.key and ca.crt"),
    "no folder": (shutil.rmtree, "own holds no"),
    "no key": (WORSE["no key"], "own holds no tls.key"),
    "another's key": (WORSE["another's key"], "tls.key is not the key of tls.crt"),
    "a key that is none": (lambda own: (own / "tls.key").write_text("x"), "is no private key"),
    "a certificate that is none": (WORSE["junk"], "tls.crt is no certificate"),
    "an authority that is none": (WORSE["junk for an authority"], "ca.crt is no certificate"),
    "a folder for a file": (
        lambda own: ((own / "tls.key").unlink(), (own / "tls.key").mkdir()),
        "tls.key cannot be read: Is a directory",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_is_one_line(own: Path, car: Path, name: str) -> None:
    spoil, said = UNUSABLE[name]
    spoil(own)
    for server in (True, False):
        with pytest.raises(FailedPrecondition, match=said) as caught:
            read(own, server=server)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("year", "said"), [(1970, "tls.crt is valid from 20"), (2999, "tls.crt expired at")]
)
def test_a_certificate_of_another_time_is_named(
    year: int,
    said: str,
    tmp_path: Path,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And used: the clock may be what is wrong."""
    folder = authority.issue(tmp_path / "own", CAR)
    assert read(folder, server=True).chain
    assert caplog.text == ""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return cls(year, 1, 1, tzinfo=tz)

    monkeypatch.setattr(tls, "datetime", Clock)
    assert read(folder, server=True).chain
    assert said in caplog.text


def test_a_spool_is_uploaded_with_certificates_that_came_later(
    own: Path, car: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Authority.new().issue(strange := tmp_path / "device", CAR)
    with Store(tmp_path / "store") as store, collecting(store, tls=own) as address:
        spool = Spool(tmp_path / "spool")
        uploader = Uploader(spool, address, first_wait_s=0.01, longest_wait_s=0.01, tls=strange)
        with caplog.at_level(logging.WARNING):
            uploader.start()
            offer(spool, replace(kept("a"), device_id=CAR))
            eventually(lambda: "trying on" in caplog.text)
            for name in ("tls.crt", "tls.key", "ca.crt"):
                shutil.copy(car / name, strange)
            eventually(lambda: "takes frames again" in caplog.text)
        uploader.stop(60)
        spool.close()
        assert store.count() == 1


def test_a_client_uses_certificates_that_came_later(
    own: Path, car: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once they are whole, and without a wait."""
    Authority.new().issue(device := tmp_path / "device", CAR)
    with serving(tls=own) as server, Client(server.address, wait_s=0, tls=device) as client:
        with pytest.raises(FailedPrecondition):
            client.infer(BLACK)
        shutil.copy(car / "tls.crt", device)
        with pytest.raises(FailedPrecondition):
            client.infer(BLACK)
        assert "tls.key is not the key of tls.crt" in caplog.text
        for name in ("tls.key", "ca.crt"):
            shutil.copy(car / name, device)
        assert client.infer(BLACK).persons
        Authority.new().issue(device, CAR)
        assert client.infer(BLACK).persons  # what works is left alone


def test_health_is_answered_to_who_comes_through_the_handshake(own: Path, car: Path) -> None:
    credentials = grpc.ssl_channel_credentials(
        *((car / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))
    )
    with serving(tls=own) as server, grpc.secure_channel(server.address, credentials) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=60) == b"\x08\x01"
