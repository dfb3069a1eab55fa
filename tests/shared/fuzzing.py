"""Cases that are made from a seed, and what may come of each."""

import logging
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

CLEAN = {"OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "NOT_FOUND"}
VALUES = ["1", "-1", "0.5", "nan", "inf", "1e999", "true", '"auto"', '"a.b:1"', '""', r'"\n\u0000"']
VALUES += ["[1]", "{a = 1}", "1979-05-27", "9" * 25, "[" * 3000, '"' + "x" * 5000 + '"']
GROWTH = 24 << 20
"""Bytes that a process may grow by after the first tenth of its cases."""

Case = Callable[[random.Random], tuple[str, str]]
"""Gives the status of what it tried, and what was said."""
Try = Callable[[float, Case], None]
"""Tries a share of the cases; see ``attempt`` in tests/conftest.py."""


def damaged(rng: random.Random, data: bytes) -> bytes:
    """With some bytes cut out and others put in."""
    for _ in range(rng.randint(1, 5)):
        at, put = rng.randint(0, len(data)), rng.randbytes(rng.choice([0, 1, 1, 2, 9]))
        data = data[:at] + put + data[at + rng.choice([0, 1, 1, 2, 9, 99]) :]
    return data


def rewritten(rng: random.Random, toml: str) -> bytes:
    """A TOML of which some keys are lost or have values that another key takes."""
    lines = []
    for line in toml.splitlines():
        key, says, _ = line.partition(" = ")
        if says and rng.random() < 0.1:
            lines.append(f"{key} = {rng.choice(VALUES)}")
        elif rng.random() < 0.97:
            lines.append(line)
    data = "\n".join(lines).encode()
    return damaged(rng, data) if rng.random() < 0.1 else data


def attempt_all(cases: int, case: Case, logged: pytest.LogCaptureFixture) -> None:
    """Case n is made from seed n; none fails uncleanly, and together they leave no memory used."""
    seen: Counter[str] = Counter()
    before = 0
    for seed in range(cases):
        status, said = case(random.Random(seed))
        assert status in CLEAN, f"seed {seed}: {status} {said}"
        assert "\n" not in said, f"seed {seed}: {said}"
        seen[status] += 1
        if seed == cases // 10:
            before = resident()
    assert resident() - before < GROWTH
    assert [one.getMessage() for one in logged.records if one.levelno >= logging.ERROR] == []
    assert min(seen["OK"], seen["INVALID_ARGUMENT"]) > sum(seen.values()) / 100, seen


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
