"""The verb ``build``: TensorRT's plan of a bundle, for this device.

It needs neither torch nor onnx nor onnxruntime.
"""

import sys
from pathlib import Path

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.locate import find_bundle
from misgiving.runtime.engines.building import Workshop, shown, usual_profile
from misgiving.runtime.engines.cache import Profile
from misgiving.runtime.errors import InvalidInput


def build(path: Path | None, precision: str, batches: tuple[int, int, int | None]) -> str:
    """Build; gives the line that is printed.

    Args:
        path: a bundle's folder, None for the default one.
        precision: one that TensorRT reads.
        batches: smallest, most usual and largest; None for what a server forms.

    Raises:
        InvalidInput, BundleError, EngineError: as :class:`Workshop`.
    """
    bundle = Bundle.load(find_bundle(path))
    profile = _profile(bundle, *batches)
    workshop = Workshop(bundle, precision)
    built = workshop.build(profile, shown(sys.stderr))
    done = "built" if built.is_new else "was built before"
    return (
        f"{precision} for batches of {profile.min} to {profile.max} on {workshop.gpu} with "
        f"{workshop.library}: {done}, {len(built.plan.data) / 1e6:.1f} MB in {built.path} "
        f"(next: misgiving serve --bundle {workshop.bundle.path} --device tensorrt)"
    )


def _profile(bundle: Bundle, smallest: int, usual: int, largest: int | None) -> Profile:
    profile = Profile(smallest, usual, usual_profile(bundle).max if largest is None else largest)
    if profile.max > (most := bundle.manifest.max_batch):
        raise InvalidInput(
            f"largest batch is {profile.max}; {bundle.path} takes at most {most} crops at once. "
            f"Give --max-batch {most}"
        )
    return profile
