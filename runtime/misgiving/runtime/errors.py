"""What can go wrong, as types; every message says what came, what was expected, what to do.

::

    MisgivingError
    ├── InvalidInput            the caller sent something that cannot be answered
    │   ├── ImageError          not an image we take: corrupt, empty, alpha, float, wrong shape
    │   ├── RegionError         a box without area, or outside its image
    │   ├── NotFound            a model that is not the one loaded
    │   └── DataError           a data set, label file or spec that cannot be read
    │       └── InUse           a folder that another process is writing
    ├── ResourceExhausted       more than a stated limit: pixels, bytes, queue places
    └── FailedPrecondition      the installation or the artefacts are not in order
        ├── BundleError         a bundle that is altered, not trusted or of another schema
        ├── EngineError         the asked provider does not run here
        └── ParityError         an export that differs from what was trained
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class MisgivingError(Exception):
    """Base of everything this package raises on purpose.

    >>> try:
    ...     Estimator.load(Path("nowhere"))
    ... except MisgivingError as error:
    ...     print(f"{error.status}: {error}")
    FAILED_PRECONDITION: nowhere is no bundle: ...
    """

    status = "INTERNAL"
    """Name of the gRPC status that a server answers with."""


class InvalidInput(MisgivingError, ValueError):
    """The caller sent something that cannot be answered."""

    status = "INVALID_ARGUMENT"


class ImageError(InvalidInput):
    """Not an image that is taken here."""


class RegionError(InvalidInput):
    """A region without area, or outside its image."""


class NotFound(InvalidInput):
    """A model that is not the one loaded."""

    status = "NOT_FOUND"


class DataError(InvalidInput):
    """A data set, a label file or a data spec that cannot be read."""


class InUse(DataError):
    """A folder that another process is writing."""


class ResourceExhausted(MisgivingError):
    """More than a stated limit."""

    status = "RESOURCE_EXHAUSTED"
    retry_after_ms: int | None = None
    """When there may be room again; None where waiting does not help."""


class FailedPrecondition(MisgivingError):
    """The installation or its artefacts are not in order."""

    status = "FAILED_PRECONDITION"


class BundleError(FailedPrecondition):
    """A bundle that is altered, incomplete, not trusted or of another schema."""


class EngineError(FailedPrecondition):
    """The asked engine or provider does not run here."""


class ParityError(FailedPrecondition):
    """An exported graph that does not answer as the trained network does."""


def first_problem(error: "ValidationError") -> str:
    """Where in a file the first problem is, and which; the place is empty for the whole file.

    One line, whatever the file has for names and values.
    """
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    said = f"{where}: {first['msg']}" if where else first["msg"]
    if first["msg"].startswith("Input should") and isinstance(first["input"], str | int | float):
        said += f", not {first['input']!r:.60}"
    return printable(said)


def printable(said: str) -> str:
    """On one line, whatever the file that it quotes has for names."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in said)
