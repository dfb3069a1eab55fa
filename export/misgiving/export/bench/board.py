"""The machine that is measured: what it is, and what it draws meanwhile, where it tells."""

import os
import platform
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO

from misgiving.runtime.cores import usable_cores
from misgiving.runtime.telemetry.gauges import temperatures

PACKAGES = ("misgiving", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "tensorrt", "numpy")
INTERVAL_MS = 200
COMMAND_TIMEOUT_S = 20.0
SYSTEM = Path("/sys")
_CORE_CLOCK = "cpu[0-9]*/cpufreq/scaling_cur_freq"

_TEGRASTATS = ["tegrastats", "--interval", str(INTERVAL_MS)]
_NVIDIA_SMI = [
    "nvidia-smi", "--query-gpu=power.draw,clocks.sm,memory.used", "--format=csv,noheader,nounits",
    f"--loop-ms={INTERVAL_MS}",
]  # fmt: skip


def describe() -> dict[str, str]:
    """What others need to know to compare: by name, nothing where the machine does not tell."""
    told = {
        "processor": _processor(),
        "cores": str(usable_cores()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "board": _read("/proc/device-tree/model"),
        "JetPack": _read("/etc/nv_tegra_release").partition(", GCID")[0],
        "power mode": _said("nvpmodel", "-q"),
        "clocks": _said("jetson_clocks", "--show"),
        "throttled": _said("vcgencmd", "get_throttled"),
        "GPU": _said("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"),
        "Python": platform.python_version(),
        "packages": ", ".join(_versions()),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }  # fmt: skip
    return {name: text for name, text in told.items() if text}


def _processor() -> str:
    lines = _read("/proc/cpuinfo").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _said(*command: str) -> str:
    """What a command prints, in a line; empty where it is not there or fails."""
    if not shutil.which(command[0]):
        return ""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=COMMAND_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return ""
    return "; ".join(done.stdout.decode(errors="replace").split("\n")).strip("; ")


def _versions() -> Iterator[str]:
    for name in PACKAGES:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue


@dataclass(frozen=True, slots=True)
class Reading:
    """What the board tells of a moment; None where it does not."""

    watts: float | None
    clock_mhz: float | None
    """Of the GPU."""
    memory_mib: float | None
    """In use on the GPU, or on a Jetson on the whole board; other processes' too."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the board tells in between, for runs of minutes; None where it does not."""

    at_s: float
    """On the monotonic clock, which all processes share."""
    hottest_c: float | None
    """Of all zones."""
    cpu_mhz: float | None
    """Of the fastest core."""
    reading: Reading
    """The last one before."""


Parser = Callable[[str], Reading]
"""A line of a tool."""


@contextmanager
def watched() -> Iterator[list[Reading]]:
    """Read the board meanwhile: by ``tegrastats`` on a Jetson, by ``nvidia-smi`` beside an NVIDIA
    GPU, else not at all."""
    readings: list[Reading] = []
    command, parse = (
        (_TEGRASTATS, tegrastats) if shutil.which(_TEGRASTATS[0]) else (_NVIDIA_SMI, nvidia_smi)
    )
    if not shutil.which(command[0]):
        yield readings
        return
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        reader = threading.Thread(
            target=_follow, args=(process.stdout, parse, readings), daemon=True
        )
        reader.start()
        try:
            yield readings
        finally:
            process.terminate()
            reader.join()


def _follow(lines: IO[str], parse: Parser, readings: list[Reading]) -> None:
    for line in lines:
        readings.append(parse(line))  # at once: followed() takes the last one


@contextmanager
def followed(readings: Sequence[Reading]) -> Iterator[list[Moment]]:
    """Note a moment every second meanwhile; the first at once."""
    moments, ended = [moment(readings)], threading.Event()

    def follow() -> None:
        while not ended.wait(1.0):
            moments.append(moment(readings))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield moments
    finally:
        ended.set()
        thread.join()


def moment(readings: Sequence[Reading], system: Path = SYSTEM) -> Moment:
    """Now, with the last of these readings."""
    hot = [celsius for _, _, celsius in temperatures(system / "class/thermal")]
    clocks = [_read(str(path)) for path in (system / "devices/system/cpu").glob(_CORE_CLOCK)]
    khz = [int(text) for text in clocks if text.isdecimal()]
    return Moment(
        time.monotonic(),
        max(hot, default=None),
        max(khz) / 1e3 if khz else None,
        readings[-1] if readings else Reading(None, None, None),
    )


def tegrastats(line: str) -> Reading:
    """A line of ``tegrastats``; the power is the whole board's.

    >>> tegrastats("RAM 2448/7620MB (lfb 4x4MB) GR3D_FREQ 61%@[918] VDD_IN 7543mW/7201mW")
    Reading(watts=7.543, clock_mhz=918.0, memory_mib=2448.0)
    """
    power = re.search(r"\b(?:VDD_IN|POM_5V_IN|VIN_SYS_5V0|SYS5V)\s+(\d+)(?:mW)?/", line)
    clock = re.search(r"\bGR3D_FREQ\s+\d+%@\[?(\d+)", line)
    memory = re.search(r"\bRAM\s+(\d+)/", line)
    return Reading(
        float(power[1]) / 1e3 if power else None,
        float(clock[1]) if clock else None,
        float(memory[1]) if memory else None,
    )


def nvidia_smi(line: str) -> Reading:
    """A line of the query above.

    >>> nvidia_smi("71.27, 1980, 1043")
    Reading(watts=71.27, clock_mhz=1980.0, memory_mib=1043.0)
    """
    numbers = [
        float(text) if re.fullmatch(r"[\d.]+", text) else None
        for text in re.split(r",\s*", line.strip())
    ]
    return Reading(*numbers) if len(numbers) == 3 else Reading(None, None, None)
