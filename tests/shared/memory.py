"""Shared memory of a server, as a client without our Client has it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.wire.sharing import FOLDER, PREFIX, Lent, memory_request, to_lent
from misgiving.v1 import pose_pb2 as pose
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub
from shared.serving import Running


@dataclass
class Held:
    """Memory that is lent until ``call`` ends."""

    lent: Lent
    handle: int

    def put(self, image: NDArray[np.uint8], slot: int = 0, name: str = "") -> pose.Frame:
        """Write a picture to a slot; the frame that says so."""
        os.pwrite(self.handle, np.ascontiguousarray(image).data, slot * self.lent.slot_bytes)
        return self.frame(slot, *image.shape[:2], name=name)

    def frame(self, slot: int, height: int, width: int, *, name: str = "") -> pose.Frame:
        shared = pose.SharedImage(
            token=self.lent.token, slot=slot, height_px=height, width_px=width
        )
        return pose.Frame(frame_id=name, image=pose.Image(shared=shared))


@contextmanager
def lent(stub: FailureDetectorStub, slots: int, slot_bytes: int) -> Iterator[Held]:
    call = stub.ShareMemory(memory_request(slots, slot_bytes))
    try:
        memory = to_lent(next(call))
        handle = os.open(FOLDER / memory.name, os.O_RDWR)
        try:
            yield Held(memory, handle)
        finally:
            os.close(handle)
    finally:
        call.cancel()


def named(pid: int) -> list[str]:
    """The names that a process has in the folder of shared memory."""
    return sorted(path.name for path in FOLDER.glob(f"{PREFIX}{pid}-*"))


def held(pid: int) -> int:
    """The pieces that a process has open, with a name or without."""
    count = 0
    for one in os.listdir(f"/proc/{pid}/fd"):
        try:
            count += os.readlink(f"/proc/{pid}/fd/{one}").startswith(f"{FOLDER}/{PREFIX}")
        except FileNotFoundError:  # closed meanwhile
            continue
    return count


def pieces(server: Running) -> int:
    """How many a server in this process lends."""
    return len(server.server.servicer.shared._pieces)


def nothing_left(server: Running) -> bool:
    return (pieces(server), held(os.getpid()), named(os.getpid())) == (0, 0, [])
