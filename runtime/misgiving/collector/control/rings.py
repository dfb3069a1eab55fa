"""Who gets a release, and when it is halted: pure."""

import hashlib
from collections.abc import Iterable, Sequence

from misgiving.runtime.wire.reports import Report

RINGS = (0.01, 0.1, 1.0)
"""Shares of the fleet, one after another."""

_BAD_SHARE = 0.05
"""Of the devices that tried a release; from that on, and from one on, it is halted."""


def place_of(device_id: str) -> float:
    """Where a device stands in the fleet, in [0, 1): the same for each release."""
    return int.from_bytes(hashlib.sha256(device_id.encode()).digest()[:8], "big") / 2.0**64


def in_ring(device_id: str, share: float, fleet: Iterable[str]) -> bool:
    """Whether a device is among the first share of a fleet, which is one device at least.

    Args:
        device_id: of the fleet, or new in it.
        share: in (0, 1].
        fleet: all devices that are known.
    """
    place = place_of(device_id)
    return place < share or all(place <= place_of(one) for one in fleet)


def why_halt(digest: str, reports: Sequence[Report]) -> str:
    """What speaks against a release; empty where nothing does.

    Args:
        digest: of the bundle.
        reports: the newest of each device.
    """
    tried = [one for one in reports if one.release and one.release.digest == digest]
    bad = [(one, said) for one in tried if (said := problem(one, digest))]
    if not bad or len(bad) < _BAD_SHARE * len(tried):
        return ""
    first, said = bad[0]
    return f"{len(bad)} of {len(tried)} devices: {first.device_id} says: {said}"


def problem(report: Report, digest: str) -> str:
    """What a device says against a release; empty where it says nothing."""
    release, running = report.release, report.running
    if release and release.digest == digest and release.bad:
        return release.why or release.state
    if report.drifting and running and running.bundle_digest == digest:
        return "its predicted losses are not distributed as its reference has them"
    return ""
