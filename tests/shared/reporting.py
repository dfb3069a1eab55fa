"""Reports as vehicles make them, and campaigns as engineers set them."""

import time
from dataclasses import replace

from misgiving.runtime.wire.campaigns import Campaign
from misgiving.runtime.wire.reports import Report

RUN = "0123456789abcdef" * 2
OTHER_RUN = "f" * 32
HOUR_NS = 3600 * 10**9


def report(sequence: int = 1, **fields: object) -> Report:
    """Of a van that answers ten frames from one report to the next."""
    made = Report(
        device_id="van-7",
        run_id=RUN,
        sequence=sequence,
        taken_time_unix_nano=sequence * 60 * 10**9,
        received=10 * sequence,
        answered=10 * sequence,
        failed={},
        kept={"audit": sequence},
        withheld={},
    )
    return replace(made, **fields)


def campaign(name: str = "storm", hours: float = 1, **flags: float | str) -> Campaign:
    """For all vans."""
    return Campaign(
        name=name,
        devices=("van-*",),
        expiry_time_unix_nano=time.time_ns() + int(hours * HOUR_NS),
        flags=flags or {"threshold": 0.25},
    )
