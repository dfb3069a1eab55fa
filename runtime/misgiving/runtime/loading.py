"""From a path to a bundle and an engine that has checked itself."""

import os
from pathlib import Path

from misgiving.runtime.bundle import Bundle
from misgiving.runtime.engines.base import Engine
from misgiving.runtime.errors import BundleError
from misgiving.runtime.trust import read_trust

BUNDLE_VARIABLE = "MISGIVING_BUNDLE"
DEFAULT_BUNDLE = Path(__file__).parent / "bundles" / "default"


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


def load(
    path: Path | None, device: str = "cpu", threads: int = 0, *, trust: Path | None = None
) -> tuple[Bundle, Engine]:
    """Load a bundle, start its engine and let it check itself.

    Args:
        path: None for the default bundle.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads within one inference; 0 takes half of the cores, so that decoding
            and the network have the rest.
        trust: folder of the public keys whose bundles are taken, or one such key; None for
            MISGIVING_TRUST, else everybody's.

    Raises:
        BundleError, EngineError: it does not load, or computes something else here.
        FailedPrecondition: the trusted keys cannot be read.
    """
    from misgiving.runtime.engines.onnx import OnnxEngine  # the only use of onnxruntime

    bundle = Bundle.load(find_bundle(path), read_trust(trust))
    engine = OnnxEngine(
        bundle.read(bundle.model.name), device, threads or max(1, (os.cpu_count() or 2) // 2)
    )
    bundle.self_check(engine)
    return bundle, engine
