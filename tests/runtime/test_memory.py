"""Memory that a server frees with a frame is there for the next one."""

import ctypes
import mmap
from pathlib import Path

import numpy as np
import pytest

from misgiving.runtime.client import Client
from misgiving.runtime.geometry import Region
from runtime.commands import server

FRAMES = 20


def page_faults(pid: int) -> int:
    """That a process has had so far, without those that read a disk; see proc(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt"
)
def test_a_raw_frame_costs_less_than_a_page_fault_a_page() -> None:
    image = np.zeros((1080, 1920, 3), np.uint8)
    person = [Region(600, 100, 400, 800)]  # no larger array than the frame is made for it
    with server() as (process, address), Client(address, shared_memory=False) as client:
        for _ in range(FRAMES):
            client.infer(image, person)
        before = page_faults(process.pid)
        for _ in range(FRAMES):
            client.infer(image, person)
        assert page_faults(process.pid) - before < FRAMES * image.nbytes / mmap.PAGESIZE
