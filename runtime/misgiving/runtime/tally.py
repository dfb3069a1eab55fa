"""What became of the frames of a stream, counted on the client's side."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from misgiving.runtime.decisions import is_flagged, is_kept
from misgiving.v1 import detector_pb2 as wire


@dataclass(slots=True)
class Tally:
    """What became of the frames of a stream, as the client saw it."""

    sent: int = 0
    answered: int = 0
    failed: int = 0
    dropped: int = 0
    flagged: int = 0
    audited: int = 0
    """Not flagged, and to be kept at random."""
    queued: int = 0
    lost: int = 0
    refused: int = 0
    """Sent, but not taken by a server that was stopping."""
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=100_000))
    """Round trips of the last answers."""
    _under_way: deque[tuple[str, float]] = field(default_factory=deque)

    def send(self, frame_id: str, now_s: float) -> None:
        self.sent += 1
        self._under_way.append((frame_id, now_s))

    def take(self, reply: wire.StreamInferResponse, now_s: float) -> float | None:
        """Count one reply; gives a result's round trip in seconds."""
        match reply.WhichOneof("message"):
            case "result":
                return self._take_result(reply.result, now_s)
            case "error":
                self.failed += 1
                self._since_sent(reply.error.frame_id, now_s)
            case "summary":
                self.dropped = reply.summary.dropped
                self.refused = self.sent - reply.summary.received
        return None

    def lines(self) -> list[str]:
        """The summary, for people."""
        lines = [
            f"frames: {self.sent} sent, {self.answered} answered, {self.failed} failed, "
            f"{self.dropped} dropped",
            f"flagged: {self.flagged}, audited: {self.audited}; of these {self.queued} queued for "
            f"collection, {self.lost} lost",
        ]
        if self.latencies_s:
            p50, p99 = np.percentile(self.latencies_s, [50, 99]) * 1e3
            lines.append(f"round trip: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        if self.refused:
            lines.append(f"server stopped: {self.refused} frames were not taken. Send them again")
        return lines

    def _take_result(self, result: wire.FrameResult, now_s: float) -> float | None:
        self.answered += 1
        flagged = is_flagged(result)
        self.flagged += flagged
        self.audited += is_kept(result) and not flagged
        self.queued += result.collection == wire.COLLECTION_QUEUED
        self.lost += result.collection == wire.COLLECTION_LOST
        if (latency := self._since_sent(result.frame_id, now_s)) is not None:
            self.latencies_s.append(latency)
        return latency

    def _since_sent(self, frame_id: str, now_s: float) -> float | None:
        """Replies come in the order of sending: whatever was sent before this was dropped."""
        while self._under_way:
            sent_id, sent_s = self._under_way.popleft()
            if sent_id == frame_id:
                return now_s - sent_s
        return None
