"""What happens to a bundle between export and the vehicles: it is signed, and packed."""

import hashlib
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from misgiving.runtime.bundles.bundle import (
    MAX_MANIFEST_BYTES,
    Bundle,
    read_plain,
    read_signatures,
)
from misgiving.runtime.bundles.keys import PEM_SUFFIX, id_of, new_key, read_private
from misgiving.runtime.bundles.manifest import (
    MANIFEST,
    MODEL_SIGNATURE,
    SIGNATURE_FILES,
    SIGNATURES,
)
from misgiving.runtime.bundles.openssf import format_model_signature, parse_model_signature
from misgiving.runtime.bundles.packing import write_zip
from misgiving.runtime.bundles.trust import format_signatures, parse_signatures, sign
from misgiving.runtime.durable import write_durably
from misgiving.runtime.errors import BundleError, DataError


def sign_bundle(path: Path | str, key: Path | str, *, new: bool = False) -> str:
    """Sign a bundle's folder; gives the key's id.

    An ed25519 key writes ``manifest.sig``, beside other keys' signatures; a P-256 key writes
    ``model.sig``, which holds one.

    >>> id = new_key(Path("release.key"))
    >>> sign_bundle(Path("bundle"), Path("release.key")) == id
    True

    Args:
        path: the bundle's folder.
        key: file of the private key.
        new: make that key, see :func:`new_key`, once the bundle is found fit to be signed.

    Raises:
        BundleError: the bundle is not whole, or was altered after another key signed it.
        DataError: it is a zip, or cannot be written; another key's ``model.sig`` is there.
        FailedPrecondition: no key, or one that others may read; a new one that is there already.
    """
    path, key = Path(path), Path(key)
    if path.is_file():
        raise DataError(f"{path} is a file; expected a bundle's folder. Sign that, then pack it")
    _remove_half_written(path)
    bundle = Bundle.load(path)
    if new:
        if key.suffix == PEM_SUFFIX:
            _check_room(path, None)
        new_key(key)
    private = read_private(key)
    if isinstance(private, Ed25519PrivateKey):
        file, text = SIGNATURES, _with_line(bundle, private)
    else:
        file, text = MODEL_SIGNATURE, _model_signature(bundle, private)
    try:
        write_durably(path / file, text)
    except OSError as error:
        raise DataError(
            f"{path / file} cannot be written: {error.strerror}; expected a folder of yours "
            "on a disk with room. Copy the bundle elsewhere"
        ) from error
    return id_of(private.public_key())


def pack_bundle(path: Path | str, out: Path | str) -> None:
    """Write a bundle, with its signatures, as one zip, which every ``--bundle`` takes too.

    >>> pack_bundle(Path("bundle"), Path("bundle.zip"))
    >>> Bundle.load(Path("bundle.zip")).digest == Bundle.load(Path("bundle")).digest
    True

    Raises:
        BundleError: the bundle is not whole.
        DataError: ``out`` is there already, or cannot be written.
    """
    path, out = Path(path), Path(out)
    bundle = Bundle.load(path)
    files = {MANIFEST: _manifest(bundle)}
    files |= read_signatures(bundle.path)
    files |= {name: bundle.read(name) for name in sorted(bundle.manifest.files)}
    write_zip(files.items(), out)


def _with_line(bundle: Bundle, key: Ed25519PrivateKey) -> bytes:
    """The bundle's ``manifest.sig`` with this key's signature beside the others'."""
    there = read_signatures(bundle.path).get(SIGNATURES)
    others = parse_signatures(there, str(bundle.path)) if there is not None else []
    line = sign(_manifest(bundle), key)
    return format_signatures([*(one for one in others if one.id != line.id), line])


def _model_signature(bundle: Bundle, key: EllipticCurvePrivateKey) -> bytes:
    _check_room(bundle.path, id_of(key.public_key()))
    digest = hashlib.sha256(_manifest(bundle)).hexdigest()
    files = {MANIFEST: digest, **bundle.manifest.files}
    return format_model_signature(bundle.manifest.name, files, key)


def _remove_half_written(path: Path) -> None:
    """What a killed ``sign`` began; with that in it, the bundle is none, and says so."""
    for file in SIGNATURE_FILES:
        for half_written in path.glob(f".{file}.*"):
            with suppress(OSError):
                half_written.unlink()


def _check_room(path: Path, id: str | None) -> None:
    """Raise DataError where a ``model.sig`` is another key's: it has room for one signature."""
    there = read_signatures(path).get(MODEL_SIGNATURE)
    others = parse_model_signature(there, str(path)) if there is not None else []
    if others and others[0].id != id:
        raise DataError(
            f"{path / MODEL_SIGNATURE} is by key {others[0].id}; expected none, for it has room "
            "for one signature. Remove it to sign with another key"
        )


def _manifest(bundle: Bundle) -> bytes:
    """The manifest's bytes as they were when the bundle was loaded."""
    text = read_plain(bundle.path / MANIFEST, MAX_MANIFEST_BYTES)
    if hashlib.sha256(text).hexdigest() != bundle.digest:
        raise BundleError(f"{bundle.path} changes while it is read; try again when it is whole")
    return text
