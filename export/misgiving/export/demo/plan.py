"""What the demo does on which data: the pool is cut into parts that never overlap."""

from dataclasses import dataclass
from pathlib import Path

from misgiving.export.parity import MIN_IMAGES
from misgiving.runtime.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """One run of the loop."""

    data: str
    """Spec of the labelled data that the first training starts from."""
    pool: str
    """Spec of the data out there; see ``Split`` for what becomes of it."""
    out: Path
    recipe: str
    flag_rate: float = 0.2
    """Share of validation persons that the shipped threshold flags."""
    audit_rate: float = 0.02
    threads: int = 1
    """Of torch. Two threads on a busy machine have been ten times slower than one."""


@dataclass(frozen=True, slots=True)
class Split:
    """Four runs of neighbours, so that near-duplicates stay in one part. Specs."""

    candidates: str
    """The active-learning cycle selects from these."""
    stream: str
    """What the vehicle sees."""
    validation: str
    """Gates and threshold."""
    test: str
    """Before and after."""


def split_pool(spec: str, size: int) -> Split:
    """Cut a pool of a given size: a quarter is streamed, a tenth validates, a tenth tests.

    Validation and test have at least as many persons as the exporter's gates ask for.

    Raises:
        DataError: the pool is too small.
    """
    held = max(MIN_IMAGES, size // 10)
    stream = size // 4
    candidates = size - stream - 2 * held
    if size < 4 * MIN_IMAGES:
        raise DataError(
            f"{spec} has {size} persons; the demo needs at least {4 * MIN_IMAGES}, "
            "to select from, to stream, to validate and to test. Give a larger pool"
        )
    base, _, span = spec.partition("#")
    first = int(span.partition("-")[0]) if span else 1
    parts = []
    for count in (candidates, stream, held, held):
        parts.append(f"{base}#{first}-{first + count - 1}")
        first += count
    return Split(*parts)
