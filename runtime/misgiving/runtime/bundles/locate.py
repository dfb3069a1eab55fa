"""Where a bundle is looked for."""

import os
from pathlib import Path

from misgiving.runtime.errors import BundleError

BUNDLE_VARIABLE = "MISGIVING_BUNDLE"
DEFAULT_BUNDLE = Path(__file__).parent / "default"
DEFAULT_CHECKPOINT = Path(__file__).parent / "checkpoint"
"""What the default bundle was exported from, its weights in 16 bits."""


def find_bundle(path: Path | None) -> Path:
    """The asked bundle, else that of the environment, else the one that ships with the package.

    Raises:
        BundleError: there is none of them.
    """
    if path is not None:
        return path
    if variable := os.environ.get(BUNDLE_VARIABLE):
        return Path(variable)
    if DEFAULT_BUNDLE.is_dir():
        return DEFAULT_BUNDLE
    raise BundleError(
        f"no bundle was named and none ships with this package; expected --bundle DIR "
        f"or {BUNDLE_VARIABLE}=DIR. Make one with 'misgiving export'"
    )
