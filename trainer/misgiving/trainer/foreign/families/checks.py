"""What every family asks of NET.toml and of a graph's shapes, in one line where it does not fit."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from misgiving.runtime.errors import InvalidInput, first_problem
from misgiving.trainer.foreign.families.base import Shapes

Options = TypeVar("Options")
Shape = tuple[int | None, ...]


def parse(family: str, adapter: TypeAdapter[Options], options: Mapping[str, Any]) -> Options:
    """The options as their type.

    Raises:
        InvalidInput: an option is unknown, missing or out of range.
    """
    try:
        return adapter.validate_python(dict(options))
    except ValidationError as error:
        known = ", ".join(adapter.json_schema()["properties"])
        raise InvalidInput(
            f"[output] of family {family}: {first_problem(error)}; expected {known}. "
            "Mend it in NET.toml."
        ) from error


def shape_of(shapes: Shapes, name: str) -> Shape:
    """The shape of an output.

    Raises:
        InvalidInput: the graph has no such output.
    """
    if name not in shapes.outputs:
        there = ", ".join(shapes.outputs)
        raise InvalidInput(f"no output {name!r}; the graph has {there}. Name one of them.")
    return shapes.outputs[name]


def check_shape(shapes: Shapes, name: str, expected: Sequence[int | None], axes: str) -> None:
    """Refuse an output of another shape; None fits every size, on either side.

    Raises:
        InvalidInput: it has another shape, or is not there; ``axes`` says what was expected.
    """
    shape = shape_of(shapes, name)
    if len(shape) != len(expected) or not all(map(fits, shape, expected)):
        raise unfit(shapes, name, axes)


def fits(size: int | None, expected: int | None) -> bool:
    """Whether two sizes may be the same; None is any size."""
    return size is None or expected is None or size == expected


def unfit(shapes: Shapes, name: str, axes: str) -> InvalidInput:
    """What to say of an output whose shape does not fit."""
    shape = ", ".join("free" if size is None else str(size) for size in shapes.outputs[name])
    return InvalidInput(
        f"output {name!r} is ({shape}); expected {axes} for {shapes.keypoints} keypoints. "
        "Name another output or family, or mend the options or the keypoints."
    )
