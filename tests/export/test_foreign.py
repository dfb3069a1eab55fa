"""A foreign net in a bundle: it says what its own file says, or there is no bundle."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from typer.testing import CliRunner

from misgiving.export import parity
from misgiving.export.bench.cases import Case, prepare
from misgiving.export.bundling import export_bundle
from misgiving.export.config import ExportConfig
from misgiving.export.foreign_gate import check_foreign
from misgiving.export.graph import FusedGraph
from misgiving.export.onnx import write_onnx
from misgiving.export.precision import Quantiser, core_of
from misgiving.runtime import Client, geometry
from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.engines.self_check import self_check
from misgiving.runtime.errors import InvalidInput, ParityError
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import CropRule
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.cli import app
from misgiving.trainer.config import ModelConfig, head_named
from misgiving.trainer.data import PoseSet
from misgiving.trainer.data.crops import evaluation_crop
from misgiving.trainer.evaluation.bundle import evaluate
from misgiving.trainer.foreign.families import FAMILIES as READERS
from misgiving.trainer.foreign.families.base import Shapes
from misgiving.trainer.foreign.net_file import NetFile, read_net
from misgiving.trainer.foreign.pose import ForeignPose
from misgiving.trainer.models import Network
from shared.foreign import FAMILIES, attached, net_model, write_net
from shared.once import made_once, run_folder
from shared.serving import serving
from shared.small_graphs import heatmap_net, model, node, value, weights
from shared.training import CPU, people

SIZE = (64, 48)
CONFIG = ExportConfig(name="foreign", version="1")
Images = NDArray[np.uint8]
Make = Callable[[str], Bundle]


@pytest.fixture(scope="session")
def exported(validation: PoseSet, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A family's whole way to a bundle; read it, never write into it. The checkpoint is beside."""

    def make(family: str, out: Path) -> None:
        attached(out.parent / "run", write_net(out.parent / "net", family, SIZE))
        export_bundle(out.parent / "run", validation, out, CONFIG, CPU)

    def bundle(family: str) -> Bundle:
        out = run_folder(tmp_path_factory) / "foreign" / family / "bundle"
        return Bundle.load(made_once(out, partial(make, family)))

    return bundle


def crops_of(size: tuple[int, int], count: int = 8) -> Images:
    rule = CropRule(height=size[0], width=size[1], padding=1.25)
    return np.stack([evaluation_crop(people(6, count)[i], rule)[0] for i in range(count)])


def graph_of(net: NetFile) -> FusedGraph:
    """A net with a head that has learnt nothing."""
    torch.manual_seed(0)
    head = head_named("evidence-miss")
    size = (net.height, net.width)
    config = ModelConfig(input_size=size, net=net.config, heads=(head,), padding=net.padding)
    return FusedGraph(Network(config, net.keypoints, net.content).eval())


def merged(net: NetFile, folder: Path) -> tuple[ForeignPose, Path]:
    graph = graph_of(net)
    write_onnx(graph, folder / "model.onnx", {})
    pose = graph.network.pose
    assert isinstance(pose, ForeignPose)
    return pose, folder / "model.onnx"


def decoded(bundle: Bundle, crops: Images) -> NDArray[np.float32]:
    """The points of the original file, fed by hand."""
    config = load_checkpoint(bundle.path.parent / "run")[1].model.net
    session = ort.InferenceSession(bundle.path.parent / "net" / "net.onnx")
    outputs = {out.name: (None, *out.shape[1:]) for out in session.get_outputs()}
    fed = (crops.transpose(0, 3, 1, 2).astype(np.float32) - np.float32(127.5)) / np.float32(64)
    raw = dict(zip(outputs, session.run(None, {"image": fed}), strict=True))
    shapes = Shapes({name: (None, *one.shape[1:]) for name, one in raw.items()}, 14, *SIZE)
    family = READERS[config.family](config.output, shapes)
    points: NDArray[np.float32] = family.read(
        [torch.from_numpy(raw[name]) for name in family.outputs]
    ).points.numpy()
    return points


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_as_its_own_file(exported: Make, family: str) -> None:
    bundle = exported(family)
    self_check(bundle, OnnxEngine(bundle.model, threads=1))
    estimator = Estimator.load(bundle.path, threads=1)
    own = ["mean_confidence", "min_confidence"]
    own += ["presence"] if family in ("regression", "yolo", "yolo_nms") else []
    assert [signal.name for signal in bundle.manifest.signals] == own
    assert {signal.higher_is for signal in bundle.manifest.signals} == {"safer"}
    rule = bundle.manifest.crop
    for index in range(4):
        sample = people(6, 8)[index]
        crop, window = evaluation_crop(sample, rule)
        assert sample.region is not None
        (person,) = estimator.infer(sample.image, [sample.region]).persons
        expected = geometry.input_to_image(
            decoded(bundle, crop[None])[0], window, rule.height, rule.width
        )
        np.testing.assert_allclose(person.keypoints[:, :2], expected, atol=0.01)
        assert len(person.signals) == len(own)


