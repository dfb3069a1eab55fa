"""The bundle: a folder with one graph, its manifest and its self-check samples.

A file that its manifest does not name is refused.
"""

import errno
import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from misgiving.runtime.bundles import packing
from misgiving.runtime.bundles.graphfile import check_graph
from misgiving.runtime.bundles.manifest import (
    MANIFEST,
    SIGNATURE_FILES,
    Manifest,
    parse_manifest,
)
from misgiving.runtime.bundles.precisions import FP32, MODELS, SampleDrift
from misgiving.runtime.bundles.trust import MAX_SIGNATURES_BYTES, Trust, admit
from misgiving.runtime.errors import BundleError, InvalidInput

MODEL = MODELS[FP32]
SAMPLES = "samples.npz"
MAX_MANIFEST_BYTES = 4 << 20


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are all there and unaltered.

    >>> bundle = Bundle.load(Path("bundle"))
    >>> bundle.manifest.keypoints.name, len(bundle.digest)
    ('lsp14', 64)
    """

    path: Path
    manifest: Manifest
    digest: str
    """sha256 of the manifest's bytes, in hex; it covers every file through ``files``."""
    signed_by: str | None = None
    """Id of the trusted key that signed it; None where no keys were asked for."""
    keeps: object = field(default=None, repr=False, compare=False)
    """Of a zip, what removes its folder once no bundle needs it."""
    precision: str = FP32
    """Whose graph answers."""

    @classmethod
    def load(cls, path: Path | str, trust: Trust | None = None) -> "Bundle":
        """Read and verify a bundle.

        Args:
            path: its folder, or its zip, which is unpacked below TMPDIR for as long as this lives.
            trust: whose bundles are taken; None for everybody's.

        Raises:
            BundleError: no bundle, an incomplete or unknown manifest, a file that is missing,
                altered or not listed, a graph of another kind; not trusted, expired, too old.
        """
        path = Path(path)
        if not path.is_file():
            bundle = cls(path, *_accept(*_read_manifest(path), trust, path))
        else:
            with packing.opened(path) as packed:
                text = packed.read(MANIFEST, MAX_MANIFEST_BYTES)
                read = {file: packed.read(file, MAX_SIGNATURES_BYTES) for file in SIGNATURE_FILES}
                signatures = {file: data for file, data in read.items() if data is not None}
                accepted = _accept(text, signatures, trust, path)
                unpacked = packed.unpack(accepted[1][:12])
            bundle = cls(unpacked.folder, *accepted, unpacked)
        bundle._check_files(path)
        return bundle

    def _check_files(self, shown: Path) -> None:
        """Refuse files that are missing, altered or not listed, and graphs that are not ours."""
        files = self.manifest.files
        present = {str(f.relative_to(self.path)) for f in self.path.rglob("*") if not f.is_dir()}
        present -= {MANIFEST, *SIGNATURE_FILES}
        if extra := sorted(present - files.keys()):
            raise BundleError(
                f"{shown} holds {extra[0]}, which its manifest does not list; remove it"
            )
        for name, digest in files.items():
            if name not in present:
                raise BundleError(f"{shown} lacks {name}, which its manifest lists; copy it again")
            data = _read_listed(self.path, name, digest, shown)
            if name.endswith(".onnx"):
                check_graph(data, self.manifest, str(shown / name))
        models = (MODELS[name] for name in (FP32, *self.manifest.precisions))
        for name in (*models, SAMPLES):
            if name not in files:
                raise BundleError(f"{shown / MANIFEST} lists no {name}; export the bundle again")

    @property
    def model(self) -> Path:
        return self.path / MODELS[self.precision]

    def in_precision(self, name: str) -> "Bundle":
        """The same bundle with another of its graphs.

        Raises:
            BundleError: it has none in that precision.
        """
        if name not in (known := (FP32, *self.manifest.precisions)):
            raise BundleError(
                f"precision is {name!r}; {self.path} has {', '.join(known)}. Take one of these, "
                "or export with --precision"
            )
        return replace(self, precision=name)

    @property
    def default_threshold(self) -> float:
        return next(iter(self.manifest.calibration.by_name().values()))

    def threshold(self, asked: float | str | None) -> float:
        """The ``predicted_loss`` from which on persons are flagged.

        Args:
            asked: a number, or the name of one of the bundle's thresholds; None for its default.

        Raises:
            InvalidInput: neither a number nor such a name.
        """
        if asked is None:
            return self.default_threshold
        known = self.manifest.calibration.by_name()
        try:
            return known[asked] if asked in known else float(asked)
        except ValueError as error:
            raise InvalidInput(
                f"threshold is {asked!r}; expected a number in units of predicted_loss, or one of "
                f"{self.manifest.name}'s own: {', '.join(known)}"
            ) from error

    def read(self, name: str) -> bytes:
        """The bytes of a file, hashed as they are handed over: nobody can change them after.

        Raises:
            BundleError: the file was altered or removed.
        """
        return _read_listed(self.path, name, self.manifest.files[name], self.path)

    @property
    def measured_drift(self) -> SampleDrift:
        """What the export measured of this precision on the samples; nothing for fp32."""
        if self.precision == FP32:
            return SampleDrift(keypoint_px=0, predicted_loss=0)
        reduced = self.manifest.precisions.items()
        return next(one.samples for name, one in reduced if name == self.precision)


