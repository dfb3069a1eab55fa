"""Whether the engine answers, from the starts and ends of its batches. Pure: the clock is passed.

A batch that fails says little, several in a row that the engine has; one that succeeds, that it
is back. A batch that does not end at all holds every other one.
"""

from dataclasses import dataclass

FAILURES = 3
"""Batches in a row that fail before the engine counts as failed."""
HANG_S = 30.0
"""How long one batch may take; longer, and the engine counts as hung."""


@dataclass(slots=True)
class Vitals:
    """Told of each batch, asked at any time."""

    failures: int = 0
    """In a row, until now."""
    began_s: float | None = None
    """When the batch that runs now began, monotonic; None while none runs."""

    def began(self, now_s: float) -> None:
        self.began_s = now_s

    def ended(self, well: bool, counts: bool = True) -> None:
        """A batch has; it does not count where its engine answers no more."""
        self.began_s = None
        if counts:
            self.failures = 0 if well else self.failures + 1

    @property
    def failed(self) -> bool:
        return self.failures >= FAILURES

    def hung(self, now_s: float) -> bool:
        return self.began_s is not None and now_s - self.began_s > HANG_S