def test_its_own_confidences_are_the_free_scores(exported: Make) -> None:
    evaluation = evaluate(Estimator.load(exported("yolo").path, threads=1), people(4, 40, 0.0, 1.0))
    names = [row.name for row in evaluation.failures.rows]
    own = ["-mean_confidence", "-min_confidence", "-presence"]
    assert [name for name in names if name in own] == own
    assert "predicted_loss" in names


def test_what_selection_can_do_with_its_scores(exported: Make, tmp_path: Path) -> None:
    bundle = exported("heatmaps")

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments)
        return done.stdout if done.exit_code == 0 else str(done.exception)

    file = str(tmp_path / "pool.parquet")
    run("score", "--pool", "synthetic:5,12", "--out", file, "--bundle", str(bundle.path))
    for sampler in ("learned_loss", "coreset", "usdm", "convex", "min_confidence"):
        picked = run("select", file, "--budget", "3", "--sampler", sampler).split()
        assert len(set(picked)) == 3, sampler
    said = run("select", file, "--budget", "3", "--sampler", "min_peak")
    assert "a free score that is not there; there are mean_confidence, min_confidence" in said


def test_it_is_served(exported: Make) -> None:
    bundle, sample = exported("simcc"), people(6, 8)[0]
    assert sample.region is not None
    whole = Model(bundle, OnnxEngine(bundle.model, threads=1))
    (here,) = Estimator.load(bundle.path, threads=1).infer(sample.image, [sample.region]).persons
    with serving(model=whole) as server, Client(server.address) as client:
        (there,) = client.infer(sample.image, [sample.region]).persons
    np.testing.assert_allclose(there.keypoints, here.keypoints, atol=1e-3)
    assert there.predicted_loss == pytest.approx(here.predicted_loss)


@pytest.mark.parametrize("engine", ["torch", "torch-compile"])
def test_bench_leaves_torch_out(exported: Make, engine: str) -> None:
    case = Case(engine=engine, device="cpu", threads=1, batch=1)
    with pytest.raises(InvalidInput, match=r"an ONNX file \(net.onnx\), which torch cannot run"):
        prepare(case, exported("heatmaps"))


def test_half_the_bits(exported: Make, validation: PoseSet, tmp_path: Path) -> None:
    """The net alone has them; its evidence has logarithms that fp16 makes infinite."""
    run = exported("simcc").path.parent / "run"
    config = replace(CONFIG, precisions=("fp16",))
    bundle = export_bundle(run, validation, tmp_path / "bundle", config, CPU)
    assert set(bundle.manifest.precisions) == {"fp16"}
    core = core_of(onnx.load(bundle.model).graph)
    assert core
    assert not [name for name in core if not name.startswith("net/")]


def test_eight_bits(exported: Make, tmp_path: Path) -> None:
    """Whether they are enough, a gate says; here they are made, in the net alone."""
    source = onnx.load(exported("simcc").model)
    quantiser = Quantiser(source, "int8", crops_of(SIZE), tmp_path)
    assert {name.split("/")[0] for name in quantiser.layers} == {"net"}
    quantiser.quantise(tmp_path / "int8.onnx")
    said = OnnxEngine(tmp_path / "int8.onnx", threads=1).infer(crops_of(SIZE))
    assert np.isfinite(said.predicted_loss).all()


