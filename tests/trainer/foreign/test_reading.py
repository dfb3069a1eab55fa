"""What a graph of somebody else is made of, and what is refused."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.foreign.graphs import check_runs, read_graph, sized, with_outputs
from misgiving.trainer.foreign.reading import opset_of
from shared.small_graphs import IMAGE, KEYPOINTS, heatmap_net, node


def content(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 13, 17])
def test_an_older_graph_with_its_weights_as_inputs_says_the_same(opset: int) -> None:
    old = heatmap_net(opset=opset, weights_as_inputs=opset < 11)

    graph = read_graph(content(old), "old.onnx")

    assert graph.converted
    assert opset_of(graph.model) == 18
    assert graph.inputs == {"image": (1, 32, 32, 3)}
    image = {"image": np.random.default_rng(0).random((1, 32, 32, 3), np.float32)}
    silent = ort.SessionOptions()
    silent.log_severity_level = 4
    wanted = ort.InferenceSession(content(old), silent).run(["heat"], image)[0]
    got = ort.InferenceSession(content(graph.model), silent).run(["heat"], image)[0]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * np.ptp(wanted))


@pytest.mark.parametrize("opset", [8, 18])
def test_weights_and_the_digest_are_those_of_the_file(opset: int) -> None:
    file = heatmap_net(opset=opset, weights_as_inputs=True)

    graph = read_graph(content(file), "net.onnx")

    def of(model: onnx.ModelProto) -> dict[str, bytes]:
        return {w.name: numpy_helper.to_array(w).tobytes() for w in model.graph.initializer}

    assert of(graph.model).items() >= of(file).items()
    assert graph.sha256 == hashlib.sha256(content(file)).hexdigest()
    assert graph.converted == (opset < 18)


def test_what_nobody_uses_is_dropped() -> None:
    file = heatmap_net()
    file.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))  # tf2onnx writes it everywhere
    file.graph.node[0].doc_string = "/home/somebody/net.py"

    graph = read_graph(content(file), "net.onnx")

    assert [one.domain for one in graph.model.opset_import] == [""]
    assert b"somebody" not in content(graph.model)


def test_functions_are_written_out() -> None:
    body = [node("Relu", "x", "a"), node("Neg", "a", "y")]
    opsets = [helper.make_opsetid("", 18)]
    made = helper.make_function("own", "Twice", ["x"], ["y"], body, opsets)
    file = heatmap_net(extra=[node("Twice", "heat", "more", domain="own")])
    file.functions.append(made)
    file.opset_import.append(helper.make_opsetid("own", 1))

    graph = read_graph(content(file), "net.onnx")

    assert not graph.model.functions
    assert "Neg" in [one.op_type for one in graph.model.graph.node]


def outside_weights() -> bytes:
    file = heatmap_net()
    onnx.external_data_helper.set_external_data(file.graph.initializer[0], "weights.bin")
    file.graph.initializer[0].ClearField("raw_data")
    return content(file)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "no ONNX file"),
        (b"no graph at all", "no ONNX file"),
        (content(heatmap_net())[:-400], "no ONNX file"),  # truncated
        (content(heatmap_net(opset=19)), "has opset 19; expected at most 18"),
        (content(heatmap_net(extra=[node("Fancy", "c8", "x")])), "a node Fancy; expected ONNX's"),
        (
            content(heatmap_net(extra=[node("Norm", "c8", "x", domain="mmcv")])),
            "a node Norm of domain 'mmcv'",
        ),
        (outside_weights(), "keeps 'w2' in another file"),
        (content(heatmap_net(extra=[node("Relu", "nowhere", "x")])), "no valid graph"),
    ],
)
def test_what_cannot_be_taken_is_said_in_one_line(data: bytes, line: str) -> None:
    with pytest.raises(InvalidInput) as error:
        read_graph(data, "net.onnx")

    assert str(error.value).startswith("net.onnx ")
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_may_not_be_larger_than_a_bundle_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("misgiving.trainer.foreign.reading.MAX_GRAPH_BYTES", 1000)

    with pytest.raises(InvalidInput, match=r"has \d,\d+ bytes; expected at most 1,000"):
        read_graph(content(heatmap_net()), "net.onnx")


def test_free_sizes_are_filled_in() -> None:
    graph = read_graph(content(heatmap_net("size", batch="n")), "net.onnx")
    assert graph.inputs["image"] == (None, None, None, 3)

    found = sized(graph, IMAGE, 64, 48)

    assert found.inputs["image"] == (None, 64, 48, 3)
    assert found.outputs["heat"] == (None, 16, 12, KEYPOINTS)
    assert graph.inputs["image"] == (None, None, None, 3)
    assert sized(found, IMAGE, 64, 48) is found


def test_a_size_of_its_own_stays() -> None:
    graph = read_graph(content(heatmap_net()), "net.onnx")

    with pytest.raises(InvalidInput, match=r"\(1, 32, 32, 3\); expected \(1, 64, 32, 3\), NHWC"):
        sized(graph, IMAGE, 64, 32)


def test_outputs_that_are_not_finite_are_named() -> None:
    extra = [node("Sub", "r2 r2", "zero"), node("Log", "zero", "minus_infinity")]
    graph = read_graph(content(heatmap_net(extra=extra)), "net.onnx")

    check_runs(with_outputs(graph, ["heat"]), graph.name, IMAGE)
    with pytest.raises(InvalidInput, match=r"output 'minus_infinity' of a grey crop is not finite"):
        check_runs(with_outputs(graph, ["heat", "minus_infinity"]), graph.name, IMAGE)


def test_just_the_outputs_that_are_asked_for_stay() -> None:
    graph = read_graph(content(heatmap_net()), "net.onnx")

    cut = with_outputs(graph, ["r4", "aside"])

    assert [one.name for one in cut.graph.output] == ["r4", "aside"]
    assert [one.name for one in cut.graph.initializer] == ["w2", "w4", "w8"]
    assert not {"Resize", "Add"} & {one.op_type for one in cut.graph.node}
    onnx.checker.check_model(cut, full_check=True)


def test_names_that_are_near_are_told() -> None:
    graph = read_graph(content(heatmap_net()), "net.onnx")

    with pytest.raises(InvalidInput, match=r"net.onnx has no tensor 'heats'; .* such as heat"):
        with_outputs(graph, ["heats"])


@pytest.mark.parametrize("name", ["hourglass_192", "cpm_192", "blazepose_lite_256"])
def test_real_weights_stay_as_they_are(models: Path, name: str) -> None:
    file = models / f"{name}.onnx"

    graph = read_graph(file.read_bytes(), file.name)

    assert list(graph.model.graph.initializer) == list(onnx.load(file).graph.initializer)
