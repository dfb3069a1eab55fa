"""Usable cores, from the files of a kernel that are laid out in a folder."""

import math
import os
from pathlib import Path

import pytest

from misgiving.runtime.cores import quota, usable_cores


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


OF_GROUP, CGROUPS = "proc/self/cgroup", "sys/fs/cgroup"
V1 = f"{CGROUPS}/cpu,cpuacct"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # no cgroups at all
        ({}, math.inf),
        # version 2, in the root, without a limit, and one that a container sees as its root
        ({OF_GROUP: "0::/\n"}, math.inf),
        ({OF_GROUP: "0::/\n", f"{CGROUPS}/cpu.max": "max 100000\n"}, math.inf),
        ({OF_GROUP: "0::/\n", f"{CGROUPS}/cpu.max": "150000 100000\n"}, 1.5),
        # the group above limits, and the host's name of a group that is mounted as the root
        (
            {
                OF_GROUP: "0::/a/b\n",
                f"{CGROUPS}/a/cpu.max": "200000 100000",
                f"{CGROUPS}/a/b/cpu.max": "max 100000",
            },
            2.0,
        ),
        ({OF_GROUP: "0::/docker/abc\n", f"{CGROUPS}/cpu.max": "50000 100000"}, 0.5),
        # version 1, where -1 is no limit
        (
            {
                OF_GROUP: "5:memory:/\n4:cpu,cpuacct:/a\n0::/\n",
                f"{V1}/a/cpu.cfs_quota_us": "300000\n",
                f"{V1}/a/cpu.cfs_period_us": "100000\n",
                f"{V1}/cpu.cfs_quota_us": "-1\n",
                f"{V1}/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
    ],
)
def test_quota(tmp_path: Path, files: dict[str, str], expected: float) -> None:
    assert quota(lay(tmp_path, files)) == expected


def test_cores_are_those_of_the_affinity_and_of_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    allowed = len(os.sched_getaffinity(0))
    assert usable_cores(tmp_path) == allowed
    lay(tmp_path, {OF_GROUP: "0::/\n", f"{CGROUPS}/cpu.max": "50000 100000"})
    assert usable_cores(tmp_path) == 1
    lay(tmp_path, {f"{CGROUPS}/cpu.max": f"{allowed}50000 100000"})
    assert usable_cores(tmp_path) == allowed
