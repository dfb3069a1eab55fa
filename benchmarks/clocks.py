"""Servers whose wall clock is set while they run, and from start to start."""

import glob
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from signal import SIGHUP

import enduring
import numpy as np

from misgiving.runtime import Client
from misgiving.runtime.nouns import make_frame
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.wire.collected import read_kept

DAY_S = 86400
CLOCKS_S = {
    "right": 0,
    "a day ahead": DAY_S,
    "a day behind": -DAY_S,
    "ten years ahead": 3650 * DAY_S,
    "in 1970": -int(time.time()) + 10,
    "right again": 0,
}

FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"
"""Of Debian's package libfaketime: between a process and its C library, it shifts the wall clock of
Python, gRPC, TLS and SQLite alike, and leaves the monotonic clocks as they are."""


def clocks(bundle: Path) -> Iterator[str]:
    """Frames with the capture times of a client whose clock is right."""
    yield "| the server's clock | answered | slowest, ms | oldest in the spool, s | metrics | log |"
    yield "|---|---:|---:|---:|---|---|"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (file := folder / "misgiving.toml").touch()  # which is read again on SIGHUP
        more = ("--audit-rate", 1, "--metrics", "127.0.0.1:0", "--config", file)
        with enduring.started(folder, bundle, "", "+0", *more, **_shifted(folder)) as command:
            address = command.address()
            metrics = command.address("metrics on").removeprefix("http://")
            sent = 0
            with Client(address, wait_s=0) as client:
                for clock, ahead_s in CLOCKS_S.items():
                    command.put(f"{ahead_s:+d}")
                    took = []
                    for _ in range(enduring.FRAMES):
                        sent += 1
                        took.append(_timed(client, sent))
                    oldest = client.status().spool
                    yield (
                        f"| {clock} | {len(took)} | {1000 * max(took):.0f} "
                        f"| {oldest.oldest_age_s if oldest else 0:.0f} | {_scraped(metrics)} "
                        f"| {_logged(command)} |"
                    )
            code = command.end()
        spool = Spool(folder / "spool")
        order = [int(read_kept(spool.read(one)).frame.frame_id) for one in spool.pending()]
        spool.close()
        whole = order == list(range(1, sent + 1))
        yield (
            f"\nIn the spool: {len(order)} of {sent}, {'in' if whole else 'not in'} their order. "
            f"Exit code {code}, {command.tracebacks} tracebacks."
        )


def restarts(bundle: Path) -> Iterator[str]:
    """A budget of ten frames a day, of which one camera gets eight, and clocks set in between."""
    yield "| the clock, from start to start | kept by each |"
    yield "|---|---|"
    for names in (("right", "a day ahead", "ten years ahead"), ("in 1970", "right", "in 1970")):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "misgiving.toml").write_text(
                "[flags]\naudit_rate = 0.0\nthreshold = -inf\nframes_per_day = 10\n"
            )
            more = ("--config", folder / "misgiving.toml")
            kept = []
            for clock in names:
                ahead = f"{CLOCKS_S[clock]:+d}"
                with enduring.started(
                    folder, bundle, "", ahead, *more, **_shifted(folder)
                ) as command:
                    with Client(command.address(), wait_s=0) as client:
                        enduring.answered(client)
                        kept.append(str(client.status().kept))
                    command.end()
            yield f"| {', '.join(names)} | {', '.join(kept)} |"


def _shifted(folder: Path) -> dict[str, str]:
    """Variables of a process whose clock is ahead by what the file of the fault says."""
    libraries = glob.glob(FAKETIME)
    if not libraries:
        raise SystemExit("libfaketime is not installed; run: apt-get install libfaketime")
    return {
        "LD_PRELOAD": libraries[0],
        "FAKETIME_TIMESTAMP_FILE": str(folder / "fault"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # which lets waits by a monotonic clock oversleep
    }


def _logged(command: enduring.Command) -> str:
    """When the server says that it has read its settings again."""
    before = len(command.said)
    command.process.send_signal(SIGHUP)

    def line() -> str | None:
        return next((one for one in command.said[before:] if "reloaded" in one), None)

    return (enduring.waited(line) or "nothing")[:10]


def _timed(client: Client, number: int) -> float:
    """Seconds until a frame, captured now, is answered."""
    noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
    frame = make_frame(noise, (), str(number), time.time_ns(), "front")
    began = time.monotonic()
    for _ in client.stream([frame]):
        pass
    return time.monotonic() - began


def _scraped(address: str) -> str:
    """Whether the metrics can be read, and none that counts time is negative."""
    with urllib.request.urlopen(f"http://{address}", timeout=10) as page:
        lines = [line for line in page.read().decode().splitlines() if "_seconds" in line]
    values = [line for line in lines if not line.startswith("#") and " -" in line]
    return values[0] if values else "none negative"