def digest_at(path: Path) -> str:
    """The digest of the bundle at a path, which is not verified.

    Raises:
        BundleError: there is none.
    """
    text: bytes | None
    if path.is_file():
        with packing.opened(path) as packed:
            text = packed.read(MANIFEST, MAX_MANIFEST_BYTES)
    else:
        text, _ = _read_manifest(path)
    return hashlib.sha256(text or b"").hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_plain(path: Path, limit: int) -> bytes:
    """A regular file of at most ``limit`` bytes.

    Raises:
        OSError: it cannot be read.
        BundleError: it is a device or pipe, or longer.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
        raise BundleError(
            f"{path} is no plain file of at most {limit:,} bytes; copy the bundle again"
        )
    with path.open("rb") as file:
        return file.read(limit)


def read_signatures(path: Path) -> dict[str, bytes]:
    """The files of signatures that a folder has, by their names."""
    there = [file for file in SIGNATURE_FILES if (path / file).exists()]
    return {file: read_plain(path / file, MAX_SIGNATURES_BYTES) for file in there}


def _read_manifest(path: Path) -> tuple[bytes, dict[str, bytes]]:
    """Manifest and signatures of a folder."""
    try:
        return read_plain(path / MANIFEST, MAX_MANIFEST_BYTES), read_signatures(path)
    except OSError as error:
        raise BundleError(
            f"{path} is no bundle: {MANIFEST}: {error.strerror}; "
            "expected a folder written by 'misgiving export'"
        ) from error


def _accept(
    text: bytes | None, signatures: Mapping[str, bytes], trust: Trust | None, path: Path
) -> tuple[Manifest, str, str | None]:
    """Manifest, digest and trusted key; nothing is parsed before its signature was checked."""
    if text is None:
        raise BundleError(f"{path} is no bundle: it holds no {MANIFEST}; pack one again")
    signed_by = trust.check(text, signatures, str(path)) if trust else None
    manifest = parse_manifest(text, path / MANIFEST)
    if trust:
        admit(trust, manifest, str(path), datetime.now(timezone.utc))
    return manifest, hashlib.sha256(text).hexdigest(), signed_by


def _read_listed(folder: Path, name: str, expected: str, shown: Path) -> bytes:
    try:
        data = read_plain(folder / name, packing.MAX_BYTES)
    except OSError as error:
        raise BundleError(f"{shown / name}: {error.strerror}; copy the bundle again") from error
    if (got := hashlib.sha256(data).hexdigest()) != expected:
        raise BundleError(
            f"{shown / name} has sha256 {got[:12]}…; its manifest says {expected[:12]}…. "
            "The file was altered or cut short: copy the bundle again"
        )
    return data
