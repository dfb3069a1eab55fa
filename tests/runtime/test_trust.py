"""A runtime with keys takes what they signed, and nothing else; every refusal is one line."""

import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from misgiving.runtime.bundles import bundle as bundles
from misgiving.runtime.bundles import floor
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.keys import id_of, new_key, read_private, read_public
from misgiving.runtime.bundles.releasing import pack_bundle, sign_bundle
from misgiving.runtime.bundles.trust import TRUST_VARIABLE, Trust, sign
from misgiving.runtime.engines.loading import ModelOptions, load
from misgiving.runtime.errors import BundleError, DataError, FailedPrecondition, MisgivingError
from runtime.trusting import Fleet


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv(floor.STATE_VARIABLE, str(tmp_path / "state"))
    monkeypatch.delenv(TRUST_VARIABLE, raising=False)
    return Fleet(tmp_path)


def at(monkeypatch: pytest.MonkeyPatch, day: str) -> None:
    """Let the clock say that it is that day."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return cls.fromisoformat(f"{day}+00:00")

    monkeypatch.setattr(bundles, "datetime", Clock)


def flip(path: Path, at: int = -2) -> None:
    data = bytearray(path.read_bytes())
    data[at] = ord("1") if data[at] != ord("1") else ord("2")
    path.write_bytes(data)


def add(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


TAKEN: dict[str, Callable[[Fleet], object]] = {
    "signed": lambda f: f.sign(),
    "by two, of whom one is trusted": lambda f: (f.sign(f.other), f.sign()),
    "by two trusted ones, of whom one is revoked": lambda f: (
        f.trust(f.other),
        f.sign(f.other),
        f.sign(),
        f.revoke(f.other_id),
    ),
    "twice by the same": lambda f: (f.sign(), f.sign()),
    "another key and another bundle are revoked": lambda f: (
        f.sign(),
        f.revoke("# stolen in May", f.other_id, "", "0" * 64 + " # a bad one"),
    ),
    "not yet expired": lambda f: (f.edit(expires="2999-12-31"), f.sign()),
    "at the floor": lambda f: (f.edit(release=7), f.sign(), floor.rise("bright-spots", 7)),
    "another model has a higher floor": lambda f: (f.sign(), floor.rise("others", 99)),
}


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("packed", [False, True])
def test_taken(fleet: Fleet, name: str, packed: bool) -> None:
    TAKEN[name](fleet)
    path = fleet.bundle
    if packed:
        pack_bundle(fleet.bundle, path := fleet.folder / "bundle.zip")
    loaded, engine = load(ModelOptions(bundle=path, threads=1, trust=fleet.trusted))
    assert loaded.signed_by == fleet.id
    assert engine.provider.kind == "onnxruntime"


def other_signature(fleet: Fleet) -> None:
    """Of the trusted key, but over another manifest."""
    fleet.sign()
    fleet.edit(release=2)


REFUSED: dict[str, tuple[Callable[[Fleet], object], str]] = {
    "not signed": (
        lambda f: None,
        "bundle is not signed; expected manifest.sig or model.sig by one",
    ),
    "an unknown key": (lambda f: f.sign(f.other), "; expected one of"),
    "a key that was trusted once": (
        lambda f: (f.sign(), (f.trusted / "release.key.pub").unlink(), f.trust(f.other)),
        "; expected one of",
    ),
    "a revoked key": (lambda f: (f.sign(), f.revoke(f.id)), "which is revoked"),
    "the only key revoked, nothing signed": (lambda f: f.revoke(f.id), "all of ours are revoked"),
    "a revoked bundle": (
        lambda f: (f.sign(), f.revoke(Bundle.load(f.bundle).digest)),
        "bundle is revoked (digest",
    ),
    "another manifest's signature": (other_signature, "was altered after key"),
    "a bit of the signature": (
        lambda f: (f.sign(), flip(f.bundle / "manifest.sig")),
        "was altered after key",
    ),
    "a signature under a trusted key's name": (
        lambda f: (
            f.sign(f.other),
            (f.bundle / "manifest.sig").write_text(
                (f.bundle / "manifest.sig").read_text().replace(f.other_id, f.id)
            ),
        ),
        "was altered after key",
    ),
    "a signature cut short": (
        lambda f: (f.sign(), (f.bundle / "manifest.sig").write_bytes(b"0123456789abcdef 00")),
        "manifest.sig is damaged",
    ),
    "a signature with something below it": (
        lambda f: (f.sign(), add(f.bundle / "manifest.sig", "junk\n")),
        "manifest.sig is damaged",
    ),
    "an empty signature": (
        lambda f: (f.bundle / "manifest.sig").write_bytes(b""),
        "manifest.sig is damaged",
    ),
    "junk as a signature": (
        lambda f: (f.bundle / "manifest.sig").write_bytes(b"\0\xff" * 99),
        "manifest.sig is damaged",
    ),
    "a signature without end": (
        lambda f: (f.bundle / "manifest.sig").write_bytes(b"0" * (1 << 17)),
        "no plain file of at most 65,536 bytes",
    ),
    "an altered graph": (lambda f: (f.sign(), flip(f.bundle / "model.onnx")), "was altered"),
    "a file too many": (
        lambda f: (f.sign(), (f.bundle / "extra.so").write_bytes(b"")),
        "extra.so, which its manifest does not list",
    ),
    "expired": (
        lambda f: (f.edit(expires="2026-01-01"), f.sign()),
        "expired at the end of 2026-01-01",
    ),
    "below the floor": (
        lambda f: (f.edit(release=6), f.sign(), floor.rise("bright-spots", 7)),
        "is release 6 of bright-spots; this device has proved release 7",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(fleet: Fleet, name: str) -> None:
    spoil, said = REFUSED[name]
    spoil(fleet)
    with pytest.raises(BundleError) as caught:
        load(ModelOptions(bundle=fleet.bundle, threads=1, trust=fleet.trusted))
    message = str(caught.value).replace(str(fleet.folder), "")  # which has the test's name
    assert said in message
    assert "\n" not in message


def test_a_signature_comes_before_anything_is_parsed(fleet: Fleet) -> None:
    fleet.sign()
    (fleet.bundle / "manifest.json").write_bytes(b"[" * 100_000)
    with pytest.raises(BundleError, match="was altered after key"):
        Bundle.load(fleet.bundle, Trust.read(fleet.trusted))


def test_without_keys_everything_is_taken(fleet: Fleet) -> None:
    fleet.edit(expires="2020-01-01")
    assert load(ModelOptions(bundle=fleet.bundle, threads=1))[0].signed_by is None


def test_the_environment_names_keys_too(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRUST_VARIABLE, str(fleet.trusted))
    with pytest.raises(BundleError, match="is not signed"):
        load(ModelOptions(bundle=fleet.bundle))
    monkeypatch.setenv(TRUST_VARIABLE, str(fleet.folder / "gone"))  # a typing error trusts nobody
    with pytest.raises(FailedPrecondition, match="gone cannot be read"):
        load(ModelOptions(bundle=fleet.bundle))


@pytest.mark.parametrize(
    ("day", "taken"),
    [
        ("2026-11-22 12:00", True),
        ("2027-03-01 23:59", True),  # the last day counts whole
        ("2027-03-02 00:00", False),
        ("1970-01-01 00:00", True),  # a car that has no time yet
        ("2099-01-01 00:00", False),  # a clock that runs ahead: the message says what it shows
    ],
)
def test_expiry_by_the_clock(
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    day: str,
    taken: bool,
) -> None:
    fleet.edit(expires="2027-03-01")
    fleet.sign()
    at(monkeypatch, day)
    if taken:
        Bundle.load(fleet.bundle, Trust.read(fleet.trusted))
    else:
        with pytest.raises(BundleError, match=f"this clock says {day} UTC"):
            Bundle.load(fleet.bundle, Trust.read(fleet.trusted))
    assert ("expiry is not judged" in caplog.text) == day.startswith("1970")


def test_what_is_read_later_is_hashed_again(fleet: Fleet) -> None:
    """Between the check and the engine somebody changes a file: nothing of it is used."""
    loaded = Bundle.load(fleet.bundle)
    sound = (fleet.bundle / "model.onnx").read_bytes()
    assert loaded.read("model.onnx") == sound
    flip(fleet.bundle / "model.onnx")
    with pytest.raises(BundleError, match="was altered"):
        loaded.read("model.onnx")


KEYS = [
    ("", "is not a public key"),
    ("ed25519 00", "is not a public key"),
    ("ed25519 " + "g" * 64, "is not a public key"),
    ("ed25519-private " + "0" * 64, "is not a public key"),  # the wrong half was copied
    ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "is not a public key"),
    ("ed25519 " + "0" * 64 + "\ned25519 " + "1" * 64, "is not a public key"),  # one a file
]


@pytest.mark.parametrize(("text", "said"), KEYS)
def test_a_trusted_key_that_is_none(fleet: Fleet, text: str, said: str) -> None:
    (fleet.trusted / "new.pub").write_text(text)
    with pytest.raises(FailedPrecondition, match=said):
        Trust.read(fleet.trusted)


@pytest.mark.parametrize("line", ["release.key", "0" * 15, "0" * 40, f"{'0' * 16} {'1' * 16}"])
def test_a_revocation_that_cannot_be_read_is_not_passed_over(fleet: Fleet, line: str) -> None:
    fleet.revoke("# first", line)
    with pytest.raises(FailedPrecondition, match="expected the id of a key"):
        Trust.read(fleet.trusted)


def test_a_key_may_be_commented(fleet: Fleet) -> None:
    text = (fleet.trusted / "release.key.pub").read_text().strip()
    (fleet.trusted / "release.key.pub").write_text(f"{text} build server, 2026\n")
    assert list(Trust.read(fleet.trusted).keys) == [fleet.id]


def test_private_keys_are_private(fleet: Fleet) -> None:
    assert fleet.key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FailedPrecondition, match="no key is overwritten"):
        new_key(fleet.key)
    for mode in (0o640, 0o604, 0o660):
        fleet.key.chmod(mode)
        with pytest.raises(FailedPrecondition, match="may be read by other users"):
            fleet.sign()
    fleet.key.chmod(0o600)
    assert fleet.sign() == fleet.id


def test_a_public_key_does_not_sign(fleet: Fleet) -> None:
    public = fleet.folder / "release.key.pub"
    public.chmod(0o600)
    with pytest.raises(FailedPrecondition, match="is not a private key"):
        fleet.sign(public)


def test_only_whole_bundles_are_signed(fleet: Fleet) -> None:
    pack_bundle(fleet.bundle, fleet.folder / "bundle.zip")
    with pytest.raises(DataError, match="Sign that, then pack it"):
        sign_bundle(fleet.folder / "bundle.zip", fleet.key)
    flip(fleet.bundle / "model.onnx")
    with pytest.raises(BundleError, match="was altered"):
        fleet.sign()
    assert not (fleet.bundle / "manifest.sig").exists()


def test_signing_goes_on_where_it_was_killed(fleet: Fleet) -> None:
    (fleet.bundle / ".manifest.sig.0a1b2c3d").write_text("half")
    fleet.sign()
    assert Bundle.load(fleet.bundle, Trust.read(fleet.trusted)).signed_by == fleet.id


def test_a_damaged_signature_is_not_signed_over(fleet: Fleet) -> None:
    (fleet.bundle / "manifest.sig").write_text("junk")
    with pytest.raises(BundleError, match="manifest.sig is damaged"):
        fleet.sign()


def test_hostile_signatures_never_pass(fleet: Fleet) -> None:
    """Bits of a signed manifest, and of every byte of its signature, are turned around."""
    fleet.sign()
    trust = Trust.read(fleet.trusted)
    manifest = (fleet.bundle / "manifest.json").read_bytes()
    signatures = (fleet.bundle / "manifest.sig").read_bytes()
    assert trust.check(manifest, {"manifest.sig": signatures}, "bundle") == fleet.id
    for at in range(0, len(manifest), 97):
        altered = manifest[:at] + bytes([manifest[at] ^ 1]) + manifest[at + 1 :]
        with pytest.raises(MisgivingError):
            trust.check(altered, {"manifest.sig": signatures}, "bundle")
    for at in range(len(signatures) - 1):
        altered = signatures[:at] + bytes([signatures[at] ^ 1]) + signatures[at + 1 :]
        with pytest.raises(MisgivingError):
            trust.check(manifest, {"manifest.sig": altered}, "bundle")


def test_manifests_need_release_and_expiry(fleet: Fleet) -> None:
    path = fleet.bundle / "manifest.json"
    sound = json.loads(path.read_text())
    for name in ("release", "expires"):
        path.write_text(json.dumps({key: value for key, value in sound.items() if key != name}))
        with pytest.raises(BundleError, match=f"{name}: Field required"):
            Bundle.load(fleet.bundle)
    for field in ({"release": -1}, {"release": 1.5}, {"expires": "soon"}):
        path.write_text(json.dumps(sound | field))
        with pytest.raises(BundleError, match=next(iter(field))):
            Bundle.load(fleet.bundle)


def test_a_pipe_in_a_bundle_does_not_hang(fleet: Fleet) -> None:
    (fleet.bundle / "model.onnx").unlink()
    os.mkfifo(fleet.bundle / "model.onnx")
    with pytest.raises(BundleError, match="no plain file"):
        Bundle.load(fleet.bundle)


def test_key_rotation(fleet: Fleet) -> None:
    """Old and new key sign for a while; then the old one is revoked."""
    fleet.sign()
    fleet.sign(fleet.other)
    new = fleet.folder / "new"
    new.mkdir()
    shutil.copy(f"{fleet.other}.pub", new)
    assert Bundle.load(fleet.bundle, Trust.read(fleet.trusted)).signed_by == fleet.id
    assert Bundle.load(fleet.bundle, Trust.read(new)).signed_by == fleet.other_id
    fleet.trust(fleet.other)
    fleet.revoke(fleet.id)
    assert Bundle.load(fleet.bundle, Trust.read(fleet.trusted)).signed_by == fleet.other_id


def test_keys_and_signatures_of_before_are_good(tmp_path: Path) -> None:
    """Made by PyNaCl 1.6.2, which did this before ``cryptography``."""
    public = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    signature = (
        "fde5eebf6366674f44909660f01c6db1e349eed5f3087685f8e4fbeae31b2b4f"
        "a3b9c82ee64ae1912c7494e7a7839893143b98e7a1f253abc6b9f174506b0d0f"
    )
    manifest, key, trusted = b'{"name": "old"}', tmp_path / "old.key", tmp_path / "old.key.pub"
    key.write_text(f"ed25519-private {bytes(range(32)).hex()}\n")
    key.chmod(0o600)
    trusted.write_text(f"ed25519 {public}\n")
    id, private = id_of(read_public(trusted)), read_private(key)
    assert isinstance(private, Ed25519PrivateKey)
    assert sign(manifest, private).signature.hex() == signature
    signatures = {"manifest.sig": f"{id} {signature}\n".encode()}
    assert Trust.read(trusted).check(manifest, signatures, "old") == id
