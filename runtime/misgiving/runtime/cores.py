"""How many cores this process may use: affinity and cgroup quota, not what the host has."""

import math
import os
from pathlib import Path, PurePosixPath


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may keep busy, at least one.

    Args:
        root: of the file system that has ``proc`` and ``sys``.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    return max(1, int(min(cores, quota(root))))


def quota(root: Path = Path("/")) -> float:
    """Cores that the cgroups of this process (v2 or v1) have time for; infinite without a limit."""
    limits = [math.inf]
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, place = line.split(":", 2)
        if not controllers:
            limits += [_v2(folder) for folder in _upwards(root / "sys/fs/cgroup", place)]
        elif "cpu" in controllers.split(","):
            for mount in ("cpu", "cpu,cpuacct"):
                limits += [_v1(f) for f in _upwards(root / "sys/fs/cgroup" / mount, place)]
    return min(limits)


def _upwards(mount: Path, place: str) -> list[Path]:
    """A group's folder and those above it, each of which may limit it. Within a container, the
    mount itself is the group and ``place`` the host's name of it."""
    below = PurePosixPath(place.lstrip("/"))
    return [mount / parent for parent in (below, *below.parents)]


def _v2(folder: Path) -> float:
    time, _, period = _read(folder / "cpu.max").partition(" ")
    return math.inf if time in ("", "max") else int(time) / int(period)


def _v1(folder: Path) -> float:
    time, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return int(time) / int(period) if time and period and int(time) > 0 else math.inf


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""
