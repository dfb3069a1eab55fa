"""The verb ``stream``: a folder or a video goes to a server; replies are counted and written."""

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from pydantic import TypeAdapter, ValidationError

from misgiving.runtime.client import Client, make_frame
from misgiving.runtime.detector import is_flagged
from misgiving.runtime.errors import DataError, InvalidInput, first_problem
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import name_of
from misgiving.runtime.records import error_record, finite, result_record
from misgiving.runtime.sources import Picture, open_source
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose

DEFAULT_FPS = 25.0

Regions = dict[str, list[tuple[float, float, float, float]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamOptions:
    """What is streamed, and how."""

    source: Path
    server: str = "127.0.0.1:50051"
    live: bool = False
    """Pace the frames like a camera; the newest wins."""
    fps: float | None = None
    """None for the recording's own, or DEFAULT_FPS."""
    regions: Path | None = None
    """JSON: frame name → list of [x, y, width, height] in image px."""
    json: Path | None = None
    """Takes one line for each reply."""

    def __post_init__(self) -> None:
        if self.fps is not None and not self.live:
            raise InvalidInput("--fps paces a live stream; add --live, or leave it out")
        if self.fps is not None and not 0.001 <= self.fps <= 10_000:
            raise InvalidInput(f"fps is {self.fps:g}; expected frames per second, 0.001 to 10000")


@dataclass(slots=True)
class Tally:
    """What became of the frames of a stream, as the client saw it."""

    sent: int = 0
    answered: int = 0
    failed: int = 0
    dropped: int = 0
    flagged: int = 0
    queued: int = 0
    lost: int = 0
    refused: int = 0
    """Sent, but not taken by a server that was stopping."""
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=100_000))
    """Round trips of the last answers."""
    _under_way: deque[tuple[str, float]] = field(default_factory=deque)

    def send(self, frame_id: str, now_s: float) -> None:
        self.sent += 1
        self._under_way.append((frame_id, now_s))

    def take(self, reply: wire.StreamInferResponse, now_s: float) -> float | None:
        """Count one reply; gives a result's round trip in seconds."""
        match reply.WhichOneof("message"):
            case "result":
                return self._take_result(reply.result, now_s)
            case "error":
                self.failed += 1
                self._since_sent(reply.error.frame_id, now_s)
            case "summary":
                self.dropped = reply.summary.dropped
                self.refused = self.sent - reply.summary.received
        return None

    def lines(self) -> list[str]:
        """The summary, for people."""
        lines = [
            f"frames: {self.sent} sent, {self.answered} answered, {self.failed} failed, "
            f"{self.dropped} dropped",
            f"flagged: {self.flagged}, of these {self.queued} queued for collection, "
            f"{self.lost} lost",
        ]
        if self.latencies_s:
            p50, p99 = np.percentile(self.latencies_s, [50, 99]) * 1e3
            lines.append(f"round trip: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        if self.refused:
            lines.append(f"server stopped: {self.refused} frames were not taken. Send them again")
        return lines

    def _take_result(self, result: wire.FrameResult, now_s: float) -> float | None:
        self.answered += 1
        self.flagged += is_flagged(result)
        self.queued += result.collection == wire.COLLECTION_QUEUED
        self.lost += result.collection == wire.COLLECTION_LOST
        if (latency := self._since_sent(result.frame_id, now_s)) is not None:
            self.latencies_s.append(latency)
        return latency

    def _since_sent(self, frame_id: str, now_s: float) -> float | None:
        """Replies come in the order of sending: whatever was sent before this was dropped."""
        while self._under_way:
            sent_id, sent_s = self._under_way.popleft()
            if sent_id == frame_id:
                return now_s - sent_s
        return None


def stream(options: StreamOptions) -> int:
    """Stream, report, and return the exit code: 1 where a frame failed or was refused."""
    source = open_source(options.source)
    regions = read_regions(options.regions) if options.regions else {}
    fps = (options.fps or source.fps or DEFAULT_FPS) if options.live else None
    pictures = paced(source, fps) if fps else source
    tally = Tally()
    frames = _frames(pictures, regions, tally, options)
    with Client(options.server) as client, _writer(options.json) as file:
        model = client.model()
        for reply in client.stream(frames, live=options.live):
            latency_s = tally.take(reply, time.monotonic())
            _report(reply, latency_s, model, file)
            _show(tally)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print("\n".join(tally.lines()))
    if regions:
        unused = f"{next(iter(regions))!r} and {len(regions) - 1} more"
        print(f"regions without a frame: {unused}; expected names of frames", file=sys.stderr)
    return int(bool(tally.failed or tally.refused))


def paced(
    pictures: Iterable[Picture],
    fps: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Picture]:
    """Hand pictures out like a camera: picture i not before i / fps seconds."""
    start = clock()
    for index, picture in enumerate(pictures):
        sleep(max(0.0, start + index / fps - clock()))
        yield picture


def read_regions(path: Path) -> Regions:
    """Read a file of regions.

    Raises:
        DataError: it cannot be read, or is not an object of lists of four numbers.
    """
    try:
        return TypeAdapter(Regions).validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a JSON file") from error
    except ValidationError as error:
        raise DataError(
            f"{path}: {first_problem(error)}; "
            'expected {"FRAME": [[x, y, width, height], …], …} in image pixels'
        ) from error


def _frames(
    pictures: Iterable[Picture], regions: Regions, tally: Tally, options: StreamOptions
) -> Iterator[pose.Frame]:
    """Frames for the wire; takes what it uses out of ``regions``."""
    stream_id = name_of(Path(options.source.name))
    for picture in pictures:
        boxes = [Region(*box) for box in regions.pop(picture.name, [])]
        # A recording's capture time is not known; a live one's is now.
        captured = time.time_ns() if options.live else 0
        tally.send(picture.name, time.monotonic())
        yield make_frame(picture.image, boxes, picture.name, captured, stream_id)


def _writer(path: Path | None) -> "nullcontext[None] | IO[str]":
    if path is None:
        return nullcontext()
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a file to write to") from error


def _report(
    reply: wire.StreamInferResponse,
    latency_s: float | None,
    model: wire.Model,
    file: IO[str] | None,
) -> None:
    kind = reply.WhichOneof("message")
    if kind == "error":
        print(f"misgiving: {reply.error.message}", file=sys.stderr)
    if file is None or kind == "summary":
        return
    if kind == "error":
        record = error_record(reply.error)
    else:
        record = result_record(reply.result, model.keypoint_names, model.signals)
        record["round_trip_ms"] = None if latency_s is None else finite(latency_s * 1e3)
    file.write(json.dumps(record) + "\n")


def _show(tally: Tally) -> None:
    if sys.stderr.isatty():
        progress = f"{tally.sent} sent, {tally.answered} answered, {tally.flagged} flagged"
        print(f"\r{progress}", end="", file=sys.stderr, flush=True)
