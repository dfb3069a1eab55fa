"""The whole export: everything a runtime needs is in the bundle, or there is no bundle."""

import shutil
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from misgiving.export import bundling, parity
from misgiving.export.bundling import SAMPLE_COUNT, export_bundle
from misgiving.export.calibrating import Targets
from misgiving.export.config import ExportConfig
from misgiving.export.promises import allowed
from misgiving.runtime.bundles.bundle import Bundle, sha256_file
from misgiving.runtime.engines.base import REQUIRED
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.engines.self_check import self_check
from misgiving.runtime.errors import BundleError, DataError, InvalidInput, ParityError
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.keypoints import LSP, KeypointSet
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.config import to_dict
from misgiving.trainer.data import PoseSet, Sample, open_data
from misgiving.trainer.data.crops import evaluation_crop
from misgiving.trainer.evaluation.bundle import evaluate
from misgiving.trainer.heatmaps import SIGNALS
from shared.training import CPU, JOINTS, TINY, TINY_MODEL, TRAINING_SPEC, people

CONFIG = ExportConfig(name="tiny", version="1.2.3")


def test_it_loads_and_checks_itself(bundle: Bundle) -> None:
    loaded = Bundle.load(bundle.path)
    assert loaded.digest == bundle.digest
    self_check(loaded, OnnxEngine(loaded.model))


def test_digests(bundle: Bundle) -> None:
    files = bundle.manifest.files
    assert set(files) == {"model.onnx", "samples.npz"}
    assert {name: sha256_file(bundle.path / name) for name in files} == files
    assert {p.name for p in bundle.path.iterdir()} == {*files, "manifest.json"}
    assert [p.name for p in bundle.path.parent.iterdir()] == ["bundle"]


