"""What vehicles sealed for the fleet, opened with the keys that this process has read."""

import logging

from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.wire.collected import KeptFrame, read_kept
from misgiving.runtime.wire.offers import Header, read_header
from misgiving.runtime.wire.sealing import (
    FRAME,
    HEADER,
    OpeningKeys,
    is_sealed,
    open_sealed,
    sealed_with,
)

log = logging.getLogger(__name__)


class Opener:
    """Reads frames and headers, sealed or not.

    Args:
        keys: the fleet's private keys by id, see :func:`read_opening_keys`.
    """

    def __init__(self, keys: OpeningKeys) -> None:
        self._keys = keys
        self._told = set[str]()

    def frame(self, body: bytes, *, asked: bool = False) -> KeptFrame:
        """What is in the bytes of a frame.

        Args:
            body: the bytes.
            asked: somebody has asked for it, who is told what is raised; else the log is.

        Raises:
            DataError: they are none, or altered.
            FailedPrecondition: they are sealed for a key that is not here.
        """
        return read_kept(self._opened(body, FRAME, asked))

    def header(self, data: bytes) -> Header:
        """What is in the bytes of a header; raises as :meth:`frame`."""
        return read_header(self._opened(data, HEADER, False))

    def _opened(self, data: bytes, info: bytes, asked: bool) -> bytes:
        if not is_sealed(data):
            return data
        try:
            return open_sealed(data, self._keys, info)
        except FailedPrecondition as error:
            if not asked and (key := sealed_with(data)) not in self._told:  # vehicles try again
                self._told.add(key)
                log.error("%s", error)
            raise
