"""What shared memory saves a camera's process on the server's machine.

Raw frames through a near-zero network, by ``misgiving serve`` and ``Client`` as they are: handed
over in shared memory, which is what they do by themselves, beside sent by gRPC. One frame after the
other, each answered before the next, and an in-order stream. The server runs on the first core, the
client on the second. Each frame is an array that the client has already; its one region is a
person two thirds as tall as the frame, or the whole of it, which takes the server long to cut.

Run: python benchmarks/shared_memory.py > benchmarks/shared_memory_cpu_<yyyymm>.md
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

import numpy as np
from serving_ways import SECOND, cpu_ms, ours

from misgiving.runtime import Client, Frame, Region, make_frame

TINY = Path(__file__).parents[1] / "tests" / "shared" / "tiny_bundle"
SIZES = ((360, 640), (720, 1280), (1080, 1920))
SHARED, SENT = "in shared memory", "sent by gRPC"
WARM_UP, FRAMES, ROUNDS = 10, 40, 5

Cost = tuple[float, float, float]
"""Milliseconds a frame, CPU milliseconds of the server and of the client."""


def main() -> None:
    """Ask in both ways, in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    os.sched_setaffinity(0, {SECOND})
    print("\n".join(_page(_measured(rounds), rounds)))


def _measured(rounds: int) -> dict[tuple[str, str, str], list[Cost]]:
    """(frame, how it is asked, way) → the cost of each round."""
    found: dict[tuple[str, str, str], list[Cost]] = {}
    with ExitStack() as stack:
        process, address = stack.enter_context(ours(TINY))
        ways = {
            name: stack.enter_context(Client(address, shared_memory=name == SHARED))
            for name in (SHARED, SENT)
        }
        for height, width in SIZES:
            image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
            for number in range(rounds + 1):
                for how, (ask, part) in ASKED.items():
                    frame = make_frame(image, [part(height, width)])
                    for name, client in ways.items():
                        cost = _cost(ask, client, frame, process.pid, bool(number))
                        if number:
                            found.setdefault((f"{width} × {height}", how, name), []).append(cost)
    return found


def _one_by_one(client: Client, frame: Frame, frames: int) -> float:
    taken = []
    for _ in range(frames):
        start = time.perf_counter()
        client.infer(frame.image, frame.regions)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def _streamed(client: Client, frame: Frame, frames: int) -> float:
    start = time.perf_counter()
    *_, last = client.stream(frame for _ in range(frames))
    assert last.answered == frames, last
    return (time.perf_counter() - start) / frames


def _person(height: int, width: int) -> Region:
    return Region(width / 3, height / 6, height / 3, height * 2 / 3)


def _whole(height: int, width: int) -> Region:
    return Region(0, 0, width, height)


Ask = Callable[[Client, Frame, int], float]
"""Gives the seconds that a frame takes, of so many."""
ASKED: dict[str, tuple[Ask, Callable[[int, int], Region]]] = {
    "a person, one by one": (_one_by_one, _person),
    "a person, a stream": (_streamed, _person),
    "the whole, one by one": (_one_by_one, _whole),
}


def _cost(ask: Ask, client: Client, frame: Frame, pid: int, warm: bool) -> Cost:
    frames = FRAMES if warm else WARM_UP
    server, ours = cpu_ms(pid), time.process_time()
    taken = ask(client, frame, frames)
    server, ours = cpu_ms(pid) - server, time.process_time() - ours
    return taken * 1e3, server / frames, ours * 1e3 / frames


def _page(found: dict[tuple[str, str, str], list[Cost]], rounds: int) -> Iterator[str]:
    yield "# Shared memory"
    yield ""
    yield (
        f"`python benchmarks/shared_memory.py --rounds {rounds}`, {time.strftime('%Y-%m-%d')}, "
        f"{platform.machine()}, {os.cpu_count()} cores: server on one, client on the other; "
        f"CPython {platform.python_version()}, grpcio {metadata.version('grpcio')}, 1 thread, "
        f"loopback. `misgiving serve` and `Client` as users get them, raw frames through a "
        f"near-zero network; {rounds} interleaved rounds of {FRAMES} frames, medians of the "
        "rounds. A round's time is the median of its frames; of a stream, the mean. The ratio is "
        "shared / sent, the median of the rounds' own."
    )
    yield ""
    yield (
        "| frame | asked | ms: shared | sent | ratio | server, CPU ms: shared | sent | ratio | "
        "client, CPU ms: shared | sent | ratio |"
    )
    yield "|---|---|" + "---:|" * 9
    for size, how in dict.fromkeys((size, how) for size, how, _ in found):
        shared, sent = (np.array(found[size, how, way]) for way in (SHARED, SENT))
        cells = [size, how]
        for column in range(3):
            a, b = shared[:, column], sent[:, column]
            cells += [f"{np.median(a):.2f}", f"{np.median(b):.2f}", f"{np.median(a / b):.2f}"]
        yield "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
