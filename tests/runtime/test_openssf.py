"""``model.sig``: what others' tools sign we take, what we sign they take, and nothing besides."""

import base64
import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from misgiving.runtime.bundles import floor
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.keys import digest_of, read_public
from misgiving.runtime.bundles.openssf import parse_model_signature
from misgiving.runtime.bundles.releasing import pack_bundle, sign_bundle
from misgiving.runtime.bundles.trust import Trust
from misgiving.runtime.errors import BundleError, DataError, FailedPrecondition, MisgivingError
from runtime.trusting import TYPE, P256Fleet

HERE = Path(__file__).parent
TOOL = HERE.parents[1] / ".venv-clients" / "bin" / "model_signing"


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> P256Fleet:
    monkeypatch.setenv(floor.STATE_VARIABLE, str(tmp_path / "state"))
    return P256Fleet(tmp_path)


def test_what_the_tool_signed_is_taken() -> None:
    """Recorded from ``model_signing sign key``, 1.1.1."""
    recorded = HERE / "openssf"
    (claim,) = parse_model_signature((recorded / "model.sig").read_bytes(), "recorded")
    assert claim.key_digest == hashlib.sha256((recorded / "release.pub").read_bytes()).hexdigest()
    key, manifest = read_public(recorded / "release.pub"), (recorded / "manifest.json").read_bytes()
    assert claim.check(key, manifest) == {"weights.bin": hashlib.sha256(b"w\n").hexdigest()}
    with pytest.raises(InvalidSignature):
        claim.check(key, manifest + b" ")


@pytest.mark.skipif(not TOOL.exists(), reason="no OpenSSF client; .ci/run installs it")
def test_the_tool_takes_what_we_sign(fleet: P256Fleet) -> None:
    """Beside a ``manifest.sig``, of before or after, and no more once a file is altered."""

    def verify() -> str:
        command = [TOOL, "verify", "key", fleet.bundle, "--signature", fleet.file]
        done = subprocess.run(
            [*command, "--public_key", f"{fleet.pem}.pub"], capture_output=True, text=True
        )
        return done.stdout + done.stderr

    fleet.sign(fleet.pem)
    fleet.sign()
    assert verify() == "Verification succeeded\n"
    (fleet.bundle / "samples.npz").write_bytes(b"")
    assert "Hash mismatch for" in verify()


@pytest.mark.parametrize("packed", [False, True])
def test_round_trip(fleet: P256Fleet, packed: bool) -> None:
    assert fleet.sign(fleet.pem) == fleet.pem_id
    assert fleet.sign(fleet.pem) == fleet.pem_id  # again, over its own
    if packed:
        pack_bundle(fleet.bundle, fleet.folder / "bundle.zip")
        fleet.bundle = fleet.folder / "bundle.zip"
    assert fleet.load().signed_by == fleet.pem_id


def test_a_statement_made_without_our_code(fleet: P256Fleet) -> None:
    fleet.put_statement(fleet.statement())
    assert fleet.load().signed_by == fleet.pem_id


TAKEN: dict[str, Callable[[P256Fleet], object]] = {
    "ours is damaged": lambda f: (f.bundle / "manifest.sig").write_text("junk"),
    "ours is by an unknown key": lambda f: f.sign(f.other),
    "ours names the P-256 key": lambda f: (f.bundle / "manifest.sig").write_text(
        f"{f.pem_id} {'0' * 128}\n"
    ),
    "ours is listed, and gone": lambda f: put_with(f, "manifest.sig"),
    "both are good": lambda f: (f.trust(f.key), f.sign()),
}


def put_with(fleet: P256Fleet, file: str) -> None:
    statement = fleet.statement()
    digest = hashlib.sha256(b"").hexdigest()
    resources = statement["predicate"]["resources"]
    resources.append({"name": file, "algorithm": "sha256", "digest": digest})
    seal_root(statement)
    fleet.put_statement(statement)


def seal_root(statement: dict[str, Any]) -> None:
    digests = (bytes.fromhex(one["digest"]) for one in statement["predicate"]["resources"])
    root = hashlib.sha256(b"".join(digests)).hexdigest()
    statement["subject"][0]["digest"]["sha256"] = root


