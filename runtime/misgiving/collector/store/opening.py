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

    def frame(self, body: bytes) -> KeptFrame:
        """What is in the bytes of a frame.

        Raises:
            DataError: they are none, or altered.
            FailedPrecondition: they are sealed for a key that is not here.
        """
        return read_kept(self._opened(body, FRAME))

    def header(self, data: bytes) -> Header:
        """What is in the bytes of a header; raises as :meth:`frame`."""
        return read_header(self._opened(data, HEADER))

    def _opened(self, data: bytes, info: bytes) -> bytes:
        if not is_sealed(data):
            return data
        try:
            return open_sealed(data, self._keys, info)
        except FailedPrecondition as error:
            if (key := sealed_with(data)) not in self._told:  # once: the vehicles try again
                self._told.add(key)
                log.error("%s", error)
            raise
