"""kill -9 of a vehicle's servers: the next one starts, and what was stored is there, once."""

import random
from collections import Counter
from pathlib import Path

import killing

from shared import tiny

QUEUE = 64
"""Frames that wait for the disk, at most; these are in memory only."""


def test_nothing_stored_is_lost(tmp_path: Path) -> None:
    """Each server meets what the kill before left behind."""
    vehicle = killing.Vehicle(tmp_path, tiny.BUNDLE, random.Random(0))
    tally, seen = killing.Tally(vehicle), Counter[str]()
    for name in ("spooling", "on probation", "collecting", "draining"):  # collecting kills two
        counted = tally.kill(killing.STATES[name])
        assert counted["lost"] <= QUEUE
        seen += counted
    vehicle.close()
    assert seen["queued"] > seen["lost"]
    harm = {name: seen[name] for name in ("gone", "twice", "damaged", "tracebacks")}
    assert harm == dict.fromkeys(harm, 0)
