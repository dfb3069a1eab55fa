"""Clients that do not read, close half, hang or vanish leave nothing behind, and harm nobody."""

import asyncio
import os
import signal
import subprocess
import sys

import grpc
import numpy as np
import pytest

from misgiving.runtime.net import grpc_server
from misgiving.runtime.net.room import Limits
from misgiving.runtime.serving.server import LIMITS
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub
from shared.collecting import eventually
from shared.fuzzing import resident
from shared.serving import DEADLINE_S, Requests, Running, named, serving

LIVE, IN_ORDER = wire.STREAM_MODE_LIVE, wire.STREAM_MODE_IN_ORDER
FRAME = wire.StreamInferRequest(frame=named("0"))
STREAMS = 10
FULL = Limits(message_bytes=1 << 20, in_flight_bytes=(1 << 20) + 999, kept=1, wait_s=0.0)
"""Room for a stream and its opening, and for no frame of it beside the next one."""
CLIENT = """
import sys, grpc
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub
from shared.serving import Requests, named
address, streams = sys.argv[1], []
stub = FailureDetectorStub(grpc.insecure_channel(address))
for number in range({streams}):
    requests = Requests(wire.STREAM_MODE_LIVE + number % 2)
    requests.put(frame=named("0"))
    replies = stub.StreamInfer(iter(requests))
    next(replies)
    streams.append(replies)
print("open", flush=True)
sys.stdin.read()
"""


def left(server: Running) -> tuple[int, int, int, int, int]:
    """Streams, crops under way, sources, turns, and tasks of the loop."""

    async def count() -> tuple[int, int, int, int, int]:
        servicer, places = server.server.servicer, server.pipeline._places
        waiting, held = len(places._waiting), len(places._held)
        tasks = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
        return len(servicer._streams), places.taken, held, waiting, len(tasks)

    return server.call(count())


def test_a_stream_that_nobody_reads_stands_still_and_loses_nothing() -> None:
    """The other one has a connection of its own, as another client has."""
    many, opening = 600, wire.StreamInferRequest(open=wire.StreamOpen(mode=IN_ORDER))
    # Otherwise gRPC lets what is not read grow to megabytes, which takes long to fill.
    small = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16)]
    with serving() as server, grpc.insecure_channel(server.address, small) as channel:
        unread = FailureDetectorStub(channel).StreamInfer(iter([opening, *[FRAME] * many]))
        eventually(lambda: bool(server.server.servicer._streams))
        (stream,) = server.server.servicer._streams
        other = Requests(IN_ORDER)
        replies = server.stub.StreamInfer(iter(other))
        for number in range(400):
            other.put(frame=named(str(number)))
            assert next(replies).result.frame_id == str(number)
        other.close()
        assert next(replies).summary.answered == 400
        assert stream.so_far.received < many
        *results, last = unread
        assert len(results) == many
        assert last.summary == wire.StreamSummary(received=many, answered=many)


def test_hundreds_of_streams_that_are_left_leave_nothing() -> None:
    with serving() as server:
        before = left(server)
        for number in range(600):
            requests = Requests(LIVE if number % 2 else IN_ORDER)
            for _ in range(number % 4):
                requests.put(frame=named("0"))
            if number % 3 == 0:
                requests.close()  # half-closed: it goes on for as long as there are answers
            replies = server.stub.StreamInfer(iter(requests))
            if number % 5 == 0 and number % 4:
                next(replies)
            replies.cancel()
            requests.close()
        eventually(lambda: left(server) == before)
        assert server.server.servicer.calls == 0


@pytest.mark.parametrize("told", [signal.SIGKILL, signal.SIGSTOP])
def test_a_client_that_vanishes_or_hangs_leaves_nothing(
    told: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one that hangs the kernel still acknowledges what is sent: only a ping finds it out."""
    # Long enough for a client that shares its core with many and is asked before it hangs.
    soon = {"grpc.keepalive_time_ms": 300, "grpc.http2.ping_timeout_ms": 5_000}
    assert soon.keys() <= dict(grpc_server.OPTIONS).keys()
    soon = {**dict(grpc_server.OPTIONS), **soon}
    monkeypatch.setattr(grpc_server, "OPTIONS", tuple(soon.items()))
    command = [sys.executable, "-c", CLIENT.format(streams=STREAMS)]
    with serving() as server:
        before = left(server)
        client = subprocess.Popen(
            [*command, server.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        with client:
            assert client.stdout is not None
            try:
                assert client.stdout.readline() == b"open\n"
                assert left(server)[0] == STREAMS
                client.send_signal(told)
                eventually(lambda: left(server) == before)
            finally:
                client.kill()
        assert server.server.servicer.calls == 0


@pytest.mark.parametrize(
    ("limits", "opening", "status"),
    [
        (LIMITS, [], "INVALID_ARGUMENT"),
        (FULL, [wire.StreamInferRequest(open=wire.StreamOpen(mode=IN_ORDER))], "EXHAUSTED"),
    ],
    ids=["not opened", "no room"],
)
def test_what_a_refused_stream_has_sent_is_not_kept(
    limits: Limits, opening: list[wire.StreamInferRequest], status: str
) -> None:
    """gRPC frees no call of which a message was left unread."""
    unread = wire.StreamInferRequest(frame=named("0", np.zeros((200, 200, 3), np.uint8)))
    with serving(limits=limits) as server:

        def refuse(streams: int) -> None:
            for _ in range(streams):
                requests = iter([*opening, *[unread] * 3])
                with pytest.raises(grpc.RpcError, match=status):
                    list(server.stub.StreamInfer(requests, timeout=DEADLINE_S))

        refuse(20)
        before = resident()
        refuse(600)
        assert resident() - before < 12 << 20  # else 40 MiB