def test_the_merged_graph_holds_the_file(tmp_path: Path) -> None:
    """Node by node, bit by bit, at any batch; every node has a name and every opset one line."""
    net = read_net(write_net(tmp_path / "net", size=SIZE, keys={"taps": ["r4", "r8", "r16"]}))
    pose, path = merged(net, tmp_path)
    crops = crops_of(SIZE)
    check_foreign(path, pose, OnnxEngine(path, threads=1), crops)
    whole = onnx.load(path)
    assert [(entry.domain, entry.version) for entry in whole.opset_import] == [("", 18)]
    names = [each.name for each in whole.graph.node]
    assert len({*names, ""}) == len(names) + 1
    kept = {one.name: one.raw_data for one in whole.graph.initializer}
    for one in onnx.load_from_string(net.content).graph.initializer:
        assert kept[f"net/{one.name}"] == one.raw_data
    inner = ["maps", "r4", "r8", "r16"]
    expected = _asked(onnx.load_from_string(net.content), inner, "image", fed(crops[:1]))
    got = _asked(whole, [f"net/{name}" for name in inner], "image", crops[:1])
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def fed(crops: Images) -> NDArray[np.float32]:
    planes = crops.transpose(0, 3, 1, 2).astype(np.float32)
    return np.ascontiguousarray((planes - np.float32(127.5)) / np.float32(64))


def _asked(
    graph: onnx.ModelProto, inner: Sequence[str], name: str, images: NDArray[np.generic]
) -> list[NDArray[np.float32]]:
    """Some tensors of a graph, without ONNX Runtime's optimisations."""
    del graph.graph.output[:]
    graph.graph.output.extend(onnx.ValueInfoProto(name=one) for one in inner)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(graph.SerializeToString(), options)
    return list(session.run(list(inner), {name: images}))


def tampered(source: Path, target: Path, constant: str, factor: float) -> Path:
    """The merged file with one constant a little larger."""
    graph = onnx.load(source)
    (one,) = [each for each in graph.graph.initializer if each.name == constant]
    one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one) * np.float32(factor), constant))
    onnx.save(graph, target)
    return target


def test_a_changed_weight_is_found(tmp_path: Path) -> None:
    net = read_net(write_net(tmp_path / "net", size=SIZE))
    pose, path = merged(net, tmp_path)
    bad = tampered(path, tmp_path / "bad.onnx", "net/r4/w", 1.0001)
    with pytest.raises(ParityError, match=r"output 'maps' of the foreign net differs by .* not a"):
        check_foreign(bad, pose, OnnxEngine(bad, threads=1), crops_of(SIZE))


def test_what_moves_points_after_the_net_is_found(tmp_path: Path) -> None:
    net = read_net(write_net(tmp_path / "net", "regression", SIZE))
    pose, path = merged(net, tmp_path)

    class Moved(OnnxEngine):
        """As one whose optimisations round too coarsely."""

        def infer(self, images: Images) -> Prediction:
            said = super().infer(images)
            return replace(said, keypoints=said.keypoints + np.float32(0.02))

    with pytest.raises(ParityError, match=r"points moved 0.0\d+ input px .* at batch 1"):
        check_foreign(path, pose, Moved(path, threads=1), crops_of(SIZE))


def test_a_tap_of_another_value_is_found(tmp_path: Path) -> None:
    """By the gate of every graph, since the heads then say something else."""
    path = write_net(tmp_path / "net", "simcc", SIZE, keys={"taps": ["r4", "r16"]})
    graph = FusedGraph(attached(tmp_path / "run", path).network.eval())
    write_onnx(graph, tmp_path / "model.onnx", {})
    crops = crops_of(SIZE)
    right = OnnxEngine(tmp_path / "model.onnx", threads=1)
    parity.check(parity.graph_drift(graph, right, crops), "graph", "input px")
    # Nothing but the tap depends on this weight.
    bad = tampered(tmp_path / "model.onnx", tmp_path / "bad.onnx", "net/r16/w", 1.5)
    drift = parity.graph_drift(graph, OnnxEngine(bad, threads=1), crops)
    with pytest.raises(ParityError, match="graph"):
        parity.check(drift, "graph", "input px")


