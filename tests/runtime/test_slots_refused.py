"""A client falls back to sending: memory that is not lent, or not what it should be."""

import logging
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from misgiving.runtime.client import Client
from misgiving.runtime.net import slots
from misgiving.runtime.net.slots import SLOTS
from misgiving.runtime.nouns import make_frame
from misgiving.v1 import detector_pb2 as wire
from shared import tiny
from shared.collecting import eventually
from shared.memory import held, pieces
from shared.posing import passed, posing
from shared.serving import Running, serving

SPOTS = tiny.spots([7] * 14, scale=8)
"""Large enough for shared memory."""
LIMIT = 32 << 20


@pytest.fixture
def server() -> Iterator[Running]:
    with serving(shared_bytes=LIMIT) as running:
        yield running
    assert not held(os.getpid())


def falls_back(client: Client, log: pytest.LogCaptureFixture, why: str) -> None:
    """One line says so, and every frame is answered."""
    with log.at_level(logging.INFO, "misgiving"):
        for _ in range(3):
            assert client.infer(SPOTS).persons[0].keypoints[0, 0] == 7.5 * 8
        assert len(list(client.stream([make_frame(SPOTS)] * 3))) == 4
    (line,) = [one.getMessage() for one in log.records if "shared memory" in one.getMessage()]
    assert why in line
    assert "\n" not in line


def test_a_server_that_lends_none(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as server, Client(server.address) as client:
        falls_back(client, caplog, "FAILED_PRECONDITION: shared memory is off here")


def test_a_server_that_has_no_more(caplog: pytest.LogCaptureFixture) -> None:
    with serving(shared_bytes=SPOTS.nbytes) as server, Client(server.address) as client:
        falls_back(client, caplog, "RESOURCE_EXHAUSTED: 8 slots of")


def test_another_container(
    server: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its folder of shared memory is not the server's; what was lent in vain is given back."""
    monkeypatch.setattr(slots, "FOLDER", tmp_path)
    with Client(server.address) as client:
        falls_back(client, caplog, "cannot be opened: No such file or directory")
        eventually(lambda: not pieces(server))


def test_an_older_server(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with posing(**passed(server)) as address, Client(address) as client:
        falls_back(client, caplog, "UNIMPLEMENTED: Method not found!")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("misgiving-../../etc/hostname", "is no name of shared memory"),
        ("../../etc/hostname", "is no name of shared memory"),
        ("", "is no name of shared memory"),
        ("misgiving-1-00", "cannot be opened"),
        ("misgiving-2-00", "has 5 bytes; expected 8 × 5"),
        ("misgiving-3-00", "cannot be opened: Too many levels of symbolic links"),
        ("misgiving-4-00", "it lends slots of 5 bytes; expected "),
    ],
)
def test_a_name_is_looked_at_before_it_is_opened(
    server: Running,
    name: str,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever poses as a server has nothing overwritten."""
    monkeypatch.setattr(slots, "FOLDER", tmp_path)
    precious = tmp_path / "misgiving-2-00"
    precious.write_bytes(b"12345")
    (tmp_path / "misgiving-3-00").symlink_to(precious)
    (tmp_path / "misgiving-4-00").write_bytes(bytes(8 * 5))

    def lend(request: wire.ShareMemoryRequest, _: object) -> Iterator[wire.ShareMemoryResponse]:
        memory = wire.SharedMemory(name=name, token=b"t", slots=8, slot_bytes=5)
        yield wire.ShareMemoryResponse(memory=memory)

    with posing(**passed(server), ShareMemory=lend) as address, Client(address) as client:
        falls_back(client, caplog, why)
    assert precious.read_bytes() == b"12345"


def test_a_server_that_ends_its_call_at_once(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    relay = posing(**passed(server), ShareMemory=lambda request, context: iter(()))
    with relay as address, Client(address) as client:
        falls_back(client, caplog, "it lends none")


def test_memory_that_cannot_be_written_to(server: Running) -> None:
    """The frame travels, and its slot is not lost."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Client(server.address) as client:
        first = client.infer(SPOTS)
        memory = client._slots._memory
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))  # what pytest captures fits
        try:
            again = [client.infer(SPOTS) for _ in range(SLOTS + 1)]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [one.persons for one in again] == [first.persons] * (SLOTS + 1)
        assert client._slots._memory is memory
        assert memory.unused
