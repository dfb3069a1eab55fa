"""What is asked of an export."""

from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import get_args

from misgiving.export.calibrating import Targets
from misgiving.runtime.bundles.precisions import Reduced
from misgiving.runtime.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """What an export needs beside its checkpoint; see :func:`export_bundle`."""

    name: str
    version: str
    head: str | None = None
    """None for the checkpoint's first."""
    targets: Targets = Targets(flag_rates=(0.1,))
    """What the thresholds promise for frames like the validation data's."""
    licence: str = "not stated"
    """Of the weights; the training data's terms bind them."""
    precisions: tuple[str, ...] = ()
    """Beside fp32; each must pass its gate."""
    release: int | None = None
    """Must rise from one release of a model to the next; None for the minute of the export in UTC,
    as in 202611222153, which rises without a counter that somebody would have to keep."""
    expires: date | None = None
    """The last day on which a runtime with keys starts it."""

    def __post_init__(self) -> None:
        """Check precisions, release and day."""
        known = get_args(Reduced)
        if unknown := [name for name in self.precisions if name not in known]:
            raise DataError(
                f"precision is {unknown[0]!r}; expected one of {', '.join(known)}. "
                "fp32 is always made"
            )
        if self.release is not None and not 0 <= self.release < 1 << 63:
            raise DataError(f"release is {self.release}; expected 0 to below 2^63. Give another")
        if self.expires and self.expires < datetime.now(timezone.utc).date():
            raise DataError(f"expiry {self.expires} is past; expected today or later. Give another")