def test_an_altered_bundle_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    content = bytearray((copy / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.onnx").write_bytes(bytes(content))
    with pytest.raises(BundleError, match=r"model.onnx has sha256"):
        Bundle.load(copy)


def test_what_the_manifest_says_of_the_model(bundle: Bundle, checkpoint: Path) -> None:
    said = bundle.manifest
    assert (said.schema_version, said.name, said.version) == (3, "tiny", "1.2.3")
    assert (said.max_batch, said.provenance.foreign) == (1024, None)
    assert said.keypoints == LSP
    assert said.crop == TINY_MODEL.crop
    assert said.outputs == REQUIRED
    assert [signal.name for signal in said.signals] == list(SIGNALS)
    assert {signal.name: signal.higher_is for signal in said.signals} == {
        "mean_peak": "safer",
        "min_peak": "safer",
        "entropy": "riskier",
        "multi_peak_entropy": "riskier",
    }
    assert said.embedding_size == TINY_MODEL.net.channels
    assert str(said.failure) == "PCK@0.2 (longer torso diagonal) of the person < 0.5"
    assert said.weights_licence == "CC0-1.0"


def test_what_it_says_of_its_origin(bundle: Bundle, checkpoint: Path, validation: PoseSet) -> None:
    said, record = bundle.manifest.provenance, load_checkpoint(checkpoint)[2]
    assert said.recipe == "tiny"
    assert said.training_data == (TRAINING_SPEC,)
    assert said.label_count == 48
    assert said.validation_data == validation.spec
    assert said.commit == record.commit
    assert said.config == to_dict(TINY)
    created = datetime.fromisoformat(said.created)
    minutes = {f"{created - timedelta(minutes=back):%Y%m%d%H%M}" for back in (0, 1)}
    assert str(bundle.manifest.release) in minutes
    assert bundle.manifest.expires is None
    assert said.metrics["persons"] == 256
    assert 0 <= said.metrics["pck"] <= 1
    assert datetime.fromisoformat(said.created).utcoffset() is not None


def test_what_it_says_of_other_data(bundle: Bundle) -> None:
    """All of them fail, so that no score can tell; a bundle that can is in test_default_bundle."""
    data = people(4, 40, 0.0, 1.0)
    failures = evaluate(Estimator.load(bundle.path), data).failures
    said = {"persons": 40, "failures": 40, "pck": failures.pck.value, "augrc": 0.5}
    assert bundle.manifest.provenance.reports == {data.spec: pytest.approx(said)}


def test_reports_are_of_unseen_persons(
    checkpoint: Path, validation: PoseSet, tmp_path: Path
) -> None:
    config = ExportConfig(name="again", version="2")
    for data, message in (
        (open_data(f"{validation.spec}#9-20"), r"share 12 person\(s\), .*Give ranges"),
        (open_data(TRAINING_SPEC), r"48 person\(s\) of the training data, .*trained nothing"),
    ):
        with pytest.raises(DataError, match=message):
            export_bundle(checkpoint, validation, tmp_path / "bundle", config, CPU, [data])
    assert list(tmp_path.iterdir()) == []


def test_what_it_says_of_parity(bundle: Bundle, validation: PoseSet) -> None:
    assert bundle.manifest.precisions == {}
    said = bundle.manifest.parity
    assert (said.n, said.data) == (256, validation.spec)
    assert 0 <= said.keypoint_drift_px_p999 <= parity.KEYPOINT_PX
    assert 0 <= said.end_to_end_keypoint_px_p999 <= parity.KEYPOINT_PX
    assert 0 < said.predicted_loss_drift <= parity.LOSS_DRIFT
    assert 0 < said.end_to_end_predicted_loss_drift <= parity.LOSS_DRIFT
    assert said.predicted_loss_spearman >= parity.LOSS_SPEARMAN


def predicted(bundle: Bundle, data: PoseSet) -> np.ndarray:
    crops = [evaluation_crop(data[i], bundle.manifest.crop)[0] for i in range(len(data))]
    return OnnxEngine(bundle.model).infer(np.stack(crops)).predicted_loss


def test_the_threshold_flags_the_asked_share(bundle: Bundle, validation: PoseSet) -> None:
    (threshold,) = bundle.manifest.calibration.thresholds
    assert (threshold.target, threshold.target_value) == ("flag_rate", 0.1)
    assert (threshold.n, threshold.data) == (256, validation.spec)
    flagged = predicted(bundle, validation) >= threshold.predicted_loss
    assert flagged.sum() == threshold.beyond
    # of 256 at most 19: P(Binomial(256, 0.1) ≤ 19) is 0.098, that of 20 is 0.144
    assert threshold.beyond == 19


def test_samples(bundle: Bundle) -> None:
    with np.load(bundle.path / "samples.npz") as archive:
        samples = dict(archive)
    assert set(samples) == {"image", *REQUIRED}
    assert samples["image"].shape == (SAMPLE_COUNT, 32, 32, 3)
    assert samples["image"].dtype == np.uint8
    assert samples["keypoints"].shape == (SAMPLE_COUNT, JOINTS, 3)
    got = OnnxEngine(bundle.model).infer(samples["image"])
    np.testing.assert_allclose(got.predicted_loss, samples["predicted_loss"], atol=1e-5)
    assert len({image.tobytes() for image in samples["image"]}) == SAMPLE_COUNT


class FromBundle:
    """Stands for write_onnx: copies an exported model, spoiled where asked."""

    def __init__(self, bundle: Bundle, spoiled: str | None = None) -> None:
        self._model, self._spoiled = bundle.model, spoiled

    def __call__(self, graph: object, path: Path, essentials: object) -> None:
        model = onnx.load(self._model)
        for tensor in model.graph.initializer:
            if self._spoiled and tensor.name.endswith(self._spoiled):
                values = numpy_helper.to_array(tensor) * np.float32(1.05)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        onnx.save(model, path)


def exported(checkpoint: Path, validation: PoseSet, out: Path, **changes: Any) -> Bundle:
    config = ExportConfig(**{"name": "again", "version": "2", **changes})
    return export_bundle(checkpoint, validation, out, config, CPU)


@pytest.mark.parametrize("spoiled", ["pose.stem.0.weight", "head.collapse.0.weight"])
def test_nothing_is_left_when_the_graph_is_wrong(
    spoiled: str,
    bundle: Bundle,
    checkpoint: Path,
    validation: PoseSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundling, "write_onnx", FromBundle(bundle, spoiled))
    with pytest.raises(ParityError, match=r"graph parity failed"):
        exported(checkpoint, validation, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_the_way_is_wrong(
    bundle: Bundle,
    checkpoint: Path,
    validation: PoseSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The graph is right, but the runtime is sent another box than the trainer cut."""
    honest = parity.frame_of

    def shifted(sample: Any) -> Any:
        frame = honest(sample)
        (region,) = frame.regions
        return replace(frame, regions=(replace(region, x=region.x + 4),))

    monkeypatch.setattr(bundling, "write_onnx", FromBundle(bundle))
    monkeypatch.setattr(parity, "frame_of", shifted)
    with pytest.raises(ParityError, match=r"end-to-end parity failed"):
        exported(checkpoint, validation, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_person_is_read_for_the_trainer_once(
    checkpoint: Path,
    validation: PoseSet,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And once more as the file that a vehicle sends."""
    monkeypatch.setattr(bundling, "write_onnx", FromBundle(bundle))
    asked: list[int] = []

    def read(index: int) -> Sample:
        asked.append(index)
        return validation.read(index)

    exported(checkpoint, replace(validation, read=read), tmp_path / "out")
    assert sorted(asked) == sorted([*range(256), *range(256)])


@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_other_rates(
    rate: float,
    bundle: Bundle,
    checkpoint: Path,
    validation: PoseSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the caller's thread count holds all through."""
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(bundling, "write_onnx", FromBundle(bundle))
    targets = Targets(flag_rates=(rate,))
    fields = {"release": 7, "expires": date(2999, 12, 31)}
    again = exported(checkpoint, validation, tmp_path / "bundle", targets=targets, **fields)
    assert {name: getattr(again.manifest, name) for name in fields} == fields
    assert Bundle.load(again.path) == again
    flagged = (predicted(again, validation) >= again.threshold(f"flag_rate={rate:g}")).mean()
    assert flagged == allowed(256, rate, 0.9) / 256
    assert set(threads) == {1}


def test_out_is_there(checkpoint: Path, validation: PoseSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(DataError, match=r"is there already; nothing is overwritten"):
            exported(checkpoint, validation, out)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def no_export(*arguments: object) -> None:
    raise AssertionError("exported before the request was checked")


TOES = KeypointSet(name="toes", names=("left_toe", "right_toe"), skeleton=(), torso=())


def test_requests_that_cannot_be_met(
    checkpoint: Path, validation: PoseSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundling, "write_onnx", no_export)
    few = people(2, 8)
    toes = PoseSet("toes:here", TOES, validation.ids, validation.read)
    cases: list[tuple[Path, PoseSet, dict[str, Any], type, str]] = [
        # one too few for the gates
        (checkpoint, few, {}, DataError, r"has 8 persons; parity needs at least 256"),
        # other joints
        (checkpoint, toes, {}, DataError, r"toes:here has the keypoints of toes"),
        # no checkpoint
        (tmp_path / "no", validation, {}, DataError, r"no is no checkpoint"),
        # too few frames for a promise
        (
            checkpoint,
            validation,
            {"targets": Targets(flag_rates=(0.005,))},
            DataError,
            r"flag rate of at most 0.5 % with 90 % confidence needs 460 independent frames",
        ),
        # persons who trained the network
        (
            checkpoint,
            people(1, 300, 0.0, 1.0),
            {},
            DataError,
            r"holds 48 person\(s\) of the training data, synthetic/1/00000 for one",
        ),
        # no such head
        (checkpoint, validation, {"head": "gap-kl"}, InvalidInput, r"head is 'gap-kl'; this"),
    ]
    for source, data, changes, error, message in cases:
        with pytest.raises(error, match=message) as raised:
            exported(source, data, tmp_path / "bundle", **changes)
        assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"release": -1}, "release is -1; expected 0 to below 2"),
        ({"release": 1 << 63}, "expected 0 to below 2"),
        ({"expires": date(2026, 1, 1)}, "expiry 2026-01-01 is past; expected today or later"),
    ],
)
def test_releases_that_cannot_be(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        ExportConfig(name="n", version="1", **fields)
