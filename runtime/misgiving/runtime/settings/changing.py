"""What may change while a server runs, and what takes a restart. Pure."""

from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.settings.model import Settings, keys_of

LIVE = (
    *("flags.", "log.", "privacy.", "upload.", "bundle.path", "bundle.trust", "bundle.slower"),
    *("shadow.share", "shadow.disagreement", "shadow.keep"),
)
"""How keys begin that take effect between two frames."""


def check_change(old: Settings, new: Settings) -> tuple[str, ...]:
    """The keys that have changed, where all of them may.

    Raises:
        FailedPrecondition: one of them takes a restart.
    """
    before, after = dict(keys_of(old)), dict(keys_of(new))
    changed = tuple(key for key in {**before, **after} if before.get(key) != after.get(key))
    if fixed := [key for key in changed if not key.startswith(LIVE)]:
        raise FailedPrecondition(
            f"{', '.join(fixed)} changed, which takes a restart; nothing of this reload is "
            "applied. Restart the server, or take that back and send SIGHUP again"
        )
    return changed
