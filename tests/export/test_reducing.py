"""Lower precisions of a trained net: made, gated, and refused where joints or scores are wrong."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from misgiving.export import bundling, gates, reducing
from misgiving.export.bundling import export_bundle
from misgiving.export.config import ExportConfig
from misgiving.export.gates import Reference
from misgiving.export.parity import in_batches
from misgiving.export.precision import Quantiser, layer_name
from misgiving.runtime.bundles.bundle import MODEL, Bundle
from misgiving.runtime.bundles.precisions import Gate
from misgiving.runtime.engines.loading import ModelOptions, load
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.engines.self_check import self_check
from misgiving.runtime.errors import BundleError, DataError, ParityError
from misgiving.runtime.keypoints import LSP
from misgiving.runtime.verbs import command
from misgiving.trainer.answers.scoring import score
from misgiving.trainer.checkpoint import Record, load_checkpoint
from misgiving.trainer.data import PoseSet
from misgiving.trainer.data.crops import evaluation_crop
from shared.training import CPU, people

ALL = ("fp16", "int8", "int8-trt")


@pytest.fixture(scope="module")
def whole(
    checkpoint: Path, validation: PoseSet, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """A bundle in every precision; read it, never write into it."""
    out = tmp_path_factory.mktemp("whole") / "bundle"
    config = ExportConfig(name="tiny", version="1", precisions=ALL)
    return export_bundle(checkpoint, validation, out, config, CPU)


def test_what_the_manifest_says(whole: Bundle, validation: PoseSet) -> None:
    said = Bundle.load(whole.path).manifest  # round trip
    assert said == whole.manifest
    assert tuple(said.precisions) == ALL
    assert set(said.files) == {
        "model.onnx", "model.fp16.onnx", "model.int8.onnx", "model.int8-trt.onnx", "samples.npz"
    }  # fmt: skip
    for name, one in said.precisions.items():
        assert (one.gate.n, one.gate.data) == (256, validation.spec)
        assert one.gate.measured_with == f"onnxruntime CPUExecutionProvider {name}"
        assert one.gate.predicted_loss_spearman >= gates.LIMITS[name].spearman
        assert one.gate.pck_change >= -gates.LIMITS[name].pck_drop
        assert one.gate.flag_agreement >= gates.LIMITS[name].agreement
    assert said.precisions["fp16"].calibration is None
    for name in ("int8", "int8-trt"):
        calibration = said.precisions[name].calibration
        assert calibration is not None
        assert (calibration.data, calibration.n) == ("synthetic:1,48,0-0.5", 48)


def test_the_table(whole: Bundle) -> None:
    head, *rows = gates.lines(whole)
    assert head.split()[0] == "precision"
    assert [row.split()[0] for row in rows] == ["fp32", *ALL]
    kept = whole.manifest.precisions["int8-trt"].kept_fp32
    assert rows[-1].endswith(", ".join(kept) or "–")


def test_the_command(
    whole: Bundle,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each precision once, in the order asked for; then the table."""
    asked: list[ExportConfig] = []

    def exported(*arguments: object) -> Bundle:
        asked.extend(one for one in arguments if isinstance(one, ExportConfig))
        return whole

    monkeypatch.setattr("misgiving.export.export_bundle", exported)
    words = ["export", str(checkpoint), "--out", str(tmp_path / "new"), "--val", "synthetic:3,256"]
    for name in ("int8", "fp16", "int8"):
        words += ["--precision", name]
    assert command.run(words) == 0
    assert [config.precisions for config in asked] == [("int8", "fp16")]
    assert "\n".join(gates.lines(whole)) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["fp32", *ALL])
def test_each_loads_and_checks_itself(whole: Bundle, name: str) -> None:
    bundle, engine = load(ModelOptions(bundle=whole.path, threads=1, precision=name))
    assert bundle.precision == name
    assert str(engine.provider) == f"onnxruntime CPUExecutionProvider {name}"


def test_the_self_check_knows_another_network(whole: Bundle, tmp_path: Path) -> None:
    """Its tolerance is that of rounding: a net with one layer altered is told."""
    model = onnx.load(whole.model)
    spoil(model, "head.collapse.0.weight", 1.5)
    onnx.save_model(model, tmp_path / "other.onnx")
    for name in ALL:
        with pytest.raises(BundleError, match="self-check failed"):
            self_check(whole.in_precision(name), OnnxEngine(tmp_path / "other.onnx"))


def test_a_precision_that_is_not_there(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"precision is 'int8'; .* has fp32\. Take one of these"):
        load(ModelOptions(bundle=bundle.path, precision="int8"))


def spoil(model: onnx.ModelProto, ending: str, factor: float) -> None:
    (tensor,) = (t for t in model.graph.initializer if t.name.endswith(ending))
    values = numpy_helper.to_array(tensor) * np.float32(factor)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


@pytest.fixture(scope="module")
def reference(bundle: Bundle, checkpoint: Path, validation: PoseSet) -> Reference:
    network, recipe, _ = load_checkpoint(checkpoint)
    cut = [evaluation_crop(validation[i], recipe.model.crop) for i in range(len(validation))]
    crops = np.stack([crop for crop, _ in cut])
    return Reference(
        answers=in_batches(OnnxEngine(bundle.model), crops, 16),
        crops=crops,
        windows=tuple(window for _, window in cut),
        rule=recipe.model.crop,
        truth=score(network, recipe, validation, torch.device("cpu")),
        data=validation.spec,
        threshold=bundle.default_threshold,
    )


@pytest.fixture
def part(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.path, tmp_path / "part"))


