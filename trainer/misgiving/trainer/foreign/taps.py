"""Which inner tensors of a foreign graph the heads read.

Axes: N batch, C channels, H W height and width, as letters of a layout.
"""

import math
from collections.abc import Iterator

import onnx

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.foreign.reading import Graph
from misgiving.trainer.foreign.shapes import (
    Inner,
    depths,
    inner_tensors,
    layouts,
    look_up,
    needed_for,
    written,
)
from misgiving.trainer.foreign_config import ForeignInput, Tap

MOST_TAPS = 5
FINEST_STRIDE = 4
"""Finer tensors cost the head more to pool than they tell."""
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
_READERS = frozenset(
    ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
    + ("ReduceMean", "MatMul", "Gemm", "BatchNormalization")
)
"""What only reads features: the net's answer is what none of them reads any more."""


def taps_of(graph: Graph, net_input: ForeignInput, outputs: tuple[str, ...]) -> tuple[Tap, ...]:
    """The deepest feature of every spatial scale on the way to some outputs, finest first.

    A feature is a tensor that a convolution, a pool or a linear layer still reads: so it comes
    after its activation, and neither the heatmaps nor what is only moved or summed to them count.
    Deepest means most nodes from the input, then most channels. Scales finer than a quarter of
    the input are left out unless there is nothing else, and of the rest the five coarsest are
    kept. A tensor of 1 × 1 is one only where nothing wider follows: gates of channels are none.

    Raises:
        InvalidInput: no tensor is like that.
    """
    known, laid = _known(graph, net_input)
    nodes = needed_for(graph.model, outputs)
    deep = depths(nodes, net_input.name)
    height, width = _area(graph.inputs[net_input.name], net_input.layout)
    names = [name for name in _features(nodes, deep, known) if name not in outputs]
    taps = [_tap(name, known, laid) for name in names]
    fitting = [tap for tap in taps if tap is not None and _is_scale(tap, height, width)]
    fitting.sort(key=lambda tap: (deep[tap.name], tap.channels))
    best = {(tap.height, tap.width): tap for tap in fitting}  # the last one of a size stays
    found = sorted(best.values(), key=lambda tap: -tap.height * tap.width)
    coarse = [tap for tap in found if tap.height * FINEST_STRIDE <= height] or found[-1:]
    if not coarse:
        raise InvalidInput(
            f"{graph.name} has no inner tensor of rank 4 with a known size on the way to "
            f"{', '.join(outputs)}; expected one. Name them: taps = [...]"
        )
    return tuple(coarse[-MOST_TAPS:])


def tap_named(graph: Graph, net_input: ForeignInput, name: str) -> Tap:
    """An inner tensor as a tap.

    Raises:
        InvalidInput: it is not there, or no feature map: floats of rank 4 and known size.
    """
    known, laid = _known(graph, net_input)
    shape = look_up(name, known, f"{graph.name} has no inner tensor").shape
    tap = _tap(name, known, laid)
    if tap is None:
        raise InvalidInput(
            f"{graph.name}: tap {name!r} is {written(shape)}; expected floats of rank 4 with "
            "known channels, height and width, in NCHW or NHWC"
        )
    return tap


def _known(graph: Graph, net_input: ForeignInput) -> tuple[dict[str, Inner], dict[str, str]]:
    known = inner_tensors(graph.model)
    return known, layouts(graph.model, known, net_input.name, net_input.layout)


def _tap(name: str, known: dict[str, Inner], laid: dict[str, str]) -> Tap | None:
    layout, inner = laid.get(name), known.get(name)
    if inner is None or inner.kind not in _FLOATS or len(inner.shape) != 4:
        return None
    sizes = dict(zip(layout or "", inner.shape, strict=False))
    channels, height, width = (sizes.get(axis) for axis in "CHW")
    if not (channels and height and width):
        return None
    if layout == "NCHW":
        return Tap(name=name, layout="NCHW", channels=channels, height=height, width=width)
    if layout == "NHWC":
        return Tap(name=name, layout="NHWC", channels=channels, height=height, width=width)
    return None


def _features(
    nodes: list[onnx.NodeProto], deep: dict[str, int], known: dict[str, Inner]
) -> Iterator[str]:
    makers = {name: node for node in nodes for name in node.output}
    wide = _above_wider(nodes, known)
    for node in nodes:
        if node.op_type in _READERS:
            name = node.input[0]
            while name in makers and makers[name].op_type == "Pad":
                name = makers[name].input[0]
            if deep.get(name, 0) > 0 and not (_is_point(name, known) and name in wide):
                yield name


def _above_wider(nodes: list[onnx.NodeProto], known: dict[str, Inner]) -> set[str]:
    """All tensors from which one of rank 4 and more than 1 × 1 is made."""
    above: set[str] = set()
    for node in reversed(nodes):
        if any(name in above or _is_wide(name, known) for name in node.output):
            above |= set(node.input)
    return above


def _is_wide(name: str, known: dict[str, Inner]) -> bool:
    return name in known and len(known[name].shape) == 4 and not _is_point(name, known)


def _is_point(name: str, known: dict[str, Inner]) -> bool:
    """Whether height and width are 1, in any layout: two sizes of three."""
    shape = known[name].shape if name in known else ()
    return len(shape) == 4 and sorted(size or 2 for size in shape[1:])[:2] == [1, 1]


def _area(shape: tuple[int | None, ...], layout: str) -> tuple[int, int]:
    height, width = (shape[layout.index(axis)] or 0 for axis in "HW")
    return height, width


def _is_scale(tap: Tap, height: int, width: int) -> bool:
    """Whether it is the whole input, smaller: rows of boxes or of attention are not."""
    shrunk = (height / tap.height, width / tap.width)
    is_point = tap.height == tap.width == 1
    return min(shrunk) >= 1 and (is_point or abs(math.log(shrunk[0] / shrunk[1])) < math.log(1.5))
