"""Scrapers that say nothing, do not read or come in crowds hold no thread and no descriptor."""

import socket
import subprocess
import sys
import threading
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, Gauge

from misgiving.runtime.telemetry import scraping
from shared.collecting import DEADLINE_S, eventually


def connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE_S)


def answers(address: str) -> bool:
    with urlopen(f"http://{address}/metrics", timeout=DEADLINE_S) as reply:
        return b"misgiving_there 1.0" in reply.read()


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge("misgiving_there", "One.", registry=registry).set(1)
    return registry


@pytest.mark.parametrize("said", [b"", b"GET /metrics HTTP/1.1\r\n"])
def test_of_a_crowd_that_says_nothing_the_oldest_are_hung_up_on(
    registry: CollectorRegistry, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scraping, "MAX_SCRAPERS", most := 3)
    with scraping.scraped(registry, "127.0.0.1:0") as address:
        before = threading.active_count()
        crowd = [connected(address) for _ in range(4 * most)]
        for one in crowd:
            one.sendall(said)
        for one in crowd[:-most]:
            assert ended(one)
        assert answers(address)
        eventually(lambda: threading.active_count() <= before + most)
        for one in crowd:
            one.close()
        eventually(lambda: threading.active_count() <= before)


def test_whoever_takes_too_long_is_hung_up_on(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scraping, "LONGEST_S", 0.0)
    with scraping.scraped(registry, "127.0.0.1:0") as address:
        before = threading.active_count()
        with connected(address) as silent:
            assert ended(silent)
        eventually(lambda: threading.active_count() <= before)


def ended(one: socket.socket) -> bool:
    """Whether the server hangs up; waits for it."""
    try:
        return one.recv(1) == b""
    except ConnectionResetError:  # with something unread
        return True


NO_DESCRIPTORS = """
import os, resource, socket, sys, threading, time, urllib.request
from prometheus_client import CollectorRegistry
from misgiving.runtime.net import listening
from misgiving.runtime.telemetry.scraping import scraped

class Counting(socket.socket):
    def accept(self):
        try:
            return super().accept()
        except OSError:
            refused.release()
            raise

refused = threading.Semaphore(0)
import socketserver
socketserver.socket.socket = Counting
with scraped(CollectorRegistry(), "127.0.0.1:0") as address:
    host, port = address.split(":")
    asking = socket.create_connection((host, int(port)))
    clients = [asking] + [socket.socket() for _ in range(2)]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(1) + 1, most))
    clients[1].connect((host, int(port)))
    began = time.monotonic()
    for _ in range(4):
        refused.acquire()
    print(time.monotonic() - began > 2 * listening.RETRY_S)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(urllib.request.urlopen(f"http://{address}/metrics", timeout=60).status)
"""


def test_without_a_descriptor_left_it_waits_and_comes_back() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", NO_DESCRIPTORS], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.split() == ["True", "200"], ran.stderr
