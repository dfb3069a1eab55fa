"""What became of the frames of a stream, counted on the client's side."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from misgiving.runtime.nouns import Answer, Collection, FrameFailure, StreamSummary
from misgiving.runtime.wire.results import Reply


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
    missed: int = 0
    """Live frames that no server took, because there was none."""
    too_large: int = 0
    """Read, and never sent."""
    announced: int | None = None
    """Frames that a recording says it has."""
    unreadable: int = 0
    """Of these, those left out because they cannot be read."""
    all_read: bool = True
    """Nothing is left in the source."""
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=100_000))
    """Round trips of the last answers."""
    _under_way: deque[tuple[str, float]] = field(default_factory=deque)

    def send(self, frame_id: str, now_s: float) -> None:
        self.sent += 1
        self._under_way.append((frame_id, now_s))

    def take(self, reply: Reply, now_s: float) -> float | None:
        """Count one reply; gives a result's round trip in seconds."""
        match reply:
            case Answer():
                self.dropped += reply.dropped_before
                return self._take_answer(reply, now_s)
            case FrameFailure():
                self.dropped += reply.dropped_before
                self.failed += 1
                self._since_sent(reply.frame_id, now_s)
            case StreamSummary():
                self.dropped = reply.dropped
        return None

    @property
    def unanswered(self) -> int:
        """Sent, and neither answered nor dropped."""
        return self.sent - self.answered - self.failed - self.dropped - self.missed

    @property
    def incomplete(self) -> bool:
        """A frame was neither answered nor, live, dropped."""
        left_out = self.failed + self.unreadable + self.too_large + self.unanswered
        return left_out > 0 or not self.all_read

    def lines(self) -> list[str]:
        """The summary, for people."""
        lines = [
            f"frames: {self.sent - self.missed} sent, {self.answered} answered, "
            f"{self.failed} failed, {self.dropped} dropped"
            + (f", {self.unreadable} unreadable" if self.unreadable else ""),
            f"flagged: {self.flagged}, audited: {self.audited}; of these {self.queued} queued for "
            f"collection, {self.lost} lost",
        ]
        if self.latencies_s:
            p50, p99 = np.percentile(self.latencies_s, [50, 99]) * 1e3
            lines.append(f"round trip: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        return lines + list(self._left_out())

    def _left_out(self) -> Iterator[str]:
        if self.missed:
            yield f"no server: {self.missed} frames dropped meanwhile"
        if self.too_large:
            yield f"too large: {self.too_large} frames were not sent. Scale them"
        if self.unanswered:
            yield f"not answered: {self.unanswered} of the frames sent. Send them again"
        read = self.sent + self.too_large
        if self.announced is None:
            if not self.all_read:
                yield f"not sent: what comes behind frame {read}; how many is not known"
        elif not self.all_read and (left := self.announced - self.unreadable - read) > 0:
            yield f"not sent: {left} of {self.announced} frames"

    def _take_answer(self, answer: Answer, now_s: float) -> float | None:
        self.answered += 1
        self.flagged += answer.flagged
        collected = answer.collection is not Collection.NONE  # a frame with nobody says no more
        self.audited += (answer.kept or collected) and not answer.flagged
        self.queued += answer.collection is Collection.QUEUED
        self.lost += answer.collection is Collection.LOST
        if (latency := self._since_sent(answer.frame_id, now_s)) is not None:
            self.latencies_s.append(latency)
        return latency

    def _since_sent(self, frame_id: str, now_s: float) -> float | None:
        """Replies come in the order of sending: whatever was sent before this was dropped."""
        while self._under_way:
            sent_id, sent_s = self._under_way.popleft()
            if sent_id == frame_id:
                return now_s - sent_s
        return None