@pytest.mark.parametrize("name", TAKEN)
def test_one_valid_signature_is_enough(fleet: P256Fleet, name: str) -> None:
    fleet.sign(fleet.pem)
    TAKEN[name](fleet)
    assert fleet.load().signed_by in (fleet.pem_id, fleet.id)


def test_a_model_signature_of_another_kind_does_not_spoil_ours(fleet: P256Fleet) -> None:
    fleet.trust(fleet.key)
    fleet.sign()
    sealed = fleet.seal(b"{}")
    sealed["verificationMaterial"] = {"certificate": {"rawBytes": "MIIB"}}
    fleet.put(sealed)
    assert fleet.load().signed_by == fleet.id


def test_expiry_floor_and_revoked_bundles_hold_too(fleet: P256Fleet) -> None:
    fleet.edit(expires="2026-01-01")
    fleet.sign(fleet.pem)
    with pytest.raises(BundleError, match="expired at the end of 2026-01-01"):
        fleet.load()
    fleet.edit(expires=None, release=6)
    fleet.sign(fleet.pem)
    floor.rise("bright-spots", 7)
    with pytest.raises(BundleError, match="this device has proved release 7"):
        fleet.load()
    fleet.revoke(Bundle.load(fleet.bundle).digest)
    with pytest.raises(BundleError, match="is revoked"):
        fleet.load()


@pytest.mark.parametrize("whole", [False, True])
def test_a_revoked_key_by_its_id_or_the_hint_of_the_form(fleet: P256Fleet, whole: bool) -> None:
    fleet.sign(fleet.pem)
    digest = digest_of(read_public(Path(f"{fleet.pem}.pub")))
    fleet.revoke(digest if whole else fleet.pem_id)
    with pytest.raises(BundleError, match="which is revoked"):
        fleet.load()


def altered(change: Callable[[dict[str, Any]], object]) -> Callable[[P256Fleet], object]:
    """Change the envelope, after it was signed."""

    def spoil(fleet: P256Fleet) -> None:
        sealed = fleet.seal(json.dumps(fleet.statement()).encode())
        change(sealed)
        fleet.put(sealed)

    return spoil


def signed_with(change: Callable[[dict[str, Any]], object]) -> Callable[[P256Fleet], object]:
    """Change the statement before the trusted key signs it."""

    def spoil(fleet: P256Fleet) -> None:
        statement = fleet.statement()
        change(statement)
        fleet.put_statement(statement)

    return spoil


def resources(change: Callable[[list[Any]], object]) -> Callable[[P256Fleet], object]:
    """Change the list of files, with a digest of all that fits, before it is signed."""

    def spoil(statement: dict[str, Any]) -> None:
        change(statement["predicate"]["resources"])
        seal_root(statement)

    return signed_with(spoil)


def other_payload(sealed: dict[str, Any]) -> None:
    payload = base64.b64decode(sealed["dsseEnvelope"]["payload"])
    changed = payload.replace(b'"bundle"', b'"bumble"')
    sealed["dsseEnvelope"]["payload"] = base64.b64encode(changed).decode()


def raw(text: bytes) -> Callable[[P256Fleet], object]:
    return lambda fleet: fleet.file.write_bytes(text)


def twice(fleet: P256Fleet) -> None:
    """Two payloads in one envelope: a reader may take either."""
    text = json.dumps(fleet.seal(json.dumps(fleet.statement()).encode()))
    fleet.file.write_text(text.replace('"payload":', '"payload": "AAAA", "payload":'))


def append(path: Path, data: bytes = b" ") -> None:
    path.write_bytes(path.read_bytes() + data)


