"""What an uploader's tests share."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from misgiving.collector.store import Store
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.outbox.uploader import Uploader
from misgiving.runtime.outbox.value import Entry
from misgiving.v1.fleet_pb2 import CollectedFrame
from shared.collecting import DEADLINE_S, offer, until_pending


class RecordingStore(Store):
    """A store that remembers where its uploads began and how they went on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.offsets: list[int] = []

    def append(self, digest: str, offset: int, data: bytes) -> int:
        self.offsets.append(offset)
        return super().append(digest, offset, data)


class FailingStore(Store):
    """A store whose disk fails at the first write, of one frame or of all."""

    failures = 1
    fails_at = ""

    def append(self, digest: str, offset: int, data: bytes) -> int:
        self._fail(digest)
        return super().append(digest, offset, data)

    def take(self, bodies: Mapping[str, bytes], *more: Any) -> dict[str, bool | MisgivingError]:
        for digest in bodies:
            self._fail(digest)
        return super().take(bodies, *more)

    def _fail(self, digest: str) -> None:
        if self.failures and digest.startswith(self.fails_at):
            self.failures -= 1
            raise OSError(28, "No space left on device")


class AskedSpool(Spool):
    """A spool that counts how often it was asked for what is pending, and tells of what left it."""

    asked = 0

    def __init__(self, folder: Path, **options: Any) -> None:
        self.left = threading.Semaphore(0)
        super().__init__(folder, **options)

    def remove(self, *digests: str) -> None:
        super().remove(*digests)
        self.left.release(len(digests) or 1)

    def until_uploaded(self, count: int) -> None:
        while self.counts().uploaded < count:
            assert self.left.acquire(timeout=DEADLINE_S), "no frame was uploaded in time"

    def entries(self) -> dict[str, Entry]:
        self.asked += 1
        return super().entries()


def spooled(spool: Spool, *frames: CollectedFrame) -> list[str]:
    for frame in frames:
        assert offer(spool, frame)
    until_pending(spool, len(frames))
    return spool.pending()


def uploader(spool: Spool, target: str, **options: Any) -> Uploader:
    made = Uploader(spool, target, first_wait_s=0.01, longest_wait_s=0.05, **options)
    made.start()
    return made
