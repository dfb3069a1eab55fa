"""How much memory a server lends, and to whom."""

import os
import resource
from collections.abc import Iterator

import grpc
import pytest

from misgiving.runtime.serving.shared_memory import MAX_PIECES, MAX_SLOTS, is_on_this_machine
from misgiving.runtime.wire.sharing import memory_request
from shared.collecting import eventually
from shared.memory import held, lent, named, nothing_left, pieces
from shared.serving import Running, serving

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(shared_bytes=LIMIT) as running:
        yield running


@pytest.fixture(autouse=True)
def _given_back(server: Running) -> Iterator[None]:
    """Before the next test counts: a server hears a little later that a call was left."""
    yield
    eventually(lambda: nothing_left(server))


ASKED = {
    "no slots": (0, 9, "0 slots of 9 bytes", "INVALID_ARGUMENT"),
    "no bytes": (1, 0, "1 slots of 0 bytes", "INVALID_ARGUMENT"),
    "many slots": (MAX_SLOTS + 1, 1, f"expected 1 to {MAX_SLOTS}", "INVALID_ARGUMENT"),
    "many bytes": (1, LIMIT + 1, f"{LIMIT} of {LIMIT} bytes", "RESOURCE_EXHAUSTED"),
    "the most bytes": (MAX_SLOTS, 2**64 - 1, "are left", "RESOURCE_EXHAUSTED"),
    "all slots together": (2, LIMIT // 2 + 1, "are left", "RESOURCE_EXHAUSTED"),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_for_is_bounded(server: Running, name: str) -> None:
    slots, slot_bytes, message, status = ASKED[name]
    with pytest.raises(grpc.RpcError, match=message) as caught:
        next(server.stub.ShareMemory(memory_request(slots, slot_bytes)))
    assert caught.value.code().name == status
    assert not pieces(server)
    assert named(os.getpid()) == []


def test_all_clients_share_the_limit(server: Running) -> None:
    none_left = pytest.raises(grpc.RpcError, match=f"; 0 of {LIMIT} bytes and 31 of 32 pieces")
    with lent(server.stub, 2, LIMIT // 2), none_left:
        next(server.stub.ShareMemory(memory_request(1, 1)))
    eventually(lambda: not pieces(server))
    calls = [server.stub.ShareMemory(memory_request(1, 1)) for _ in range(MAX_PIECES)]
    for call in calls:
        next(call)
    with pytest.raises(grpc.RpcError, match="0 of 32 pieces") as caught:
        next(server.stub.ShareMemory(memory_request(1, 1)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for call in calls:
        call.cancel()
    eventually(lambda: not pieces(server) and not held(os.getpid()))
    with lent(server.stub, 1, LIMIT):
        assert pieces(server) == 1


def test_a_server_that_lends_none() -> None:
    with serving() as server, pytest.raises(grpc.RpcError, match="shared memory is off") as caught:
        next(server.stub.ShareMemory(memory_request(1, 1)))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_machine_that_has_none_left(server: Running) -> None:
    """As where the folder is full; the next one who asks for less gets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(grpc.RpcError, match="cannot be made: File too large") as caught:
            next(server.stub.ShareMemory(memory_request(1, LIMIT)))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert (pieces(server), named(os.getpid()), held(os.getpid())) == (0, [], 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with lent(server.stub, 1, LIMIT) as memory:
        assert os.fstat(memory.handle).st_blocks * 512 >= LIMIT  # so that no write can lack it


PEERS = {
    "ipv4:127.0.0.1:50051": True,
    "ipv4:127.8.8.8:1": True,
    "ipv6:[::1]:50051": True,
    "ipv6:%5B::1%5D:50051": True,
    "ipv6:%5B::ffff:127.0.0.1%5D:50051": True,
    "ipv4:10.0.0.7:50051": False,
    "ipv4:0.0.0.0:50051": False,
    "ipv6:%5Bfe80::1%25eth0%5D:50051": False,
    "ipv6:%5B::ffff:10.0.0.7%5D:50051": False,
    "ipv6:%5B::%5D:50051": False,
    "ipv4:localhost:1": False,
    "unix:/tmp/socket": False,
    "127.0.0.1:50051": False,
    "": False,
}


@pytest.mark.parametrize("peer", PEERS)
def test_who_is_on_this_machine(peer: str) -> None:
    assert is_on_this_machine(peer) == PEERS[peer]


def test_a_client_that_is_elsewhere(server: Running) -> None:
    async def ask() -> None:
        async with server.server.servicer.shared.lent(1, 1, "ipv4:10.0.0.7:50051"):
            pass

    with pytest.raises(Exception, match="10.0.0.7:50051 asks for .* expected a client on this"):
        server.call(ask())
