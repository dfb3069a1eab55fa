"""A batch of one made any number, proven by a run."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from misgiving.trainer.foreign.batches import free_batch
from misgiving.trainer.foreign.graphs import read_graph
from misgiving.trainer.foreign.reading import shape_of
from shared.small_graphs import heatmap_net, model, node, value, weights

CONSTANTS = {
    "w": weights(4, 3, 4, 4),
    "one_row": np.array([1, 64]),
    "rest": np.array([1, -1]),
    "merged": np.array([2, 2, 16]),
    "split": np.array([2, -1, 2, 16]),
    "sizes": np.array([1, 4, 8, 8]),
    "second": np.array([1]),
    "ends": np.array([2]),
    "zero": np.array([0]),
    "tokens": np.array([1, 4, 16]),
    "rows": np.array([16, 4]),
    "linear": weights(4, 4),
    "heads": np.array([16, 1, 4]),
    "token": weights(1, 4, 4, 2),
    "matrix": weights(5, 64).T.copy(),
}
FIRST = node("Conv", "x w", "maps", strides=[4, 4])


def net(*nodes: onnx.NodeProto, batch: int | str = 1) -> onnx.ModelProto:
    """Maps (1, 4, 4, 4), and then what the nodes make of them."""
    shape = [batch, 3, 16, 16]
    made = model([FIRST, *nodes], value("x", shape), [value("y", None)], CONSTANTS)
    return read_graph(made.SerializeToString(), "net.onnx").model


@pytest.mark.parametrize(
    "nodes",
    [
        # a constant target, and one that is read twice
        (node("Reshape", "maps one_row", "a"), node("MatMul", "a matrix", "y")),
        (node("Reshape", "maps one_row", "a"), node("Reshape", "a one_row", "y")),
        (node("Reshape", "maps rest", "y"),),
        # shuffled channels: the batch is merged into them, and moved to the second place
        (
            node("Reshape", "maps merged", "a"),
            node("Transpose", "a", "b", perm=[1, 0, 2]),
            node("Reshape", "b split", "c"),
            node("Slice", "c zero second zero", "d"),
            node("Squeeze", "d zero", "y"),
        ),
        # rows of all images, as a linear layer of attention reads them
        (
            node("Reshape", "maps tokens", "a"),
            node("Transpose", "a", "b", perm=[2, 0, 1]),
            node("Reshape", "b rows", "c"),
            node("MatMul", "c linear", "d"),
            node("Reshape", "d heads", "e"),
            node("Transpose", "e", "y", perm=[1, 0, 2]),
        ),
        (onnx.helper.make_node("Resize", ["maps", "", "", "sizes"], ["y"], mode="nearest"),),
        (node("Flatten", "maps", "y"),),
        (node("Concat", "maps token", "y", axis=-1),),  # a token beside each image
    ],
)
def test_constant_shapes_lose_their_batch_of_one(nodes: tuple[onnx.NodeProto, ...]) -> None:
    one = net(*nodes)

    many = free_batch(one)

    assert many is not None
    assert shape_of(many.graph.input[0]) == (None, 3, 16, 16)
    images = np.random.default_rng(5).random((5, 3, 16, 16), np.float32)
    together = ort.InferenceSession(many.SerializeToString()).run(None, {"x": images})[0]
    alone = ort.InferenceSession(one.SerializeToString())
    rows = [alone.run(None, {"x": image[None]})[0] for image in images]
    np.testing.assert_allclose(together, np.concatenate(rows), atol=1e-5)


@pytest.mark.parametrize(
    "nodes",
    [
        (node("Softmax", "maps", "y", axis=0),),  # images would compete
        (node("ReduceMean", "maps zero", "y", keepdims=1),),  # their mean
        (node("Squeeze", "maps zero", "y"),),  # no batch at all
        (node("Concat", "maps maps", "y", axis=0),),  # two rows each
    ],
)
def test_what_mixes_images_or_has_no_batch_is_not_freed(nodes: tuple[onnx.NodeProto, ...]) -> None:
    assert free_batch(net(*nodes)) is None
    assert free_batch(net(*nodes, batch="n")) is None


def test_a_free_batch_is_left_alone() -> None:
    free = net(node("Flatten", "maps", "y"), batch="n")

    assert free_batch(free) is free


def test_a_small_net_is_freed_and_its_outputs_know_their_sizes() -> None:
    many = free_batch(read_graph(heatmap_net().SerializeToString(), "net.onnx").model)

    assert many is not None
    assert [shape_of(one) for one in many.graph.output] == [(None, 8, 4, 4), (None, 8, 8, 14)]


@pytest.mark.parametrize(
    "name", ["hourglass_192", "cpm_192", "blazepose_lite_256", "fastestdet_352"]
)
def test_real_nets_take_any_batch(models: Path, name: str) -> None:
    graph = read_graph((models / f"{name}.onnx").read_bytes(), name)

    assert free_batch(graph.model) is not None
