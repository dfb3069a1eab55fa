"""What a spool counts."""

from dataclasses import dataclass

SINCE_START = (
    *("offered", "stored", "lost", "evicted", "expired", "declined"),
    *("uploaded", "uploaded_bytes"),
)
"""Which of the counts start at zero with the process."""


@dataclass(frozen=True)
class SpoolCounts:
    """What became of the frames. Offered = stored + lost + those still in the queue."""

    offered: int
    """Since the start, as the six below."""
    stored: int
    """Made durable, or evicted at once; a frame that was there already counts again."""
    lost: int
    """Never stored: queue or disk full, the spool replaced by another one, or a frame that cannot
    be serialised."""
    evicted: int
    """Deleted to keep the quota, or of an age."""
    expired: int
    """Of these, of an age."""
    declined: int
    """Removed because the collector has written down that it does not want them."""
    uploaded: int
    """Removed because the collector has them."""
    pending: int
    """Stored and not uploaded, now."""
    refused: int
    """Kept, but the collector does not want them, now."""
    bytes: int
    """Size of those pending and refused, now."""
    uploaded_bytes: int
    """Size of those uploaded, since the start."""
    oldest_age_s: float
    """Since the oldest pending frame was stored, before this process by the wall clock; 0 where
    none is pending."""
    queued: int
    """In memory, now."""
    queued_age_s: float
    """Since the oldest of these was offered."""

    def line(self) -> str:
        """What became of them, for people."""
        return (
            f"spool: {self.stored:,} frames stored, {self.lost:,} lost, {self.evicted:,} evicted, "
            f"{self.uploaded:,} uploaded; {self.pending:,} pending"
        )
