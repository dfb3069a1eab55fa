"""A bundle that is altered, incomplete or of another schema is refused with one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misgiving.runtime.bundles.bundle import Bundle, sha256_file
from misgiving.runtime.bundles.locate import BUNDLE_VARIABLE, find_bundle
from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.engines.loading import ModelOptions, load
from misgiving.runtime.engines.self_check import self_check
from misgiving.runtime.errors import BundleError, EngineError
from misgiving.runtime.estimator import Estimator
from shared.tiny import BUNDLE, engine


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_path_may_be_text() -> None:
    assert Bundle.load(str(BUNDLE)).digest == Bundle.load(BUNDLE).digest
    assert Estimator.load(str(BUNDLE), threads=1).bundle.path == BUNDLE


def test_a_sound_bundle() -> None:
    bundle = Bundle.load(BUNDLE)
    assert bundle.default_threshold == np.nextafter(np.float32(0.5), np.float32(1))  # likely
    assert len(bundle.digest) == 64
    self_check(bundle, engine())


def lower(folder: Path, *, graph: bool = True, **gate: object) -> Path:
    """Give a bundle a second graph, which is the first under the name of fp16, and its manifest
    the answers of a gate that measured 0.2 px and 0.1 standard deviations on the samples."""
    measured: dict[str, object] = {
        "n": 256,
        "data": "procedural",
        "measured_with": "somebody",
        "pck_change": 0.0,
        "keypoint_drift_px_p99": 0.1,
        "predicted_loss_spearman": 1.0,
        "flag_agreement": 1.0,
        "auroc_change": None,
    }
    said = {
        "gate": measured | gate,
        "samples": {"keypoint_px": 0.2, "predicted_loss": 0.1},
        "calibration": None,
        "kept_fp32": [],
    }
    edit(folder, lambda m: m["precisions"].update(fp16=said))
    if graph:
        shutil.copyfile(folder / "model.onnx", folder / "model.fp16.onnx")
        digest = sha256_file(folder / "model.fp16.onnx")
        edit(folder, lambda m: m["files"].update({"model.fp16.onnx": digest}))
    return folder


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "an altered graph": (lambda p: flip_a_byte(p / "model.onnx"), "was altered"),
    "altered samples": (lambda p: flip_a_byte(p / "samples.npz"), "was altered"),
    "a file too many": (lambda p: (p / "notes.txt").write_text("x"), "notes.txt"),
    "a file too many, below": (
        lambda p: ((p / "sub").mkdir(), (p / "sub" / "x").write_text("x")),
        "does not list",
    ),
    "a file missing": (lambda p: (p / "model.onnx").unlink(), "lacks model.onnx"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "is no bundle"),
    "an empty manifest": (lambda p: (p / "manifest.json").write_text(""), "not a JSON object"),
    "lists in lists": (
        lambda p: (p / "manifest.json").write_text("[" * 100_000),
        "not a JSON object",
    ),
    "a manifest without end": (
        lambda p: (p / "manifest.json").write_bytes(b" " * (5 << 20)),
        "no plain file of at most 4,194,304 bytes",
    ),
    "a list": (lambda p: (p / "manifest.json").write_text("[]"), "not a JSON object"),
    "another schema": (lambda p: edit(p, lambda m: m.update(schema_version=1)), "expected 3"),
    "no schema": (lambda p: edit(p, lambda m: m.pop("schema_version")), "schema_version None"),
    "a key missing": (lambda p: edit(p, lambda m: m.pop("crop")), "crop: Field required"),
    "a key missing, below": (lambda p: edit(p, lambda m: m["crop"].pop("padding")), "crop.padding"),
    "no largest batch": (lambda p: edit(p, lambda m: m.pop("max_batch")), "max_batch: Field req"),
    "batches of none": (lambda p: edit(p, lambda m: m.update(max_batch=0)), "max_batch: Input"),
    "not said whose": (
        lambda p: edit(p, lambda m: m["provenance"].pop("foreign")),
        "provenance.foreign: Field required",
    ),
    "a foreign file without its digest": (
        lambda p: edit(p, lambda m: m["provenance"].update(foreign={"file": "net.onnx"})),
        "provenance.foreign.sha256: Field required",
    ),
    "a key too many": (lambda p: edit(p, lambda m: m.update(mood="good")), "mood"),
    "no threshold": (
        lambda p: edit(p, lambda m: m["calibration"].update(thresholds=[])),
        "calibration.thresholds",
    ),
    "no precisions": (lambda p: edit(p, lambda m: m.pop("precisions")), "precisions: Field req"),
    "a precision without its graph": (lambda p: lower(p, graph=False), "lists no model.fp16.onnx"),
    "an unknown precision": (
        lambda p: edit(p, lambda m: m["precisions"].update(int4={})),
        "precisions.int4",
    ),
    "a gate without a number": (
        lambda p: lower(p, flag_agreement=None),
        "precisions.fp16.gate.flag_agreement",
    ),
    "a key missing in a gate": (
        lambda p: edit(lower(p), lambda m: m["precisions"]["fp16"]["gate"].pop("pck_change")),
        "precisions.fp16.gate.pck_change: Field required",
    ),
    "a graph that is not listed": (
        lambda p: (edit(p, lambda m: m["files"].pop("model.onnx")), (p / "model.onnx").unlink()),
        "lists no model.onnx",
    ),
    "a path that leaves the bundle": (
        lambda p: edit(p, lambda m: m["files"].update({"../x": "0"})),
        "lacks ../x",
    ),
}


def test_a_manifest_names_a_foreign_file(copy: Path) -> None:
    said = {
        "file": "net.onnx",
        "sha256": "0" * 64,
        "licence": "MIT",
        "family": "heatmaps",
        "opset": 11,
        "converted": True,
    }
    edit(copy, lambda m: m["provenance"].update(foreign=said))
    foreign = Bundle.load(copy).manifest.provenance.foreign
    assert foreign is not None
    assert foreign.model_dump() == said


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_bundle_is_refused_in_one_line(copy: Path, name: str) -> None:
    damage, said = DAMAGE[name]
    damage(copy)
    with pytest.raises(BundleError) as caught:
        Bundle.load(copy)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


class Twisted:
    """The tiny engine with one of its answers changed."""

    provider = "twisted"

    def __init__(self, field: str, by: float) -> None:
        self._field, self._by = field, by

    def infer(self, images: np.ndarray) -> Prediction:
        prediction = engine().infer(images)
        fields = {name: getattr(prediction, name) for name in Prediction.__slots__}
        return Prediction(**fields | {self._field: fields[self._field] + np.float32(self._by)})


@pytest.mark.parametrize(
    ("field", "by", "passes"),
    [
        ("keypoints", 0.01, True),  # another CPU's rounding
        ("keypoints", 0.5, False),  # half a pixel: another pixel-centre convention
        ("predicted_loss", 1e-3, True),
        ("predicted_loss", 0.1, False),
        ("predicted_loss", np.nan, False),
        ("keypoints", np.nan, False),
    ],
)
def test_self_check(field: str, by: float, passes: bool) -> None:
    bundle = Bundle.load(BUNDLE)
    if passes:
        self_check(bundle, Twisted(field, by))
        return
    with pytest.raises(BundleError, match="self-check failed"):
        self_check(bundle, Twisted(field, by))


@pytest.mark.parametrize(
    ("field", "by", "passes"),
    [
        ("keypoints", 0.3, True),  # 0.42 px of 0.1 + 2 x 0.2
        ("keypoints", 0.4, False),  # 0.57 px
        ("predicted_loss", 0.035, True),  # 0.22 of 0.05 + 2 x 0.1 standard deviations
        ("predicted_loss", 0.045, False),  # 0.28
        ("predicted_loss", np.nan, False),
    ],
)
def test_self_check_of_a_lower_precision(copy: Path, field: str, by: float, passes: bool) -> None:
    """It allows what the export measured twice more than fp32 may move."""
    bundle = Bundle.load(lower(copy)).in_precision("fp16")
    if passes:
        self_check(bundle, Twisted(field, by))
        return
    with pytest.raises(BundleError, match=r"at most 0\.5 px and 0\.25\. The engine"):
        self_check(bundle, Twisted(field, by))


def test_a_precision_is_taken(copy: Path) -> None:
    bundle, engine = load(ModelOptions(bundle=lower(copy), precision="fp16"))
    assert bundle.model == copy / "model.fp16.onnx"
    assert str(engine.provider) == "onnxruntime CPUExecutionProvider fp16"
    assert load(ModelOptions(bundle=copy))[1].provider.precision == "fp32"
    assert load(ModelOptions(bundle=copy))[0].model == copy / "model.onnx"


def test_an_engine_that_does_not_run_here() -> None:
    with pytest.raises(EngineError, match="expected one of cpu, cuda"):
        load(ModelOptions(bundle=BUNDLE, device="tpu"))
    with pytest.raises(EngineError, match="CUDAExecutionProvider was asked for"):
        load(ModelOptions(bundle=BUNDLE, device="cuda"))


def test_a_file_that_is_no_graph(copy: Path) -> None:
    from misgiving.runtime.engines.onnx import OnnxEngine

    (copy / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match="model.onnx cannot be loaded") as caught:
        OnnxEngine(copy / "model.onnx")
    assert "\n" not in str(caught.value)


def test_which_bundle_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("misgiving.runtime.bundles.locate.DEFAULT_BUNDLE", tmp_path / "default")
    monkeypatch.delenv(BUNDLE_VARIABLE, raising=False)
    with pytest.raises(BundleError, match="--bundle DIR or MISGIVING_BUNDLE=DIR"):
        find_bundle(None)
    (tmp_path / "default").mkdir()
    assert find_bundle(None) == tmp_path / "default"
    monkeypatch.setenv(BUNDLE_VARIABLE, "elsewhere")
    assert find_bundle(None) == Path("elsewhere")
    assert find_bundle(tmp_path) == tmp_path
