"""Which inner tensors are chosen, in graphs of every shape."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.foreign.graphs import Graph, read_graph, tap_named, taps_of
from misgiving.trainer.foreign_config import ForeignInput, Tap
from shared.small_graphs import IMAGE, heatmap_net, model, node, value, weights

PLANES = ForeignInput(name="x", layout="NCHW", colour="RGB", mean=(0,) * 3, std=(1,) * 3)


def graph_of(made: onnx.ModelProto) -> Graph:
    return read_graph(made.SerializeToString(), "net.onnx")


def shapes(taps: tuple[Tap, ...]) -> list[tuple[str, int, int, int]]:
    return [(tap.name, tap.channels, tap.height, tap.width) for tap in taps]


def test_each_scale_gives_what_the_last_convolution_reads() -> None:
    taps = taps_of(graph_of(heatmap_net()), IMAGE, ("heat",))

    # not the heatmaps, nor stride 2; r8 is read by no convolution
    assert shapes(taps) == [("sum", 8, 8, 8)]
    assert taps[0].layout == "NCHW"


def test_a_branch_that_the_outputs_do_not_need_gives_none() -> None:
    extra = [node("MaxPool", "r8", "aside2", kernel_shape=[2, 2], strides=[2, 2])]
    made = heatmap_net(extra=extra)
    made.graph.output.append(value("aside2", [1, 8, 2, 2]))

    assert [tap.name for tap in taps_of(graph_of(made), IMAGE, ("heat",))] == ["sum"]
    both = taps_of(graph_of(made), IMAGE, ("heat", "aside2"))
    assert [tap.name for tap in both] == ["sum", "r8"]


def regressor() -> onnx.ModelProto:
    """Stride 4 with a gate over its channels, a padded stride 8, a pooled 1 × 1, and numbers."""
    constants = {
        "w4": weights(8, 3, 4, 4),
        "gate": weights(8, 8, 1, 1, seed=1),
        "w8": weights(8, 8, 3, 3, seed=2),
        "w1": weights(6, 8, 1, 1, seed=3),
        "pads": np.array([0, 0, 0, 0, 0, 0, 1, 1]),
        "flat": np.array([1, 6]),
    }
    nodes = [
        node("Conv", "x w4", "c4", strides=[4, 4]),
        node("GlobalAveragePool", "c4", "squeezed"),
        node("Conv", "squeezed gate", "logit"),
        node("Sigmoid", "logit", "share"),
        node("Mul", "c4 share", "gated"),
        node("Pad", "gated pads", "padded"),
        node("Conv", "padded w8", "c8", strides=[2, 2]),
        node("Relu", "c8", "r8"),
        node("GlobalAveragePool", "r8", "pooled"),
        node("Conv", "pooled w1", "numbers"),
        node("Reshape", "numbers flat", "points"),
    ]
    return model(nodes, value("x", [1, 3, 32, 24]), [value("points", [1, 6])], constants)


def test_gates_are_no_scale_and_padding_is_looked_through() -> None:
    taps = taps_of(graph_of(regressor()), PLANES, ("points",))

    assert shapes(taps) == [("gated", 8, 8, 6), ("r8", 8, 4, 3), ("pooled", 8, 1, 1)]


def test_rows_are_no_picture() -> None:
    constants = {
        "w": weights(4, 3, 1, 1),
        "rows": np.array([1, 4, 4, 256]),
        "w1": weights(1, 4, 1, 1),
    }
    nodes = [
        node("Conv", "x w", "maps"),
        node("Reshape", "maps rows", "flat"),
        node("Conv", "flat w1", "boxes"),
    ]
    made = model(nodes, value("x", [1, 3, 32, 32]), [value("boxes", None)], constants)

    with pytest.raises(InvalidInput, match=r"no inner tensor of rank 4 .* boxes; expected one"):
        taps_of(graph_of(made), PLANES, ("boxes",))


def test_any_inner_tensor_can_be_named() -> None:
    graph = graph_of(heatmap_net())

    assert tap_named(graph, IMAGE, "r8") == Tap(
        name="r8", layout="NCHW", channels=8, height=4, width=4
    )
    assert tap_named(graph, IMAGE, "heat").layout == "NHWC"
    with pytest.raises(InvalidInput, match=r"no inner tensor 'r9'; .* r8"):
        tap_named(graph, IMAGE, "r9")
    with pytest.raises(InvalidInput, match=r"tap 'points' is \(1, 6\); expected floats of rank 4"):
        tap_named(graph_of(regressor()), PLANES, "points")


@pytest.mark.parametrize(
    ("name", "outputs", "sizes"),
    [
        ("hourglass_192", ("hourglass_out_3",), [48, 24, 12, 6, 3]),
        ("cpm_192", ("Convolutional_Pose_Machine/stage_5_out",), [48, 24, 12, 6]),
        ("blazepose_lite_256", ("Identity", "Identity_1"), [32, 16, 8, 4, 2]),
    ],
)
def test_real_nets_give_rich_maps_of_every_scale(
    models: Path, name: str, outputs: tuple[str, ...], sizes: list[int]
) -> None:
    graph = read_graph((models / f"{name}.onnx").read_bytes(), name)
    image = ForeignInput(
        name=next(iter(graph.inputs)), layout="NHWC", colour="BGR", mean=(0,) * 3, std=(1,) * 3
    )

    taps = taps_of(graph, image, outputs)

    assert [tap.height for tap in taps] == sizes
    assert min(tap.channels for tap in taps) >= 48  # heatmaps and sums of them have 14
    assert {tap.layout for tap in taps} == {"NCHW"}