def means_net(layout: str) -> onnx.ModelProto:
    """Points that are the means of its input's first two channels."""
    axes = [1, 2] if layout == "NHWC" else [2, 3]
    shape = [1, *SIZE, 3] if layout == "NHWC" else [1, 3, *SIZE]
    pick = np.zeros((3, 28), np.float32)
    pick[0, ::2] = pick[1, 1::2] = 1
    to = [0, 3, 1, 2] if layout == "NHWC" else [0, 1, 2, 3]
    nodes = [
        node("ReduceMean", "image axes", "means", keepdims=0),
        node("MatMul", "means pick", "flat"),
        node("Reshape", "flat shape", "points"),
        node("Transpose", "image", "planes", perm=to),
        node("Conv", "planes w", "tap", strides=[8, 8]),
        node("GlobalAveragePool", "tap", "end"),
    ]
    constants = {
        "axes": np.array(axes, np.int64),
        "pick": pick,
        "shape": np.array([1, 14, 2], np.int64),  # as exporters write it: one image
        "w": weights(4, 3, 8, 8),
    }
    outputs = [value("points", [1, 14, 2]), value("end", None)]
    return model(nodes, value("image", shape), outputs, constants)


@pytest.mark.parametrize(("layout", "colour"), [("NHWC", "BGR"), ("NCHW", "BGR"), ("NHWC", "RGB")])
def test_pixels_arrive_as_the_net_wants_them(tmp_path: Path, layout: str, colour: str) -> None:
    path = write_net(tmp_path / "net", "heatmaps", SIZE, graph=means_net(layout))
    text = path.read_text().split("[input]")[0].replace("padding", 'taps = ["tap"]\npadding')
    image = f'[input]\ncolour = "{colour}"\nmean = [10, 20, 30]\nstd = [2, 4, 8]\n'
    out = '[output]\nfamily = "regression"\npoints = "points"\ncolumns = ["x", "y"]\nunit = "px"\n'
    path.write_text(text + image + out)
    pose, merged_file = merged(read_net(path), tmp_path)
    crops = crops_of(SIZE)
    engine = OnnxEngine(merged_file, threads=1)
    order = [2, 1, 0] if colour == "BGR" else [0, 1, 2]
    mean = crops[..., order].mean((1, 2))
    expected = ((mean - [10, 20, 30]) / [2, 4, 8])[:, :2]
    for index in range(len(crops)):
        got = engine.infer(crops[index : index + 1]).keypoints[0, :, :2]
        np.testing.assert_allclose(got, np.tile(expected[index], (14, 1)), atol=1e-3)
    check_foreign(merged_file, pose, engine, crops)


def test_an_old_opset_is_converted(tmp_path: Path) -> None:
    path = write_net(tmp_path / "net", graph=heatmap_net(64, opset=8))
    text = path.read_text().replace('"maps"', '"heat"\nlayout = "NHWC"')
    path.write_text(text)
    pose, merged_file = merged(read_net(path), tmp_path)
    assert pose.converted
    assert not pose.one_by_one
    engine = OnnxEngine(merged_file, threads=1)
    check_foreign(merged_file, pose, engine, crops_of((64, 64)))
    bad = tampered(merged_file, tmp_path / "bad.onnx", "net/w4", 1.01)
    with pytest.raises(ParityError, match=r"of its range .*; expected at most 0.0001"):
        check_foreign(bad, pose, engine, crops_of((64, 64)))


def fixed_net() -> onnx.ModelProto:
    """One image and no more: nodes give the shapes in which that is written."""
    whole = net_model("simcc", SIZE, batch=1)
    for name in ("x/shape", "y/shape"):
        (shape,) = [each for each in whole.graph.initializer if each.name == name]
        rows = np.array([1, *numpy_helper.to_array(shape)[1:]], np.int64)
        whole.graph.initializer.remove(shape)
        constant = node("Constant", "", name, value=numpy_helper.from_array(rows))
        whole.graph.node.insert(0, constant)
    return whole


def test_a_net_that_takes_one_image(validation: PoseSet, tmp_path: Path) -> None:
    attached(tmp_path / "run", write_net(tmp_path / "net", "simcc", SIZE, graph=fixed_net()))
    bundle = export_bundle(tmp_path / "run", validation, tmp_path / "bundle", CONFIG, CPU)
    assert bundle.manifest.max_batch == 1
    shape = ort.InferenceSession(bundle.model).get_inputs()[0].shape
    assert shape == [1, *SIZE, 3]
    sample = people(6, 8)[0]
    assert sample.region is not None
    answer = Estimator.load(bundle.path, threads=1).infer(sample.image, [sample.region] * 3)
    assert len(answer.persons) == 3
