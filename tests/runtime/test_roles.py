"""Who may call what: the table alone, and on a real server with real certificates."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from misgiving.runtime.client import Client
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.net.grpc_server import bind, new_server
from misgiving.runtime.net.roles import Roles
from misgiving.runtime.nouns import make_frame
from shared.certificates import LOOPBACK, Authority
from shared.serving import BLACK, Running, serving

INFER, ADMIN = "/misgiving.v1.FailureDetector/Infer", "/any.Admin/Reload"
HEALTH = "/grpc.health.v1.Health/Check"
CARS, FITTER = "spiffe://fleet.example/car/", "fitter.example"
TABLE = Roles(infer=("bench.example", CARS + "*"), admin=(FITTER,))

DENIED, UNKNOWN = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("roles", "method", "names", "status"),
    [
        # without a table: everybody, for all but what changes the server
        (Roles(), INFER, (), None),
        (Roles(), INFER, ("x",), None),
        (Roles(), ADMIN, ("x",), DENIED),
        (Roles(), ADMIN, (), UNKNOWN),
        # with one: a whole name, a beginning, one of several names, admin for infer
        (TABLE, INFER, ("bench.example",), None),
        (TABLE, INFER, (CARS + "7",), None),
        (TABLE, INFER, ("x", "bench.example"), None),
        (TABLE, INFER, (FITTER,), None),
        (TABLE, ADMIN, (FITTER,), None),
        # close to a name is none
        (TABLE, INFER, ("bench.example.org",), DENIED),
        (TABLE, INFER, ("a.bench.example",), DENIED),
        (TABLE, INFER, ("spiffe://fleet.example/bus/7",), DENIED),
        (TABLE, ADMIN, (CARS + "7",), DENIED),
        (TABLE, INFER, (), UNKNOWN),
        # nobody
        (Roles(infer=()), INFER, ("x",), DENIED),
        # health is for all
        (Roles(infer=()), HEALTH, (), None),
    ],
)
def test_table(
    roles: Roles, method: str, names: tuple[str, ...], status: grpc.StatusCode | None
) -> None:
    refused = roles.refusal(method, names)
    assert (refused and refused[0]) == status
    assert refused is None or "\n" not in refused[1]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


@pytest.fixture(scope="module")
def own(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return authority.issue(tmp_path_factory.mktemp("own"), *LOOPBACK)


@pytest.fixture(scope="module")
def server(own: Path) -> Iterator[Running]:
    with serving(tls=own, roles=TABLE) as running:
        yield running


def client(server: Running, folder: Path) -> Client:
    return Client(server.address, wait_s=0, tls=folder)


def test_a_name_with_the_role_is_answered(
    server: Running, authority: Authority, tmp_path: Path
) -> None:
    for number, name in enumerate((CARS + "7", "bench.example", FITTER)):
        with client(server, authority.issue(tmp_path / str(number), name)) as caller:
            assert caller.infer(BLACK).persons
            assert len(list(caller.stream([make_frame(BLACK)]))) == 2
            assert caller.model()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("bus.example",), "PERMISSION_DENIED: bus.example may not call /misgiving.v1.F"),
        (("127.0.0.1",), "UNAUTHENTICATED: the caller of /misgiving.v1.F"),  # no DNS, no URI
        ((), "UNAUTHENTICATED: the caller of /misgiving.v1.F"),
    ],
)
def test_another_name_is_refused_before_a_method_is_entered(
    server: Running, authority: Authority, tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    with client(server, authority.issue(tmp_path / "other", *names)) as caller:
        for call in (
            lambda: caller.infer(BLACK),
            lambda: list(caller.stream([make_frame(BLACK)])),
            caller.model,
        ):
            with pytest.raises(MisgivingError, match=said):
                call()
    assert server.pipeline.info
    assert server.server.servicer.calls == 0


def credentials(folder: Path) -> grpc.ChannelCredentials:
    names = ("ca.crt", "tls.key", "tls.crt")
    return grpc.ssl_channel_credentials(*((folder / name).read_bytes() for name in names))


def test_health_is_open(server: Running, authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue(tmp_path / "other", "bus.example")
    with grpc.secure_channel(server.address, credentials(folder)) as channel:
        assert channel.unary_unary(HEALTH)(b"", timeout=60) == b"\x08\x01"


class Admin(grpc.GenericRpcHandler):
    """A service that changes a server."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        async def reload(request: bytes, context: object) -> bytes:
            return b"done"

        return grpc.unary_unary_rpc_method_handler(reload)


@pytest.mark.parametrize(("name", "status"), [(FITTER, None), (CARS + "7", DENIED)])
def test_admin(
    own: Path, authority: Authority, tmp_path: Path, name: str, status: grpc.StatusCode | None
) -> None:
    folder = authority.issue(tmp_path / "caller", name)

    async def scene() -> grpc.StatusCode | None:
        server = new_server(roles=TABLE)
        server.add_generic_rpc_handlers((Admin(),))
        address = bind(server, "127.0.0.1:0", own)
        await server.start()
        async with grpc.aio.secure_channel(address, credentials(folder)) as channel:
            try:
                assert await channel.unary_unary(ADMIN)(b"", timeout=60) == b"done"
            except grpc.aio.AioRpcError as error:
                return error.code()
            finally:
                await server.stop(None)
        return None

    assert asyncio.run(scene()) is status
