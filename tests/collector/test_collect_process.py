"""The process of a collector: its address, its signals, and that acknowledged means durable."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from misgiving.collector.service import SERVICE, start_server
from misgiving.collector.store import Store
from misgiving.runtime.errors import FailedPrecondition, InvalidInput
from misgiving.runtime.wire.collected import to_message
from misgiving.v1.fleet_pb2_grpc import FleetCollectorStub
from shared.collecting import child, collected, serialise
from shared.uploads import upload_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as store:
        yield store


def test_port_in_use(store: Store) -> None:
    async def scene() -> None:
        server, address = await start_server("127.0.0.1:0", store)
        try:
            with pytest.raises(FailedPrecondition, match=f"{address} cannot be bound; expected"):
                await start_server(address, store)
        finally:
            await server.stop(None)

    asyncio.run(scene())


@pytest.mark.parametrize(
    "listen", ["", "50052", "127.0.0.1", "127.0.0.1:", ":1", "h:65536", "h:-1"]
)
def test_address_that_is_none(store: Store, listen: str) -> None:
    with pytest.raises(InvalidInput, match="expected HOST:PORT"):
        asyncio.run(start_server(listen, store))


COLLECT = """
import sys
from misgiving.runtime.verbs.command import main

store, listen = [*sys.argv[1:], "127.0.0.1:0"][:2]
sys.argv[1:] = ["collect", "--listen", listen, "--store", store]
main()
"""


def address_of(process: "subprocess.Popen[str]", folder: Path) -> str:
    line = process.stderr.readline().strip()
    assert line.startswith("collecting on 127.0.0.1:"), line + process.stderr.read()
    assert line.endswith(f" into {folder}")
    return line.split()[2]


def test_port_in_use_is_one_line(tmp_path: Path) -> None:
    with child(COLLECT, tmp_path / "a") as first:
        address = address_of(first, tmp_path / "a")
        with child(COLLECT, tmp_path / "b", address) as second:
            assert second.wait(60) == 2
            (line,) = second.stderr.read().splitlines()
    assert line.startswith(f"misgiving: {address} cannot be bound; expected")


def test_sigterm_ends_a_collector_that_is_alive_and_described(tmp_path: Path) -> None:
    with child(COLLECT, tmp_path) as process:
        with grpc.insecure_channel(address_of(process, tmp_path)) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", SERVICE):
                answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
            (answer,) = reflection.ServerReflectionInfo(iter([asked]), timeout=60)
        assert SERVICE in {s.name for s in answer.list_services_response.service}
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_killed_collector_has_what_it_acknowledged(tmp_path: Path) -> None:
    bodies = [serialise(collected(f"f{number}")) for number in range(5)]
    with child(COLLECT, tmp_path) as process:
        with grpc.insecure_channel(address_of(process, tmp_path)) as channel:
            stub = FleetCollectorStub(channel)
            for body in bodies:
                stub.Upload(upload_of(body), timeout=60)
        process.kill()
        process.wait(60)
    store = Store(tmp_path)
    assert [serialise(to_message(frame)) for _, frame in store.frames()] == bodies
    store.close()
