"""One harness: a real grpc.aio server in a thread, on a free port, with the tiny engine."""

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.engines.base import Engine, Prediction, Provider
from misgiving.runtime.flags.policy import FlagPolicy
from misgiving.runtime.net.roles import Roles
from misgiving.runtime.net.room import Limits
from misgiving.runtime.nouns import make_frame
from misgiving.runtime.persons.lookout import Lookout
from misgiving.runtime.serving.pipeline import Memory, Pipeline, Sink
from misgiving.runtime.serving.server import LIMITS, Server
from misgiving.runtime.serving.shadow import Shadow
from misgiving.runtime.wire.frames import fill_frame
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose
from misgiving.v1.detector_pb2_grpc import FailureDetectorStub
from shared import tiny

Got = TypeVar("Got")

BLACK = np.zeros((48, 64, 3), np.uint8)
DEADLINE_S = 60.0


class Gated:
    """The tiny engine behind a gate: says when it starts, and waits for a permit."""

    provider = Provider("onnxruntime", "onnxruntime", "gated", "fp32")

    def __init__(self, permits: int = 0) -> None:
        self._engine = tiny.engine()
        self.max_batch = self._engine.max_batch
        self.entered = threading.Semaphore(0)
        self.permits = threading.Semaphore(permits)
        self.sizes: list[int] = []
        self.threads: set[int] = set()
        self.error: Exception | None = None
        """Raised once, in place of the next answer."""

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        self.sizes.append(len(images))
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.permits.acquire(timeout=DEADLINE_S), "no permit came"
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return self._engine.infer(images)


class Running:
    """A server that runs, and the loop that it runs on."""

    def __init__(
        self, server: Server, pipeline: Pipeline, address: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.server = server
        self.pipeline = pipeline
        self.address = address
        self._loop = loop
        self.channel = grpc.insecure_channel(address, [("grpc.max_send_message_length", -1)])
        self.stub = FailureDetectorStub(self.channel)

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the server's loop."""
        return self.begin(work).result()

    def begin(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


@contextmanager
def serving(
    engine: Engine | None = None,
    policy: FlagPolicy | None = None,
    sink: Sink | None = None,
    *,
    memory: Memory | None = None,
    ready: bool = True,
    max_waiting: int = 256,
    draw: Callable[[], float] = lambda: 0.5,
    model: Model | None = None,
    lookout: Lookout | None = None,
    shadow: Shadow | None = None,
    tls: Path | None = None,
    roles: Roles = Roles(),
    limits: Limits = LIMITS,
    shared_bytes: int = 0,
) -> Iterator[Running]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def build() -> tuple[Server, Pipeline, str]:
        server = Server(roles=roles, limits=limits, shared_bytes=shared_bytes)
        pipeline = Pipeline(
            model or tiny.model(engine),
            policy or tiny.policy(),
            sink,
            memory=memory,
            device_id="car 7",
            draw=draw,
            max_waiting=max_waiting,
            lookout=lookout,
            shadow=shadow,
        )
        return server, pipeline, await server.start("127.0.0.1:0", tls)

    server, pipeline, address = asyncio.run_coroutine_threadsafe(build(), loop).result()
    running = Running(server, pipeline, address, loop)
    try:
        if ready:
            running.call(server.ready(pipeline))
        yield running
    finally:
        running.channel.close()
        running.call(server.stop(5))
        running.call(pipeline.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Requests:
    """The client's side of a stream, message by message."""

    def __init__(self, mode: int | None = None) -> None:
        self._queue: queue.Queue[wire.StreamInferRequest | None] = queue.Queue()
        if mode is not None:
            self.put(open=wire.StreamOpen(mode=mode))

    def put(self, **message: Any) -> None:
        self._queue.put(wire.StreamInferRequest(**message))

    def close(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[wire.StreamInferRequest]:
        return iter(self._queue.get, None)


def infer(server: Running, frame: pose.Frame) -> wire.FrameResult:
    return server.stub.Infer(wire.InferRequest(frame=frame), timeout=60).result


def wire_frame(image: bytes | NDArray[np.uint8], *arguments: Any, **named: Any) -> pose.Frame:
    """As ``make_frame``, as it travels."""
    fill_frame(message := pose.Frame(), make_frame(image, *arguments, **named))
    return message


def named(name: str, image: NDArray[np.uint8] = BLACK) -> pose.Frame:
    return wire_frame(image, frame_id=name)


def asked_meanwhile(ask: Callable[[int], Got], change: Callable[[], object]) -> list[list[Got]]:
    """What each of four clients got, who ask all the while: ten answers before a change, ten after.

    Args:
        ask: gets an answer; the numbers that it is given all differ.
        change: is made in between.
    """
    answered, stop = threading.Semaphore(0), threading.Event()

    def client(number: int) -> list[Got]:
        got = []
        while not stop.is_set():
            got.append(ask(number))
            answered.release()
            number += 4
        return got

    def wait_for_ten() -> None:
        for _ in range(10):
            assert answered.acquire(timeout=60)

    with ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(client, number) for number in range(4)]
        try:
            wait_for_ten()
            change()
            while answered.acquire(blocking=False):  # those that came meanwhile
                pass
            wait_for_ten()
        finally:
            stop.set()
        return [one.result(60) for one in asked]
