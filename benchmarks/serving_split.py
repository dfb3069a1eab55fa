"""The engine on a core of its own, beside the bare engine: a part of ``serving.py``.

The engine's thread is alone on the first core; event loop, decoding and the client share the
second. The bare engine, on the first, gets the batches that the server formed, in their order.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from serving_ways import FIRST, SECOND, STREAMS, WAYS, Payload, Server, cpu_ms, streamed

from misgiving.runtime import images
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.engines.onnx import OnnxEngine

FRAMES, WARM_UP = 60, 10
"""Of each stream, in a round."""


@dataclass
class Split:
    """What a server did, and the bare engine beside it, in each round."""

    rates: list[float] = field(default_factory=list)
    """Frames a second."""
    bare: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Of the batches."""
    cpu: list[float] = field(default_factory=list)
    """Of the server, in ms a frame."""
    least: list[float] = field(default_factory=list)
    """Of decoding and the engine alone, in ms a frame."""


def split(rounds: int, payload: Payload) -> dict[str, Split]:
    """Both servers in turn, after a round that does not count."""
    found = {name: Split() for name in WAYS}
    engine = OnnxEngine(DEFAULT_BUNDLE / "model.onnx", threads=1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = {name: folder / str(number) for number, name in enumerate(WAYS)}
        ways = {
            name: stack.enter_context(way(DEFAULT_BUNDLE, files[name]))
            for name, way in WAYS.items()
        }
        for name, way in ways.items():
            _round(Split(), way, files[name], engine, payload, WARM_UP)
        for _ in range(rounds):
            for name, way in ways.items():
                _round(found[name], way, files[name], engine, payload, FRAMES)
    return found


def _round(
    found: Split, way: Server, file: Path, engine: OnnxEngine, payload: Payload, frames: int
) -> None:
    process, address = way
    known, spent = file.stat().st_size, cpu_ms(process.pid)
    rate = streamed(address, payload, frames)
    spent = cpu_ms(process.pid) - spent
    sizes = [*file.read_bytes()[known:]]
    assert sum(sizes) == STREAMS * frames, sizes
    bare, least = _bare(engine, sizes, payload)
    found.rates.append(rate)
    found.bare.append(bare)
    found.sizes += sizes
    found.cpu.append(spent / sum(sizes))
    found.least.append(least)


def _bare(engine: OnnxEngine, sizes: Sequence[int], payload: Payload) -> tuple[float, float]:
    """Frames a second of the engine alone with such batches, and the CPU of that and of decoding
    each frame, in ms a frame."""
    batches = {size: _crops(size) for size in set(sizes)}
    os.sched_setaffinity(0, {FIRST})
    try:
        engine.infer(batches[sizes[0]])
        start, spent = time.perf_counter(), time.process_time()
        for size in sizes:
            engine.infer(batches[size])
        rate = sum(sizes) / (time.perf_counter() - start)
        if isinstance(payload, bytes):
            for _ in range(sum(sizes)):
                images.decode(payload)
        return rate, (time.process_time() - spent) * 1e3 / sum(sizes)
    finally:
        os.sched_setaffinity(0, {SECOND})


def crop() -> NDArray[np.uint8]:
    """Noise of the size that the bundle's network takes."""
    rule = Bundle.load(DEFAULT_BUNDLE).manifest.crop
    return np.random.default_rng(0).integers(0, 255, (rule.height, rule.width, 3), np.uint8)


def _crops(size: int) -> NDArray[np.uint8]:
    return np.stack([crop()] * size)


def lines(raw: dict[str, Split], jpeg: dict[str, Split]) -> list[str]:
    """The part of the page."""
    found = [
        "",
        f"The engine's thread alone on one core; event loop, decoding and the client of {STREAMS} "
        "streams on the other. The bare engine, on its core, with the batches that the server "
        f"formed. {FRAMES} raw crops a stream and round; the ratio is the median of the rounds':",
        "",
        "| | frames/s, median | mean batch | bare engine | of the bare engine |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, one in raw.items():
        rate, bare = np.median(one.rates), np.median(one.bare)
        ratio = np.median(np.divide(one.rates, one.bare))
        batch = np.mean(one.sizes)
        found.append(f"| {name} | {rate:.0f} | {batch:.1f} | {bare:.0f} | {ratio:.2f} |")
    found += [
        "",
        "720p JPEGs in the same way; CPU of the server, all its threads, and of decoding and the "
        "engine alone with the same batches:",
        "",
        "| | CPU ms a frame, median | decode + engine | ratio |",
        "|---|---:|---:|---:|",
    ]
    for name, one in jpeg.items():
        cpu, least = np.median(one.cpu), np.median(one.least)
        ratio = np.median(np.divide(one.cpu, one.least))
        found.append(f"| {name} | {cpu:.2f} | {least:.2f} | {ratio:.2f} |")
    return found
