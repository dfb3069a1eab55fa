"""The keys of a NET.toml."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

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

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Layout = Literal["NCHW", "NHWC"]

_FORBID = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _each(value: object) -> object:
    return value if isinstance(value, list) else [value] * 3


_Colour = Annotated[list[float], BeforeValidator(_each), Field(min_length=3, max_length=3)]
_PositiveColour = Annotated[
    list[PositiveFloat], BeforeValidator(_each), Field(min_length=3, max_length=3)
]


class InputTable(BaseModel):
    """How pixels go in; what is None is told from the graph."""

    model_config = _FORBID

    name: str | None = None
    layout: Layout | None = None
    colour: Literal["RGB", "BGR"]
    mean: _Colour
    std: _PositiveColour
    height: PositiveInt | None = None
    width: PositiveInt | None = None


class OutputTable(BaseModel):
    """What comes out: all but the family are the family's options."""

    model_config = ConfigDict(extra="allow", strict=True)

    family: str


class NetTable(BaseModel):
    """A whole NET.toml."""

    model_config = _FORBID

    file: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    keypoints: str | list[str]
    padding: float = Field(ge=1)
    taps: list[str] | None = Field(default=None, min_length=1)
    input: InputTable
    output: OutputTable


def parsed(path: Path) -> NetTable:
    """What a NET.toml says, by itself.

    Raises:
        InvalidInput: it cannot be read, or a key is missing, unknown or not yet filled in.
    """
    try:
        said = tomllib.loads(path.read_text("utf-8-sig"))
        unsure = next(_unsure(said), None)
        if unsure:
            raise InvalidInput(f"{path}: {unsure} still has its question mark; fill it in")
        return NetTable.model_validate(said)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}; expected a NET.toml") from error
    except ValidationError as error:
        raise InvalidInput(f"{path}: {first_problem(error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{path} is no TOML: {error}; expected a NET.toml") from error


def _unsure(said: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The keys whose value ends in the question mark that ``--describe`` leaves."""
    for key, value in said.items():
        if isinstance(value, dict):
            yield from _unsure(value, f"{above}{key}.")
        elif isinstance(value, str) and value.endswith("?"):
            yield f"{above}{key}"
