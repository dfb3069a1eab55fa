"""What the tests of trust share: a bundle that is signed, and a folder of trusted keys."""

import base64
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.keys import digest_of, new_key, read_private
from misgiving.runtime.bundles.releasing import pack_bundle, sign_bundle
from misgiving.runtime.bundles.trust import Trust
from shared import tiny

TYPE = "application/vnd.in-toto+json"


class Fleet:
    """Two keys, a trusted folder that holds the first one's public half, and a bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key, self.other = folder / "release.key", folder / "other.key"
        self.id, self.other_id = new_key(self.key), new_key(self.other)
        self.trusted = folder / "trusted"
        self.trusted.mkdir()
        self.trust(self.key)
        self.bundle = Path(shutil.copytree(tiny.BUNDLE, folder / "bundle"))

    def trust(self, key: Path) -> None:
        shutil.copy(f"{key}.pub", self.trusted)

    def revoke(self, *lines: str) -> None:
        (self.trusted / "revoked").write_text("".join(f"{line}\n" for line in lines))

    def edit(self, **fields: Any) -> None:
        """Change the manifest; who had signed it has not signed this."""
        path = self.bundle / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    def sign(self, key: Path | None = None) -> str:
        return sign_bundle(self.bundle, key or self.key)

    def packed(self, release: int, **fields: Any) -> Path:
        """The bundle as a signed zip."""
        self.edit(release=release, **fields)
        self.sign()
        path = self.folder / f"{release}.zip"
        pack_bundle(self.bundle, path)
        return path


class P256Fleet(Fleet):
    """One whose trusted folder holds a P-256 key instead."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (self.trusted / "release.key.pub").unlink()
        self.pem, self.other_pem = folder / "release.pem", folder / "other.pem"
        self.pem_id, self.other_pem_id = new_key(self.pem), new_key(self.other_pem)
        self.trust(self.pem)
        self.file = self.bundle / "model.sig"

    def load(self) -> Bundle:
        return Bundle.load(self.bundle, Trust.read(self.trusted))

    def statement(self) -> dict[str, Any]:
        """What a signer says of the bundle, made without our code."""
        files = sorted(path for path in self.bundle.iterdir() if not path.name.endswith(".sig"))
        digests = [hashlib.sha256(path.read_bytes()) for path in files]
        together = hashlib.sha256(b"".join(one.digest() for one in digests)).hexdigest()
        resources = [
            {"name": path.name, "algorithm": "sha256", "digest": digest.hexdigest()}
            for path, digest in zip(files, digests, strict=True)
        ]
        return {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "bundle", "digest": {"sha256": together}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {
                "serialization": {"method": "files", "hash_type": "sha256", "more": True},
                "resources": resources,
            },
        }

    def seal(self, payload: bytes, kind: str = TYPE, key: Path | None = None) -> dict[str, Any]:
        """Sign a payload as the tool does."""
        private = read_private(key or self.pem)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        message = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
        signature = private.sign(message, ec.ECDSA(hashes.SHA256()))
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": digest_of(private.public_key())}},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": kind,
                "signatures": [{"sig": base64.b64encode(signature).decode()}],
            },
        }

    def put(self, bundle: dict[str, Any]) -> None:
        self.file.write_text(json.dumps(bundle))

    def put_statement(self, statement: dict[str, Any]) -> None:
        self.put(self.seal(json.dumps(statement).encode()))
