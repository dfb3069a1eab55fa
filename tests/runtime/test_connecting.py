"""Proxies: never for this machine, and named where one stands between."""

import numpy as np
import pytest

from misgiving.runtime.client import Client
from misgiving.runtime.errors import FailedPrecondition
from misgiving.runtime.net.connecting import through_proxy
from shared.ports import nobody
from shared.serving import serving

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "all_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("variable", [*VARIABLES, "all_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_reached_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, variable: str, host: str
) -> None:
    with serving() as server, nobody() as proxy:
        monkeypatch.setenv(variable, f"http://{proxy}")
        port = server.address.rpartition(":")[2]
        with Client(f"{host}:{port}", wait_s=0) as client:
            assert client.infer(np.zeros((48, 64, 3), np.uint8)).persons


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_proxy_that_stands_between_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with nobody() as proxy:
        monkeypatch.setenv(variable, f"http://user:hunter2@{proxy}")
        said = f"no answer from fleet.invalid:50051 through the proxy {proxy} of the variable "
        with (
            Client("fleet.invalid:50051", wait_s=0) as client,
            pytest.raises(FailedPrecondition, match=said + variable) as caught,
        ):
            client.model()
    assert "hunter2" not in str(caught.value)
    assert "Set no_proxy" in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "address", "words"),
    [
        ({}, "fleet:1", ""),
        ({"http_proxy": ""}, "fleet:1", ""),
        ({"http_proxy": "http://p:3"}, "[::1]:1", ""),
        (
            {"http_proxy": "http://p:3"},
            "fleet:1",
            " through the proxy p:3 of the variable http_proxy",
        ),
        # the first that gRPC reads; those it does not read
        (
            {"http_proxy": "http://p:3", "grpc_proxy": "http://q:4"},
            "fleet:1",
            " through the proxy q:4 of the variable grpc_proxy",
        ),
        ({"all_proxy": "http://p:3", "HTTP_PROXY": "http://p:3"}, "fleet:1", ""),
        # exceptions
        ({"http_proxy": "http://p:3", "no_proxy": "a, fleet"}, "fleet:1", ""),
        ({"http_proxy": "http://p:3", "no_proxy": ".example"}, "fleet.example:1", ""),
        ({"http_proxy": "http://p:3", "no_grpc_proxy": "fleet", "no_proxy": "a"}, "fleet:1", ""),
    ],
)
def test_which_proxy(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], address: str, words: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert through_proxy(address) == words
