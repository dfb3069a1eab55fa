"""The keys of [upload]."""

from typing import Annotated

from pydantic import AfterValidator, Field

from misgiving.runtime.outbox.pacing import UploadLimits, parse_window
from misgiving.runtime.settings.table import Bytes, Location, Table


def _window(text: str) -> str:
    parse_window(text)
    return text


Window = Annotated[str, AfterValidator(_window)]


class UploadTable(Table):
    """When, and how fast, the spool is uploaded."""

    bytes_per_second: Bytes | None = None
    """Bytes of frames in any second at most, or a size such as "200kB"; without it no limit."""
    windows: Annotated[tuple[Window, ...], Field(strict=False)] = ()
    """Times of day, in local time, in which uploads begin, such as ["22:00-06:00"]; without any,
    always."""
    metered: Location | None = None
    """Path of a file: while it is there, the link is metered, and nothing is uploaded; without it
    no link is."""
    metered_loss: float | None = None
    """Predicted loss from which on a frame is uploaded over a metered link all the same; without it
    none is."""

    @property
    def limits(self) -> UploadLimits:
        """As the uploader takes them."""
        windows = tuple(parse_window(text) for text in self.windows)
        return UploadLimits(
            bytes_per_second=self.bytes_per_second,
            windows=windows,
            metered=self.metered,
            metered_loss=self.metered_loss,
        )
