"""What happens to a bundle between export and the vehicles: it is signed, and packed."""

import hashlib
from pathlib import Path

from misgiving.runtime.bundles.bundle import MAX_MANIFEST_BYTES, Bundle, read_plain
from misgiving.runtime.bundles.manifest import MANIFEST
from misgiving.runtime.bundles.packing import write_zip
from misgiving.runtime.bundles.trust import (
    MAX_SIGNATURES_BYTES,
    SIGNATURES,
    format_signatures,
    parse_signatures,
    sign,
)
from misgiving.runtime.durable import write_durably
from misgiving.runtime.errors import BundleError, DataError


def sign_bundle(path: Path, key: Path) -> str:
    """Sign a bundle's folder beside other keys' signatures; gives the key's id.

    >>> id = new_key(Path("release.key"))
    >>> sign_bundle(Path("bundle"), Path("release.key")) == id
    True

    Raises:
        BundleError: the bundle is not whole, or was altered after another key signed it.
        DataError: it is a zip, or cannot be written.
        FailedPrecondition: no key, or one that others may read.
    """
    if path.is_file():
        raise DataError(f"{path} is a file; expected a bundle's folder. Sign that, then pack it")
    manifest = _manifest(Bundle.load(path))
    try:
        others = parse_signatures(read_plain(path / SIGNATURES, MAX_SIGNATURES_BYTES), str(path))
    except FileNotFoundError:
        others = {}
    id, signature = sign(manifest, key)
    try:
        write_durably(path / SIGNATURES, format_signatures({**others, id: signature}))
    except OSError as error:
        raise DataError(
            f"{path / SIGNATURES} cannot be written: {error.strerror}; expected a folder of yours "
            "on a disk with room. Copy the bundle elsewhere"
        ) from error
    return id


def pack_bundle(path: Path, out: Path) -> None:
    """Write a bundle, with its signatures, as one zip, which every ``--bundle`` takes too.

    >>> pack_bundle(Path("bundle"), Path("bundle.zip"))
    >>> Bundle.load(Path("bundle.zip")).digest == Bundle.load(Path("bundle")).digest
    True

    Raises:
        BundleError: the bundle is not whole.
        DataError: ``out`` is there already, or cannot be written.
    """
    bundle = Bundle.load(path)
    files = {MANIFEST: _manifest(bundle)}
    if (bundle.path / SIGNATURES).exists():
        files[SIGNATURES] = read_plain(bundle.path / SIGNATURES, MAX_SIGNATURES_BYTES)
    files |= {name: bundle.read(name) for name in sorted(bundle.manifest.files)}
    write_zip(files.items(), out)


def _manifest(bundle: Bundle) -> bytes:
    """The manifest's bytes as they were when the bundle was loaded."""
    text = read_plain(bundle.path / MANIFEST, MAX_MANIFEST_BYTES)
    if hashlib.sha256(text).hexdigest() != bundle.digest:
        raise BundleError(f"{bundle.path} changes while it is read; try again when it is whole")
    return text
