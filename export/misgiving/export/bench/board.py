"""The machine that is measured: what it is, and what it draws meanwhile, where it tells."""

import os
import platform
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO

PACKAGES = ("misgiving", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "tensorrt", "numpy")
INTERVAL_MS = 200
COMMAND_TIMEOUT_S = 20.0

_TEGRASTATS = ["tegrastats", "--interval", str(INTERVAL_MS)]
_NVIDIA_SMI = [
    "nvidia-smi", "--query-gpu=power.draw,clocks.sm", "--format=csv,noheader,nounits",
    f"--loop-ms={INTERVAL_MS}",
]  # fmt: skip


def describe() -> dict[str, str]:
    """What others need to know to compare: by name, nothing where the machine does not tell."""
    told = {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "board": _read("/proc/device-tree/model"),
        "JetPack": _read("/etc/nv_tegra_release").partition(", GCID")[0],
        "power mode": _said("nvpmodel", "-q"),
        "clocks": _said("jetson_clocks", "--show"),
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


Parser = Callable[[str], tuple[float | None, float | None]]
"""A line of a tool → watts and MHz, None where it has none."""


@dataclass
class Draw:
    """What the board drew while something ran."""

    watts: list[float] = field(default_factory=list)
    clock_mhz: list[float] = field(default_factory=list)
    """Of the GPU."""


@contextmanager
def watched() -> Iterator[Draw]:
    """Read power and clock meanwhile: by ``tegrastats`` on a Jetson, by ``nvidia-smi`` beside an
    NVIDIA GPU, else nothing."""
    draw = Draw()
    command, parse = (
        (_TEGRASTATS, tegrastats) if shutil.which(_TEGRASTATS[0]) else (_NVIDIA_SMI, nvidia_smi)
    )
    if not shutil.which(command[0]):
        yield draw
        return
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=_follow, args=(process.stdout, parse, draw), daemon=True)
        reader.start()
        try:
            yield draw
        finally:
            process.terminate()
            reader.join()


def _follow(lines: IO[str], parse: Parser, draw: Draw) -> None:
    for line in lines:
        watts, clock = parse(line)
        draw.watts += [] if watts is None else [watts]
        draw.clock_mhz += [] if clock is None else [clock]


def tegrastats(line: str) -> tuple[float | None, float | None]:
    """Watts of the whole board and MHz of the GPU in a line of ``tegrastats``.

    >>> tegrastats("GR3D_FREQ 61%@[918] VDD_IN 7543mW/7201mW VDD_CPU_GPU_CV 2100mW/2000mW")
    (7.543, 918.0)
    """
    power = re.search(r"\b(?:VDD_IN|POM_5V_IN|VIN_SYS_5V0|SYS5V)\s+(\d+)(?:mW)?/", line)
    clock = re.search(r"\bGR3D_FREQ\s+\d+%@\[?(\d+)", line)
    return float(power[1]) / 1e3 if power else None, float(clock[1]) if clock else None


def nvidia_smi(line: str) -> tuple[float | None, float | None]:
    """Watts and MHz in a line of the query above.

    >>> nvidia_smi("71.27, 1980")
    (71.27, 1980.0)
    """
    numbers = [
        float(text) if re.fullmatch(r"[\d.]+", text) else None
        for text in re.split(r",\s*", line.strip())
    ]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (None, None)