def widen(path: Path) -> tuple[str, str]:
    """Make one channel between two convolutions a thousand times as large, so that the others
    vanish in int8; in fp32 the answers stay. Gives the names of the two layers."""
    model = onnx.load(path)
    nodes, weights = model.graph.node, {t.name: t for t in model.graph.initializer}

    def users(node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return [other for other in nodes if node.output[0] in other.input]

    first, second = next(
        (a, c)
        for a in nodes
        for b in users(a)
        for c in users(b)
        if (a.op_type, b.op_type, c.op_type) == ("Conv", "Relu", "Conv")
        and len(users(a)) == len(users(b)) == 1
    )
    channel: list[tuple[str, tuple[object, ...], float]] = [
        (first.input[1], (0,), 1000),
        (first.input[2], (0,), 1000),
        (second.input[1], (slice(None), 0), 1 / 1000),
    ]
    for name, place, factor in channel:
        values = numpy_helper.to_array(weights[name]).copy()
        values[place] *= factor
        weights[name].CopyFrom(numpy_helper.from_array(values, name))
    onnx.save_model(model, path)
    return layer_name(model, first.name), layer_name(model, second.name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int8", "int8-trt"])
def test_the_layer_that_breaks_int8_stays_in_fp32(
    name: str, part: Path, reference: Reference
) -> None:
    """int8 rounds the wide channel where it is made and where it is read, int8-trt where read."""
    made_in, read_in = widen(part / MODEL)
    made = reducing.reduce(part, [name], reference, people(1, 48))[name]
    assert read_in in made.kept_fp32
    assert (made_in in made.kept_fp32) == (name == "int8")
    assert len(made.kept_fp32) <= 4
    assert gates.misses(as_measured(made.gate), gates.LIMITS[name]) == []


def as_measured(gate: Gate) -> gates.Measured:
    return gates.Measured(
        gate.pck_change,
        gate.keypoint_drift_px_p99,
        gate.predicted_loss_spearman,
        gate.flag_agreement,
        gate.auroc_change or 0.0,
    )


@pytest.mark.slow
def test_the_worst_layer_comes_first(part: Path, reference: Reference, tmp_path: Path) -> None:
    _, read_in = widen(part / MODEL)
    model, crops = onnx.load(part / MODEL), reference.crops[:16]
    quantiser = Quantiser(model, "int8-trt", crops, tmp_path)
    for outputs in ({"keypoints"}, {"keypoints", "predicted_loss"}):
        worst = reducing.worst_first(quantiser, part / MODEL, crops, outputs)
        assert layer_name(model, worst[0]) == read_in
        assert sorted(worst) == sorted(quantiser.layers)


class Shuffled(Quantiser):
    """Right joints, and a score that says nothing: the head's last layer is turned round."""

    def quantise(self, target: Path, layers: object = None) -> None:
        model = onnx.ModelProto()
        model.CopyFrom(self._source)
        spoil(model, "head.regressor.10.weight", -1.0)
        onnx.save_model(model, target)


@pytest.mark.slow
def test_a_shuffled_score_is_a_failed_export(
    bundle: Bundle,
    checkpoint: Path,
    validation: PoseSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Not exported again: it is the same graph.
    monkeypatch.setattr(bundling, "write_onnx", lambda _, path, __: shutil.copy(bundle.model, path))
    monkeypatch.setattr(reducing, "Quantiser", Shuffled)
    config = ExportConfig(name="tiny", version="1", precisions=("int8",))
    said = r"int8 gate failed, with \d+ layers kept in fp32: Spearman of predicted_loss is -1\.0000"
    with pytest.raises(ParityError, match=said) as caught:
        export_bundle(checkpoint, validation, tmp_path / "bundle", config, CPU)
    assert "PCK" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_fp16_that_overflows_is_refused(part: Path, reference: Reference) -> None:
    model = onnx.load(part / MODEL)
    spoil(model, "pose.stem.0.weight", 1e7)
    onnx.save_model(model, part / MODEL)
    with pytest.raises(ParityError, match=r"fp16 gate failed: PCK|fp16 gate failed: Spearman"):
        reducing.reduce(part, ["fp16"], reference, None)


def record(*specs: str) -> Record:
    return Record(
        keypoints=LSP, training_data=specs, label_count=1, validation_data="", metrics={}, commit=""
    )


def test_whom_int8_is_calibrated_on() -> None:
    """A sample of all the training data, the same every time, and nobody whom the gate judges."""
    validation = people(5, 20)
    trained = record("synthetic:5,150,0-0.5", "synthetic:6,150 + synthetic:7,9", "synthetic:7,9")
    persons = reducing.calibration_persons(trained, validation)
    assert persons.spec == "synthetic:5,150,0-0.5 + synthetic:6,150,0-1 + synthetic:7,9,0-1"
    assert len(persons) == len(set(persons.ids)) == reducing.CALIBRATION_COUNT
    assert not set(persons.ids) & set(validation.ids)
    assert {name.split("/")[1] for name in persons.ids} >= {"5", "6"}
    assert persons.ids == reducing.calibration_persons(trained, validation).ids


def test_no_training_data_here(tmp_path: Path, validation: PoseSet) -> None:
    with pytest.raises(DataError, match=r"joints\.mat"):
        reducing.calibration_persons(record(f"lsp:{tmp_path}"), validation)


def test_nobody_left_to_calibrate_on(validation: PoseSet) -> None:
    with pytest.raises(DataError, match="nobody is left to calibrate int8 on"):
        reducing.calibration_persons(record(validation.spec), validation)


def test_unknown_precisions() -> None:
    for name in ("int4", "fp32", "FP16", ""):
        with pytest.raises(DataError, match=r"expected one of fp16, int8, int8-trt"):
            ExportConfig(name="x", version="1", precisions=(name,))
