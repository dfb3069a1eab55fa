"""The verb ``stream``: a source goes to a server; replies are counted and written."""

import json
import logging
import signal
import sys
import threading
import time
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter, ValidationError

from misgiving.runtime.client import Client
from misgiving.runtime.errors import (
    DataError,
    InvalidInput,
    MisgivingError,
    ResourceExhausted,
    first_problem,
)
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import name_of
from misgiving.runtime.net.sending import threads_ended
from misgiving.runtime.nouns import Answer, Frame, FrameFailure, ModelInfo, make_frame
from misgiving.runtime.sources.feeds import find_feed
from misgiving.runtime.sources.live import Live
from misgiving.runtime.sources.recordings import DEFAULT_FPS, Picture, Source, open_source, paced
from misgiving.runtime.verbs.tally import Tally
from misgiving.runtime.wire.frames import sendable
from misgiving.runtime.wire.records import error_record, finite, result_record
from misgiving.runtime.wire.results import Reply

GRACE_S = 5
"""How long the last answers may take after a signal, in seconds."""

Regions = dict[str, list[tuple[float, float, float, float]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamOptions:
    """What is streamed, and how."""

    source: str = field(repr=False)
    """A path, a camera, a URL (which may hold a password) or env:NAME; see feeds.py."""
    server: str = "127.0.0.1:50051"
    live: bool = False
    """Pace a recording like a camera; the newest wins. A live source is live without it."""
    fps: float | None = None
    """None for the recording's own, or DEFAULT_FPS."""
    regions: Path | None = None
    """JSON: frame name → list of [x, y, width, height] in image px."""
    json: Path | None = None
    """Takes one line for each reply."""
    wait_s: float = 60.0
    """How long to wait for a server that is not there, or no longer; 0 fails at once."""
    tls: Path | None = None
    """Folder of certificates; see Client."""

    def __post_init__(self) -> None:
        if self.fps is not None and not self.live:
            raise InvalidInput("--fps paces a live stream; add --live, or leave it out")
        if self.fps is not None and not 0.001 <= self.fps <= 10_000:
            raise InvalidInput(f"fps is {self.fps:g}; expected frames per second, 0.001 to 10000")
        if not self.wait_s >= 0:
            raise InvalidInput(f"--wait is {self.wait_s:g}; expected seconds, 0 or more")


class Stop:
    """What signals ask for: the first to end with the answers that are due, the next at once."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.signals: list[int] = []

    def __call__(self, number: int, _frame: object) -> None:
        self.signals.append(number)
        if len(self.signals) == 1:
            self.asked.set()
            signal.alarm(GRACE_S)
        elif len(self.signals) == 2:  # what is left to do after it is short
            raise KeyboardInterrupt


@contextmanager
def stopping() -> Iterator[Stop]:
    """Take signals for the block; SIGALRM stands for an impatient second one."""
    stop = Stop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield stop
    finally:
        signal.alarm(0)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def stream(options: StreamOptions) -> int:
    """Stream until the source ends or a signal comes, and report.

    Returns:
        The exit code: 0 only where every frame was read and answered or, live, dropped and
        counted; 128 + its number after a signal.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    regions = read_regions(options.regions) if options.regions else {}
    tally = Tally()
    broken = False
    with threads_ended(), stopping() as stop:
        source = _open(options, stop)
        try:
            _exchange(source, regions, options, tally, stop)
        except KeyboardInterrupt:
            print("misgiving: left before the last answers had come", file=sys.stderr)
        except MisgivingError as error:
            if not (tally.sent or stop.signals):
                raise
            broken = True
            print(f"misgiving: {error}", file=sys.stderr)
        finally:
            if tally.sent or stop.signals:
                _print_summary(source, tally)
    if stop.signals:
        return 128 + stop.signals[0]
    if regions and tally.all_read:
        unused = f"{next(iter(regions))!r} and {len(regions) - 1} more"
        print(f"regions without a frame: {unused}; expected names of frames", file=sys.stderr)
    return int(broken or tally.incomplete)


def read_regions(path: Path) -> Regions:
    """Read a file of regions.

    Raises:
        DataError: it cannot be read, or is not an object of lists of four numbers.
    """
    try:
        return TypeAdapter(Regions).validate_json(path.read_bytes().removeprefix(BOM_UTF8))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a JSON file") from error
    except ValidationError as error:
        raise DataError(
            f"{path}: {first_problem(error)}; "
            'expected {"FRAME": [[x, y, width, height], …], …} in image pixels'
        ) from error


def _open(options: StreamOptions, stop: Stop) -> Source | Live:
    feed = find_feed(options.source)
    if feed is None:
        return open_source(Path(options.source))
    if options.fps is not None:
        raise InvalidInput(f"--fps paces a recording; {feed.name} has its own pace. Leave it out")
    return Live(feed, stop.asked)


def _exchange(
    source: Source | Live, regions: Regions, options: StreamOptions, tally: Tally, stop: Stop
) -> None:
    """Send frames and count replies, until the source ends or ``stop`` is asked for."""
    name = source.name if isinstance(source, Live) else name_of(Path(Path(options.source).name))
    live = options.live or isinstance(source, Live)
    tally.all_read = isinstance(source, Live)  # which has no end that could be missed
    pictures = takewhile(lambda _: not stop.asked.is_set(), _paced(source, options, stop))
    try:
        with (
            Client(
                options.server, wait_s=options.wait_s, tls=options.tls, stop=stop.asked
            ) as client,
            _writer(options.json) as file,
        ):
            model = client.model()
            frames = _frames(pictures, regions, tally, stop, name, live)
            try:
                for reply in client.stream(frames, live=live):
                    latency_s = tally.take(reply, time.monotonic())
                    known = model.bundle_digest
                    if isinstance(reply, Answer) and reply.bundle_digest != known:
                        model = client.model()  # the server came back with another
                    _report(reply, latency_s, model, file)
                    _show(tally)
            finally:
                tally.missed = client.missed
    finally:
        if isinstance(source, Live):
            source.close()
        else:
            tally.announced, tally.unreadable = source.announced, source.unreadable


def _paced(source: Source | Live, options: StreamOptions, stop: Stop) -> Iterable[Picture]:
    if isinstance(source, Live) or not options.live:
        return source
    return paced(source, options.fps or source.fps or DEFAULT_FPS, sleep=stop.asked.wait)


def _frames(
    pictures: Iterable[Picture],
    regions: Regions,
    tally: Tally,
    stop: Stop,
    stream_id: str,
    live: bool,
) -> Iterator[Frame]:
    """Frames for the wire; takes what it uses out of ``regions``.

    Raises:
        ResourceExhausted: the first frame of a video is too large, and so are all.
    """
    for picture in pictures:
        boxes = [Region(*box) for box in regions.pop(picture.name, [])]
        # A recording's capture time is not known; that of one that is played live is now.
        captured = picture.captured_unix_nano or (time.time_ns() if live else 0)
        try:
            frame = sendable(make_frame(picture.image, boxes, picture.name, captured, stream_id))
        except ResourceExhausted as error:
            if not (tally.sent or isinstance(picture.image, bytes)):
                raise
            tally.too_large += 1
            print(f"misgiving: frame {picture.name!r}: {error}", file=sys.stderr)
            continue
        tally.send(picture.name, time.monotonic())
        yield frame
    tally.all_read |= not stop.asked.is_set()


def _writer(path: Path | None) -> "nullcontext[None] | IO[str]":
    if path is None:
        return nullcontext()
    try:
        return path.open("w", buffering=1, encoding="utf-8")  # to be followed while it grows
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a file to write to") from error


def _report(
    reply: Reply,
    latency_s: float | None,
    model: ModelInfo,
    file: IO[str] | None,
) -> None:
    if isinstance(reply, FrameFailure):
        print(f"misgiving: {reply.message}", file=sys.stderr)
        record = error_record(reply)
    elif isinstance(reply, Answer):
        record = result_record(reply, model.keypoint_names, model.signals)
        record["round_trip_ms"] = None if latency_s is None else finite(latency_s * 1e3)
    else:
        return
    if file is not None:
        file.write(json.dumps(record) + "\n")


def _show(tally: Tally) -> None:
    if sys.stderr.isatty():
        progress = f"{tally.sent} sent, {tally.answered} answered, {tally.flagged} flagged"
        print(f"{progress}\r", end="", file=sys.stderr, flush=True)  # a message overwrites it


def _print_summary(source: Source | Live, tally: Tally) -> None:
    if sys.stderr.isatty():
        print(file=sys.stderr)
    lines = tally.lines()
    if isinstance(source, Live):
        lines.insert(0, source.line(tally.sent - tally.missed))
    print("\n".join(lines))
