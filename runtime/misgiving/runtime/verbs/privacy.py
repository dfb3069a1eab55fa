"""From [privacy] to the policy that a pipeline keeps by."""

from importlib import import_module

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.privacy.heads import head_joints
from misgiving.runtime.privacy.policy import Hook, PrivacyPolicy
from misgiving.runtime.settings.privacy import PrivacyTable


def privacy_of(table: PrivacyTable, bundle: Bundle) -> PrivacyPolicy:
    """What is kept of a bundle's frames.

    Raises:
        InvalidInput: there is no such hook, or heads are to be blurred and the bundle knows none.
    """
    if table.blur_heads:
        head_joints(bundle.manifest.keypoints.names)
    return PrivacyPolicy(
        collect=table.collect,
        crop=table.crop,
        blur_heads=table.blur_heads,
        hook=hook_of(table.hook) if table.hook else None,
        fences=tuple(one.fence for one in table.geofence),
        keeps_inside=table.geofence_keeps == "inside",
        position=table.position,
    )


def hook_of(name: str) -> Hook:
    """A function by its name, ``package.module:function``.

    Raises:
        InvalidInput: there is none.
    """
    module, _, function = name.partition(":")
    try:
        change = getattr(import_module(module), function)
    except Exception as error:  # whatever a module does that is imported
        said = f"{type(error).__name__}: {error}"
        raise InvalidInput(
            f"privacy.hook is {name!r}, which cannot be imported ({said}); expected "
            "package.module:function. Install it, or name its folder in PYTHONPATH"
        ) from error
    if not callable(change):
        raise InvalidInput(
            f"privacy.hook is {name!r}, of type {type(change).__name__}; expected a function that "
            "is given an image and an answer. Name another one"
        )
    return Hook(name, change)
