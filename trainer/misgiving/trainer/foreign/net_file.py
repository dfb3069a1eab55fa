"""NET.toml: what cannot be told from a foreign net's ONNX file.

Axes: H W input.
"""

from dataclasses import dataclass
from pathlib import Path

import onnx
from pydantic import ValidationError

from misgiving.runtime.errors import InvalidInput, first_problem
from misgiving.runtime.keypoints import SETS, KeypointSet, of_category, places_of
from misgiving.trainer.data.mapping import keypoints_named
from misgiving.trainer.foreign.families import FAMILIES
from misgiving.trainer.foreign.families.base import Family, Shapes
from misgiving.trainer.foreign.graphs import (
    Graph,
    Shape,
    check_runs,
    read_graph,
    sized,
    tap_named,
    taps_of,
    with_outputs,
)
from misgiving.trainer.foreign.net_toml import InputTable, Layout, OutputTable, parsed
from misgiving.trainer.foreign.shapes import look_up, written
from misgiving.trainer.foreign_config import ForeignConfig, ForeignInput, Tap

_WHOLE = (onnx.TensorProto.UINT8, onnx.TensorProto.INT32)
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetFile:
    """A foreign net, ready for heads; see :func:`read_net`."""

    config: ForeignConfig
    """Without ``taught``, which the data tell."""
    keypoints: KeypointSet
    padding: float
    """Window size over the person's box."""
    height: int
    width: int
    """H and W, px."""
    content: bytes
    """Of the ONNX file."""


def read_net(path: Path | str) -> NetFile:
    """A NET.toml and the ONNX file that it names.

    >>> net = read_net(Path("people.toml"))
    >>> net.height, net.config.family, [tap.height for tap in net.config.taps]
    (144, 'heatmaps', [36, 18, 9])

    Raises:
        InvalidInput: either cannot be read, a key is missing or unknown, or what it says does
            not fit the graph; or the graph does not run, or not to finite numbers.
    """
    path = Path(path)
    said = parsed(path)
    keypoints = _keypoints(path, said.keypoints)
    content = _content(path, said.file)
    graph = read_graph(content, Path(said.file).name)
    net_input = _net_input(path, said.input, graph)
    height, width = _size(path, said.input, graph.inputs[net_input.name], net_input.layout)
    graph = sized(graph, net_input, height, width)
    shapes = Shapes(graph.outputs, len(keypoints), height, width)
    family = _family(path, said.output, shapes)
    taps = _taps(said.taps, graph, net_input, family.outputs)
    own = with_outputs(graph, (*family.outputs, *(tap.name for tap in taps)))
    _check_inputs(own, graph.name)
    check_runs(own, graph.name, net_input)
    config = ForeignConfig(
        file=graph.name,
        sha256=graph.sha256,
        licence=said.licence,
        input=net_input,
        family=said.output.family,
        output=dict(said.output.model_extra or {}),
        taps=taps,
    )
    return NetFile(
        config=config,
        keypoints=keypoints,
        padding=said.padding,
        height=height,
        width=width,
        content=content,
    )


def layout_of(shape: Shape) -> Layout | None:
    """Three channels first or last; None where both or neither are three."""
    if len(shape) != 4 or (shape[1] == 3) == (shape[3] == 3):
        return None
    return "NCHW" if shape[1] == 3 else "NHWC"


def _content(path: Path, file: str) -> bytes:
    try:
        return (path.parent / file).read_bytes()
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        why = getattr(error, "strerror", error)
        raise InvalidInput(
            f"{path}: file {file!r}: {why}; expected an ONNX file, relative to the TOML"
        ) from error


def _keypoints(path: Path, said: str | list[str]) -> KeypointSet:
    if isinstance(said, str):
        return keypoints_named(str(path.parent / said) if said.endswith(".toml") else said)
    if not said:
        raise InvalidInput(f"{path}: keypoints is empty; expected a set's name, or a list of names")
    bones = max((_bones(known, said) for known in SETS.values()), key=len)
    try:
        return of_category(path.stem, said, bones)
    except ValidationError as error:
        raise InvalidInput(f"{path}: keypoints: {first_problem(error)}") from error


