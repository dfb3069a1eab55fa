"""What arrives at a collector: counted for Prometheus, and logged once a minute.

No series has a device's name: series must be bounded. The log has the names.
"""

import logging
from collections import Counter

from prometheus_client import CollectorRegistry, ProcessCollector

from misgiving.collector.frames.words import spoken_size
from misgiving.collector.store.rows import StoredFrame
from misgiving.runtime.errors import printable
from misgiving.runtime.nouns import Reason
from misgiving.runtime.telemetry.counts import Counts
from misgiving.runtime.telemetry.durations import Durations

log = logging.getLogger(__name__)

_STATUSES = (
    "INVALID_ARGUMENT",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
    "INTERNAL",
)
_NAMED = 5
"""Devices that a line of the log names."""


class Arrivals:
    """What one collector counts; told in one thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        reasons = [*(one.value for one in Reason), "none"]
        self._frames = self._counts("frames", "Frames stored, by reason.", "reason", reasons)
        self._bytes = self._counts("bytes", "Size of these.").of[""]
        self._known = self._counts("known_frames", "Frames sent that were stored already.").of[""]
        self._refused = self._counts(
            "refused_uploads", "Uploads that were refused, by gRPC status.", "reason", _STATUSES
        )
        self._erased = self._counts("erased_frames", "Frames that retention has erased.").of[""]
        self._seconds = Durations("collector_upload", "Uploads of frames that were stored.")
        self.registry.register(self._seconds)
        self._start()

    def took(self, row: StoredFrame, seconds: float) -> None:
        """Count a frame that was stored, and how long its upload took."""
        self._frames.of[row.reason or "none"].inc()
        self._bytes.inc(row.size_bytes)
        self._seconds.observe(seconds)
        self._devices[row.device_id] += 1
        self._reasons[row.reason or "no reason"] += 1
        self._size += row.size_bytes

    def known(self) -> None:
        """Count a frame that was there already."""
        self._known.inc()
        self._others["known already"] += 1

    def refused(self, status: str) -> None:
        """Count an upload that was refused with a gRPC status."""
        if status in self._refused.of:
            self._refused.of[status].inc()
        self._others[f"refused with {status}"] += 1

    def erased(self, frames: int) -> None:
        """Count what retention has erased."""
        self._erased.inc(frames)

    def summarise(self) -> None:
        """Log what came since the last summary, where anything did."""
        frames = sum(self._devices.values())
        if not frames and not self._others:
            return
        named = [(printable(n) or "(no name)", c) for n, c in self._devices.most_common(_NAMED)]
        more = len(self._devices) - len(named)
        parts = [
            f"{frames:,} frames, {spoken_size(self._size)}",
            _listed(named) + (f" and {more:,} devices more" if more else ""),
            _listed(self._reasons.most_common()),
            _listed(self._others.most_common()),
        ]
        log.info("arrived in the last minute: %s", "; ".join(filter(None, parts)))
        self._start()

    def _start(self) -> None:
        self._devices, self._reasons = Counter[str](), Counter[str]()
        self._others, self._size = Counter[str](), 0

    def _counts(
        self, name: str, says: str, label: str = "", values: tuple[str, ...] | list[str] = ("",)
    ) -> Counts:
        self.registry.register(counts := Counts(f"collector_{name}", says, label, values))
        return counts


def _listed(counted: list[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counted)
