"""``model.sig``: the form of OpenSSF Model Signing, by a P-256 key.

It is a Sigstore bundle (JSON) of one DSSE envelope, whose payload is an in-toto statement: the
sha256 of every file, ``manifest.json`` among them. ECDSA over SHA-256 covers type and payload.
``model_signing verify key``, the public tool, takes what this writes, and this takes what
``model_signing sign key`` writes with its defaults. Certificates, logs of signatures, other
digests and files in shards are not read here.

Nothing of the payload is parsed before its signature was checked.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, Field, ValidationError

from misgiving.runtime.bundles.keys import PublicKey, digest_of
from misgiving.runtime.bundles.manifest import MANIFEST, MODEL_SIGNATURE, SIGNATURE_FILES
from misgiving.runtime.errors import BundleError, first_problem

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_ALGORITHM = ec.ECDSA(hashes.SHA256())

_Part = TypeVar("_Part", bound=BaseModel)
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _PublicKey(BaseModel):
    hint: _Sha256


class _Material(BaseModel):
    publicKey: _PublicKey


class _Signature(BaseModel):
    sig: str


class _Envelope(BaseModel):
    payload: str
    payloadType: Literal["application/vnd.in-toto+json"]
    signatures: list[_Signature] = Field(min_length=1, max_length=1)


class _SigstoreBundle(BaseModel):
    mediaType: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verificationMaterial: _Material
    dsseEnvelope: _Envelope


class _Digest(BaseModel):
    sha256: _Sha256


class _Subject(BaseModel):
    digest: _Digest


class _Resource(BaseModel):
    name: str
    algorithm: Literal["sha256"]
    digest: _Sha256


class _Serialization(BaseModel):
    method: Literal["files"]
    hash_type: Literal["sha256"]


class _Predicate(BaseModel):
    serialization: _Serialization
    resources: list[_Resource]


class _Statement(BaseModel):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: list[_Subject] = Field(min_length=1, max_length=1)
    predicateType: Literal["https://model_signing/signature/v1.0"]
    predicate: _Predicate


@dataclass(frozen=True)
class ModelSignature:
    """What a ``model.sig`` claims, before anybody has checked it."""

    key_digest: str
    """Of the key that is said to have signed it, in hex."""
    payload: bytes
    signature: bytes
    name: str
    """Of the bundle, for messages."""
    file = MODEL_SIGNATURE

    @property
    def id(self) -> str:
        return self.key_digest[:16]

    def check(self, key: PublicKey, manifest: bytes) -> dict[str, str]:
        """File → sha256, of every file that the key signed, but the manifest.

        Raises:
            InvalidSignature: the key signed something else.
            BundleError: what it signed is no list of files by sha256.
        """
        if not isinstance(key, ec.EllipticCurvePublicKey) or digest_of(key) != self.key_digest:
            raise InvalidSignature
        key.verify(self.signature, _encoded(self.payload), _ALGORITHM)
        files = _listed_files(self.payload, self.name)
        if files.pop(MANIFEST, None) != hashlib.sha256(manifest).hexdigest():
            raise InvalidSignature
        return {file: digest for file, digest in files.items() if file not in SIGNATURE_FILES}


def parse_model_signature(text: bytes, name: str) -> list[ModelSignature]:
    """The one claim of the ``model.sig`` of the bundle ``name``.

    Raises:
        BundleError: it is damaged, or of another kind than a P-256 key's.
    """
    bundle = _parse(_SigstoreBundle, text, name)
    envelope = bundle.dsseEnvelope
    try:
        payload = base64.b64decode(envelope.payload, validate=True)
        signature = base64.b64decode(envelope.signatures[0].sig, validate=True)
    except ValueError as error:
        raise _damaged(name, f"base64: {error}") from error
    key_digest = bundle.verificationMaterial.publicKey.hint
    return [ModelSignature(key_digest, payload, signature, name)]


def format_model_signature(
    name: str, files: Mapping[str, str], key: ec.EllipticCurvePrivateKey
) -> bytes:
    """The content of a ``model.sig``.

    Args:
        name: of the model.
        files: every file of the bundle but its signatures → sha256 in hex.
        key: on the curve P-256.
    """
    payload = json.dumps(_statement(name, files)).encode()
    signature = key.sign(_encoded(payload), _ALGORITHM)
    bundle = {
        "mediaType": _BUNDLE,
        "verificationMaterial": {
            "publicKey": {"hint": digest_of(key.public_key())},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle).encode() + b"\n"


def _statement(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    ordered = sorted(files.items())
    together = _digest_of(digest for _, digest in ordered)
    return {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": together}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(SIGNATURE_FILES),
            },
            "resources": [
                {"name": file, "algorithm": "sha256", "digest": digest} for file, digest in ordered
            ],
        },
    }


def _listed_files(payload: bytes, name: str) -> dict[str, str]:
    statement = _parse(_Statement, payload, name)
    resources = statement.predicate.resources
    files = {one.name: one.digest for one in resources}
    if len(files) != len(resources):
        raise _damaged(name, "it lists a file twice")
    if _digest_of(one.digest for one in resources) != statement.subject[0].digest.sha256:
        raise _damaged(name, "its digest of all files is another's")
    return files


def _digest_of(digests: Iterable[str]) -> str:
    """One digest of all files' digests, in their order."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def _encoded(payload: bytes) -> bytes:
    """What is signed: DSSE's encoding of type and payload."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)


def _parse(kind: type[_Part], text: bytes, name: str) -> _Part:
    try:
        return kind.model_validate(json.loads(text, object_pairs_hook=_once))
    except ValidationError as error:
        raise _damaged(name, first_problem(error)) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(name, str(error)) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys all differ: of two values, readers may take either."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _damaged(name: str, problem: str) -> BundleError:
    return BundleError(
        f"{name}: {MODEL_SIGNATURE} is damaged or of another kind ({problem}); expected one by "
        "'misgiving sign' or 'model_signing sign key'. Copy the bundle, or sign it, again"
    )
