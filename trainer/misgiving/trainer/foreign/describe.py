"""A NET.toml to start from, told from an ONNX file."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.keypoints import SETS
from misgiving.trainer.foreign.families import FAMILIES
from misgiving.trainer.foreign.families.base import Shapes
from misgiving.trainer.foreign.graphs import (
    Graph,
    Shape,
    free_batch,
    read_graph,
    sized,
    taps_of,
    with_outputs,
)
from misgiving.trainer.foreign.net_file import layout_of, takes_whole_numbers
from misgiving.trainer.foreign.shapes import written
from misgiving.trainer.foreign_config import ForeignInput

_SIZE = 256
"""Height and width in px to look at a graph with that leaves them free."""
_MOST_KEYPOINTS = 200
_UNKNOWN = "?"


def describe(path: Path) -> str:
    """The text of a NET.toml for an ONNX file, with what was found as comments.

    A value that ends in a question mark is not known, or a guess; :func:`read_net` refuses the
    file until each of them was filled in.

    Raises:
        InvalidInput: the file is none that can be read, or takes no image.
    """
    graph = read_graph(_content(path), path.name)
    name, shape = _image(graph)
    layout = layout_of(shape)
    own = dict(zip(layout or "NCHW", shape or (None,) * 4, strict=True))
    image = ForeignInput(
        name=name, layout=layout or "NCHW", colour="RGB", mean=(0, 0, 0), std=(1, 1, 1)
    )
    height, width = own["H"] or _SIZE, own["W"] or _SIZE
    known = sized(graph, image, height, width)
    fitting = _fitting(Shapes(known.outputs, 0, height, width))
    family, options = next(iter(fitting.items()), (_UNKNOWN, {}))
    count, outputs = _keypoints(family, options, Shapes(known.outputs, 0, height, width))
    lines = [
        f"# What {path.name} does not tell itself. A value that ends in a question mark is not",
        "# known, or a guess: check it, and take the mark away.",
        *_found(graph, known, image, outputs),
        *_net_lines(path.name, count),
        *_input_lines(graph, name, layout),
        *(_line(key, _UNKNOWN, "px") for key in _free(own)),
        *_output_lines(family, options, list(fitting)),
    ]
    return "\n".join(lines) + "\n"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}; expected an ONNX file") from error


def _image(graph: Graph) -> tuple[str, Shape]:
    """The input that looks like an image; one whose rank is not told may be."""
    for name, shape in graph.inputs.items():
        if len(shape) in (0, 4):
            return name, shape
    shown = ", ".join(f"{name} {written(shape)}" for name, shape in graph.inputs.items())
    raise InvalidInput(f"{graph.name} takes {shown or 'nothing'}; expected an image of rank 4")


def _fitting(shapes: Shapes) -> dict[str, dict[str, Any]]:
    """The families that the outputs look like, with the options to start from."""
    guesses = {family: made.guess(shapes) for family, made in FAMILIES.items()}
    return {family: options for family, options in guesses.items() if options is not None}


def _keypoints(
    family: str, options: Mapping[str, Any], shapes: Shapes
) -> tuple[int | None, tuple[str, ...]]:
    """How many keypoints these options fit, None where several do; and the outputs read."""
    outputs, counts = tuple(shapes.outputs), []
    for count in range(1, _MOST_KEYPOINTS) if options else ():
        with suppress(InvalidInput):
            asked = Shapes(shapes.outputs, count, shapes.height, shapes.width)
            outputs = FAMILIES[family](options, asked).outputs
            counts.append(count)
    return (counts[0] if len(counts) == 1 else None), outputs


def _found(
    graph: Graph, known: Graph, image: ForeignInput, outputs: tuple[str, ...]
) -> Iterator[str]:
    yield "#"
    for what, ends in (("input ", graph.inputs), ("output", graph.outputs)):
        for name, shape in ends.items():
            yield f"# {what}  {name} {written(shape)}"
    if known.inputs != graph.inputs:
        yield f"# looked at with {written(known.inputs[image.name])}:"
    try:
        taps = taps_of(known, image, outputs)
        own = with_outputs(known, (*outputs, *(tap.name for tap in taps)))
    except InvalidInput as error:
        yield f"# taps    {error}"
        return
    for tap in taps:
        yield f"# tap     {tap.name} ({tap.channels}, {tap.height}, {tap.width}) as {tap.layout}"
    many = len(own.graph.input) == 1 and free_batch(own) is not None
    yield f"# batch   {'any number of images' if many else 'one image at a time'}"


def _net_lines(file: str, count: int | None) -> Iterator[str]:
    yield from ("", _line("file", file))
    yield _line("licence", _UNKNOWN, 'of its weights, such as "Apache-2.0"')
    yield _keypoint_line(count)
    yield _line("padding", _UNKNOWN, "window over the person's box, a number such as 1.25")


def _keypoint_line(count: int | None) -> str:
    known = next((one for one in SETS.values() if len(one) == count), None)
    if known is not None:
        comment = f"{count} of them; {known.name} is {', '.join(known.names[:4])} … in this order"
        return _line("keypoints", f"{known.name}?", f"{comment}; else a list of names")
    return _line("keypoints", _UNKNOWN, f"{count or 'the'} names in the net's order, as a list")


def _input_lines(graph: Graph, name: str, layout: str | None) -> Iterator[str]:
    yield from ("", "[input]")
    others = f"or {', '.join(one for one in graph.inputs if one != name)}"
    yield _line("name", *((name,) if len(graph.inputs) == 1 else (f"{name}?", others)))
    yield _line("layout", *((layout,) if layout else (_UNKNOWN, "NCHW or NHWC")))
    yield _line("colour", _UNKNOWN, "RGB or BGR")
    if takes_whole_numbers(graph, name):
        yield from (_line("mean", 0), _line("std", 1))
        return
    yield _line("mean", _UNKNOWN, "(pixel - mean) / std, pixels from 0 to 255:")
    yield _line("std", _UNKNOWN, "a number each, or three in the order of colour")


def _free(sizes: Mapping[str, int | None]) -> list[str]:
    return [key for key, axis in (("height", "H"), ("width", "W")) if sizes[axis] is None]


def _output_lines(family: str, options: Mapping[str, Any], fitting: list[str]) -> Iterator[str]:
    rest = [name for name in fitting or FAMILIES if name != family]
    others = f"or {', '.join(rest)}" if rest else "nothing else fits"
    yield from ("", "[output]")
    if not options:
        yield _line("family", _UNKNOWN, f"{others}; and its options".removeprefix("or "))
        return
    yield _line("family", f"{family}?", f"a guess, as the options below; {others}")
    yield from (_line(key, value) for key, value in options.items())


def _line(key: str, value: object, comment: str = "") -> str:
    """JSON's strings, numbers and lists are TOML's too."""
    said = f"{key} = {json.dumps(value, ensure_ascii=False)}"
    return f"{said}  # {comment}" if comment else said
