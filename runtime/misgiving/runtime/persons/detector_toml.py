"""The keys of a person detector's TOML: what its ONNX file does not tell itself."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from misgiving.runtime.errors import InvalidInput, first_problem
from misgiving.runtime.geometry import MAX_REGIONS
from misgiving.runtime.persons.families import Family

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Layout = Literal["NCHW", "NHWC"]
Fit = Literal["stretch", "letterbox", "letterbox-top-left"]

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def _each(value: object) -> object:
    return value if isinstance(value, list) else [value] * 3


_Colour = Annotated[list[float], BeforeValidator(_each), Field(min_length=3, max_length=3)]
_PositiveColour = Annotated[
    list[PositiveFloat], BeforeValidator(_each), Field(min_length=3, max_length=3)
]
_Share = Annotated[float, Field(ge=0, le=1)]


class InputTable(BaseModel):
    """How pixels go in; what is None is told from the graph."""

    model_config = _STRICT

    name: str | None = None
    layout: Layout | None = None
    colour: Literal["RGB", "BGR"]
    mean: _Colour
    """Subtracted from pixels of 0 to 255, in the order of ``colour``."""
    std: _PositiveColour
    """Then divided by."""
    fit: Fit
    """How a picture becomes the input: out of shape, or with a border."""
    pad: Annotated[int, Field(ge=0, le=255)] = 114
    """Grey of a letterbox's border."""
    height: PositiveInt | None = None
    width: PositiveInt | None = None


class PersonTable(BaseModel):
    """Which candidates are persons."""

    model_config = _STRICT

    index: Annotated[int, Field(ge=0, alias="class")]
    """Of the class person among the net's."""
    score: _Share
    """From which on a candidate counts."""
    iou: _Share
    """Overlap with a surer one from which on a candidate is the same person; 1 keeps all."""
    most: Annotated[int, Field(ge=1, le=MAX_REGIONS)] = 16
    """Persons of a picture, the surest first."""
    smallest_px: Annotated[float, Field(ge=1)] = 16
    """Longer side of the smallest box, in px of the picture."""


class DetectorTable(BaseModel):
    """A whole file."""

    model_config = _STRICT

    file: Annotated[str, Field(min_length=1)]
    """The ONNX file, relative to the TOML."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Of the ONNX file; another one is refused."""
    input: InputTable
    output: Annotated[Family, Field(discriminator="family")]
    person: PersonTable


def parsed(path: Path) -> DetectorTable:
    """What a detector's TOML says, by itself.

    Raises:
        InvalidInput: it cannot be read, or a key is missing or unknown.
    """
    try:
        return DetectorTable.model_validate(tomllib.loads(path.read_text("utf-8-sig")))
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}; expected a detector's TOML") from error
    except ValidationError as error:
        raise InvalidInput(f"{path}: {first_problem(error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{path} is no TOML: {error}; expected a detector's TOML") from error
