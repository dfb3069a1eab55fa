"""The verb ``verify``: would a runtime that trusts these keys take the bundle?"""

from pathlib import Path

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.trust import Trust


def verify(path: Path, trust: Path) -> str:
    """What the bundle is, and whose signature it is taken by.

    Raises:
        BundleError: it would not be taken.
        FailedPrecondition: the trusted keys cannot be read.
    """
    bundle = Bundle.load(path, Trust.read(trust))
    manifest = bundle.manifest
    return (
        f"{path}: {manifest.name} {manifest.version}, release {manifest.release}, "
        f"expires {manifest.expires or 'never'}; {len(manifest.files)} files as signed by key "
        f"{bundle.signed_by}\ndigest {bundle.digest}"
    )
