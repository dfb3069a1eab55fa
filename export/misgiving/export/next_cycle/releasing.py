"""The bundle in the field, and the one that follows it: signed, packed, announced."""

import shutil
import tempfile
from pathlib import Path

from misgiving.collector import Store
from misgiving.collector.control.releases import Releases
from misgiving.export.next_cycle.asked import Asked, SignTable
from misgiving.runtime import Bundle, Trust, pack_bundle, sign_bundle
from misgiving.runtime.bundles.keys import read_private
from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.durable import new_folder
from misgiving.runtime.errors import DataError

ZIP = "bundle.zip"


def find_field(store: Store, named: Path | None) -> Bundle:
    """What the vehicles run: a bundle that is named, ``default`` for that in the package, else the
    newest release of the store that is not halted.

    Raises:
        DataError: no bundle is named, and the store has no release, or several models'.
        BundleError: it is none.
    """
    if named:
        return Bundle.load(DEFAULT_BUNDLE if str(named) == "default" else named)
    releases = Releases(store.database)
    going = [one.release for one in releases.announced() if not (one.halted or one.dropped)]
    names = sorted({one.name for one in going})
    if len(names) != 1:
        found = f"releases of {', '.join(names)}" if names else "no release that is not halted"
        raise DataError(
            f"{store.database.name} has {found}; expected those of one model. Name the bundle that "
            "the vehicles run as field.bundle"
        )
    with tempfile.NamedTemporaryFile(prefix="misgiving-field-", suffix=".zip") as file:
        file.writelines(releases.read(going[-1].digest, 0))
        file.flush()
        return Bundle.load(Path(file.name))


def check_keys(asked: SignTable) -> Path:
    """The keys that the vehicles trust; raises FailedPrecondition where a key cannot be read."""
    read_private(asked.key)
    trust = asked.trust or asked.key.with_name(f"{asked.key.name}.pub")
    Trust.read(trust)
    return trust


def sign(bundle: Path, asked: SignTable, out: Path) -> str:
    """Write the signed bundle, as a folder and as a zip; gives its digest.

    Raises:
        MisgivingError: as :func:`misgiving.runtime.sign_bundle` and ``pack_bundle``.
    """
    target = out / "release"
    if not target.exists():
        with new_folder(target) as part:
            shutil.copytree(bundle, part / "bundle")
            sign_bundle(part / "bundle", asked.key)
            pack_bundle(part / "bundle", part / ZIP)
    return Bundle.load(target / ZIP, Trust.read(check_keys(asked))).digest


def announce(store: Store, asked: Asked, out: Path, digest: str) -> None:
    """Release it to the first ring, once.

    Raises:
        MisgivingError: as :meth:`Releases.announce`.
    """
    releases = Releases(store.database)
    if all(one.release.digest != digest for one in releases.announced()):
        trust, hours = check_keys(asked.sign), asked.release.advance_after
        releases.announce(out / "release" / ZIP, trust, hours)