def _bones(known: KeypointSet, names: list[str]) -> list[tuple[int, int]]:
    """A known set's bones whose ends both are among some names, as places counted from 1."""
    at = places_of(names, known.names)
    return [(at[a] + 1, at[b] + 1) for a, b in known.skeleton if min(at[a], at[b]) >= 0]


def _net_input(path: Path, said: InputTable, graph: Graph) -> ForeignInput:
    if said.name is None and len(graph.inputs) != 1:
        raise InvalidInput(
            f"{path}: input.name is missing and {graph.name} has {', '.join(graph.inputs)}; "
            "expected the name of the image"
        )
    name = said.name or next(iter(graph.inputs))
    shape = look_up(name, graph.inputs, f"{path}: input.name: {graph.name} has no input")
    layout = said.layout or layout_of(shape)
    if layout is None or len(shape) not in (0, 4):
        raise InvalidInput(
            f"{path}: input.layout cannot be told from {written(shape)}; expected an image of "
            "rank 4, and NCHW or NHWC"
        )
    if shape and shape[0] not in (None, 1):
        raise InvalidInput(
            f"{graph.name} takes {shape[0]} images at once; expected one, or any number"
        )
    if takes_whole_numbers(graph, name) and (any(said.mean) or said.std != [1, 1, 1]):
        raise InvalidInput(
            f"{path}: {graph.name} takes whole numbers; expected input.mean 0 and input.std 1"
        )
    mean, std = _three(said.mean), _three(said.std)
    return ForeignInput(name=name, layout=layout, colour=said.colour, mean=mean, std=std)


def _three(values: list[float]) -> tuple[float, float, float]:
    a, b, c = values
    return a, b, c


def takes_whole_numbers(graph: Graph, name: str) -> bool:
    """Whether an input takes pixels as they are.

    Raises:
        InvalidInput: of a type that is no image's.
    """
    value = next(one for one in graph.model.graph.input if one.name == name)
    kind = value.type.tensor_type.elem_type
    if kind not in (*_FLOATS, *_WHOLE):
        raise InvalidInput(
            f"{graph.name} takes {onnx.TensorProto.DataType.Name(kind).lower()}; expected "
            "float, float16, uint8 or int32"
        )
    return kind in _WHOLE


def _size(path: Path, said: InputTable, shape: Shape, layout: Layout) -> tuple[int, int]:
    own = dict(zip(layout, shape, strict=False))
    height, width = said.height or own.get("H"), said.width or own.get("W")
    if height is None or width is None:
        raise InvalidInput(
            f"{path}: the graph leaves its input's size free, {written(shape)}; expected "
            "input.height and input.width"
        )
    return height, width


def _family(path: Path, said: OutputTable, shapes: Shapes) -> Family:
    make = look_up(said.family, FAMILIES, f"{path}: there is no output family")
    try:
        return make(said.model_extra or {}, shapes)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error


def _taps(
    said: list[str] | None, graph: Graph, net_input: ForeignInput, outputs: tuple[str, ...]
) -> tuple[Tap, ...]:
    if said is None:
        return taps_of(graph, net_input, outputs)
    twice = next((name for name in said if name in outputs), None)
    if twice is not None:
        raise InvalidInput(
            f"tap {twice!r} is an output that the family reads already; expected inner tensors"
        )
    taps = [tap_named(graph, net_input, name) for name in dict.fromkeys(said)]
    return tuple(sorted(taps, key=lambda tap: -tap.height * tap.width))


def _check_inputs(model: onnx.ModelProto, name: str) -> None:
    inputs = [one.name for one in model.graph.input]
    if len(inputs) != 1:
        raise InvalidInput(
            f"{name}: these outputs need {', '.join(inputs) or 'no input'}; "
            "expected the image alone. Export the net with the others as constants"
        )