EXTRA = {"name": "extra.so", "algorithm": "sha256", "digest": "0" * 64}
DAMAGED = "model.sig is damaged or of another kind"
REFUSED: dict[str, tuple[Callable[[P256Fleet], object], str]] = {
    "the statement is altered": (altered(other_payload), "was altered after key"),
    "another key's signature": (lambda f: f.sign(f.other_pem), "; expected one of"),
    "another key's under a trusted name": (
        lambda f: f.put(
            f.seal(json.dumps(f.statement()).encode(), key=f.other_pem)
            | {"verificationMaterial": f.seal(b"")["verificationMaterial"]}
        ),
        "was altered after key",
    ),
    "another payload type, unsigned": (
        altered(lambda s: s["dsseEnvelope"].update(payloadType="text/plain")),
        DAMAGED,
    ),
    "another payload type, signed": (
        lambda f: f.put(f.seal(json.dumps(f.statement()).encode(), "text/plain")),
        DAMAGED,
    ),
    "another payload type under ours": (
        lambda f: f.put(
            {
                **(sealed := f.seal(json.dumps(f.statement()).encode(), "text/plain")),
                "dsseEnvelope": sealed["dsseEnvelope"] | {"payloadType": TYPE},
            }
        ),
        "was altered after key",
    ),
    "the manifest is altered": (
        lambda f: (f.sign(f.pem), append(f.bundle / "manifest.json")),
        "was altered after key",
    ),
    "another bundle's": (lambda f: (f.sign(f.pem), f.edit(release=2)), "was altered after key"),
    "a file is altered": (
        lambda f: (f.sign(f.pem), append(f.bundle / "samples.npz")),
        "samples.npz has sha256",
    ),
    "a file is added": (
        lambda f: (f.sign(f.pem), (f.bundle / "extra.so").write_bytes(b"")),
        "extra.so, which its manifest does not list",
    ),
    "a file is removed": (
        lambda f: (f.sign(f.pem), (f.bundle / "samples.npz").unlink()),
        "lacks samples.npz",
    ),
    "a file that the manifest lacks": (resources(lambda r: r.append(EXTRA)), "'extra.so'"),
    "a file fewer than the manifest": (resources(lambda r: r.pop()), "'samples.npz'"),
    "a digest that is not the manifest's": (
        resources(lambda r: r[1].update(digest="0" * 64)),
        "do not list the same files: 'model.onnx'",
    ),
    "a path that only looks the same": (
        resources(lambda r: r[1].update(name="./model.onnx")),
        "do not list the same files: './model.onnx'",
    ),
    "no manifest in the list": (resources(lambda r: r.pop(0)), "was altered after key"),
    "a file twice": (resources(lambda r: r.append(r[1])), "lists a file twice"),
    "no file": (resources(lambda r: r.clear()), "was altered after key"),
    "files in shards": (
        signed_with(lambda s: s["predicate"]["serialization"].update(method="shards")),
        DAMAGED,
    ),
    "digests of another kind": (
        signed_with(lambda s: s["predicate"]["serialization"].update(hash_type="blake3")),
        DAMAGED,
    ),
    "a digest of all files that does not fit": (
        signed_with(lambda s: s["subject"][0]["digest"].update(sha256="0" * 64)),
        "digest of all files is another's",
    ),
    "two subjects": (signed_with(lambda s: s["subject"].append(s["subject"][0])), DAMAGED),
    "a statement of another type": (signed_with(lambda s: s.update(_type="x")), DAMAGED),
    "a predicate of another type": (signed_with(lambda s: s.update(predicateType="x")), DAMAGED),
    "a signed text that is no statement": (lambda f: f.put(f.seal(b"[" * 9999)), DAMAGED),
    "two signatures": (
        altered(lambda s: s["dsseEnvelope"].update(signatures=2 * s["dsseEnvelope"]["signatures"])),
        DAMAGED,
    ),
    "no signature": (altered(lambda s: s["dsseEnvelope"].update(signatures=[])), DAMAGED),
    "a signature of no shape": (
        altered(lambda s: s["dsseEnvelope"].update(signatures=[{"sig": "AAAA"}])),
        "was altered after key",
    ),
    "junk for base64": (altered(lambda s: s["dsseEnvelope"].update(payload="!é")), "base64"),
    "a bundle of another version": (altered(lambda s: s.update(mediaType="x")), DAMAGED),
    "no hint of a key": (altered(lambda s: s.pop("verificationMaterial")), DAMAGED),
    "a key of JSON twice": (twice, "a key stands twice"),
    "nothing": (raw(b""), DAMAGED),
    "junk": (raw(b"\0\xff" * 99), DAMAGED),
    "brackets without end": (raw(b"[" * 60_000), DAMAGED),
    "a number without end": (raw(b"9" * 60_000), DAMAGED),
    "another object": (raw(b"{}"), DAMAGED),
    "a list": (raw(b"[1]"), DAMAGED),
    "a file without end": (raw(b" " * (1 << 17)), "no plain file of at most 65,536 bytes"),
    "a pipe": (lambda f: os.mkfifo(f.file), "no plain file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(fleet: P256Fleet, name: str) -> None:
    spoil, said = REFUSED[name]
    spoil(fleet)
    with pytest.raises(BundleError) as caught:
        fleet.load()
    message = str(caught.value).replace(str(fleet.folder), "")
    assert said in message
    assert "\n" not in message


def test_damage_anywhere_is_refused_or_harmless(fleet: P256Fleet) -> None:
    """What is still taken says the very same of the files."""
    fleet.sign(fleet.pem)
    sound, trust = fleet.file.read_bytes(), Trust.read(fleet.trusted)
    manifest = (fleet.bundle / "manifest.json").read_bytes()
    (good,) = parse_model_signature(sound, "bundle")
    rng = random.Random(0)
    refused = 0
    for _ in range(400):
        at, put = rng.randrange(len(sound)), rng.randbytes(rng.choice([0, 1, 1, 2]))
        spoiled = sound[:at] + put + sound[at + rng.choice([0, 1, 1, 9, 999]) :]
        try:
            trust.check(manifest, {"model.sig": spoiled}, "bundle")
            assert parse_model_signature(spoiled, "bundle")[0].payload == good.payload
        except MisgivingError:
            refused += 1
    assert refused > 350


def test_there_is_room_for_one_signature(fleet: P256Fleet) -> None:
    fleet.sign(fleet.pem)
    with pytest.raises(DataError, match=rf"is by key {fleet.pem_id}; .* room for one"):
        fleet.sign(fleet.other_pem)
    with pytest.raises(DataError, match="has room for one"):
        sign_bundle(fleet.bundle, fleet.folder / "new.pem", new=True)
    assert not (fleet.folder / "new.pem").exists()
    sign_bundle(fleet.bundle, fleet.folder / "new.key", new=True)
    fleet.file.write_text("junk")
    with pytest.raises(BundleError, match=DAMAGED):
        fleet.sign(fleet.pem)


def pem(fleet: P256Fleet, key: Any, secret: bytes | None = None) -> Path:
    locked = serialization.BestAvailableEncryption(secret) if secret else None
    path = fleet.folder / "made.pem"
    form = serialization.PrivateFormat.TraditionalOpenSSL  # as openssl ecparam writes it
    encryption = locked or serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    path.chmod(0o600)
    return path


def test_openssl_s_keys_sign(fleet: P256Fleet) -> None:
    """With the block of parameters that ``openssl ecparam -genkey`` puts first."""
    path = pem(fleet, ec.generate_private_key(ec.SECP256R1()))
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    path.write_bytes(parameters + path.read_bytes())
    sign_bundle(fleet.bundle, path)
    path.chmod(0o640)
    with pytest.raises(FailedPrecondition, match="may be read by other users"):
        sign_bundle(fleet.bundle, path)


def test_keys_of_other_kinds(fleet: P256Fleet) -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(FailedPrecondition, match="of another kind; expected PEM of the curve P-2"):
        fleet.sign(pem(fleet, other))
    with pytest.raises(FailedPrecondition, match="has a passphrase"):
        fleet.sign(pem(fleet, ec.generate_private_key(ec.SECP256R1()), b"secret"))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = other.public_key().public_bytes(serialization.Encoding.PEM, form)
    (fleet.trusted / "wrong.pub").write_bytes(public)
    with pytest.raises(FailedPrecondition, match="of another kind; expected PEM of the curve P-2"):
        Trust.read(fleet.trusted)
    shutil.copy(fleet.pem, fleet.trusted / "wrong.pub")  # the wrong half was copied
    with pytest.raises(FailedPrecondition, match="is not a public key"):
        Trust.read(fleet.trusted)


def test_a_new_key_is_as_its_name_says(fleet: P256Fleet) -> None:
    assert fleet.pem.stat().st_mode & 0o777 == 0o600
    assert fleet.pem.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert Path(f"{fleet.pem}.pub").read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert fleet.key.read_text().startswith("ed25519-private ")
