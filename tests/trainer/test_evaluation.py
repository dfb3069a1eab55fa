"""A bundle measured on labelled data: what is computed, said, written and refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.manifest import FailureDefinition
from misgiving.runtime.errors import BundleError, MisgivingError
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Region
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.cli import app
from misgiving.trainer.data import PoseSet, Sample
from misgiving.trainer.evaluation import output as module
from misgiving.trainer.evaluation.bundle import Evaluation, evaluate
from misgiving.trainer.evaluation.output import lines, record
from misgiving.trainer.measures import metrics
from misgiving.trainer.measures.oks import average_precision
from misgiving.trainer.report import NUMBERS
from shared.training import people, pose_set, real_data

NAN = math.nan
COUNT = 30


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator.load(threads=1)


def with_areas(data: PoseSet) -> PoseSet:
    """The persons with an area each, but the last; two share an image."""
    samples = [data[i] for i in range(len(data))]
    shared = [replace(s, area=4000.0, path=Path(f"{i // 2}")) for i, s in enumerate(samples)]
    return pose_set([*shared[:-1], replace(samples[-1], area=None)], "synthetic:4,30")


@pytest.fixture(scope="module")
def evaluation(estimator: Estimator) -> Evaluation:
    return evaluate(estimator, with_areas(people(4, COUNT, high=1.0)))


def test_the_numbers_are_those_of_the_answers(evaluation: Evaluation) -> None:
    persons, report = evaluation.persons, evaluation.failures
    assert persons.ids == evaluation.data.ids
    assert persons.images[:3] == ("0", "0", "1")
    assert persons.images[-1] == persons.ids[-1]  # without a path
    assert (report.persons, report.measured, report.images) == (COUNT, COUNT, 16)
    assert report.pck.value == metrics.pck(evaluation.found)
    failed = metrics.person_pck(evaluation.found) < 0.5
    assert 3 < report.failures == failed.sum() < COUNT - 3
    learned = report.row("predicted_loss").auroc.value
    assert learned == metrics.auroc(persons.predicted_loss, failed)
    # the manifest says that a high mean peak is safe, and high entropy is not
    assert report.row("-mean_peak").auroc.value == metrics.auroc(-persons.signals[:, 0], failed)
    assert report.row("entropy").auroc.value == metrics.auroc(persons.signals[:, 2], failed)


def test_the_best_free_score_is_compared(evaluation: Evaluation) -> None:
    free = evaluation.failures.rows[2:-1]
    assert [row.name for row in free] == [
        "-mean_peak",
        "-min_peak",
        "entropy",
        "multi_peak_entropy",
    ]
    assert evaluation.best_free is max(free, key=lambda row: row.auroc.value)


def test_average_precision_is_over_persons_with_an_area(evaluation: Evaluation) -> None:
    precision = evaluation.precision
    assert (precision.persons, precision.images) == (COUNT - 1, 15)
    by_confidence, by_learned = precision.by_score.values()
    assert by_confidence["ar"].value == by_learned["ar"].value
    assert by_confidence["ap"].value != by_learned["ap"].value
    assert 0 < by_learned["ap"].value < by_learned["ap50"].value < 1
    persons = evaluation.persons
    again = average_precision(
        persons.points,
        persons.true_points,
        persons.labelled,
        persons.area,
        LSP.oks_sigmas,
        persons.images,
        {"sure": persons.confidence.mean(1), "calm": -persons.predicted_loss},
    )
    assert again.by_score["sure"]["ap"].value == by_confidence["ap"].value
    assert again.by_score["calm"]["ap"].value == by_learned["ap"].value


def test_the_record_is_json_without_nan(evaluation: Evaluation) -> None:
    text = json.dumps(record(evaluation), allow_nan=False)
    read = json.loads(text)
    assert read["persons"] == read["failures"] + read["rest"] == COUNT
    assert read["bundle"]["digest"] == evaluation.bundle.digest
    assert read["scores"]["random"]["spearman"] == {"value": None, "low": None, "high": None}
    curve = read["scores"]["predicted_loss"]["risk_coverage"]
    assert [point["coverage"] for point in curve[::10]] == [0.05, 0.55]
    assert curve[-1]["failed"] == pytest.approx(read["failures"] / COUNT)
    learned, free = (
        read["scores"][name]["augrc"] for name in ("predicted_loss", read["best_free"])
    )
    assert read["difference"]["augrc"]["value"] == pytest.approx(learned["value"] - free["value"])
    assert read["average_precision"]["persons"] == COUNT - 1
    assert set(read["scores"]["predicted_loss"]) == {*NUMBERS, "risk_coverage"}
    assert read["scores"]["predicted_loss"]["kendall"]["low"] is None
    strict, loose = (read["accuracies"][f"PCK@{threshold}"] for threshold in (0.1, 0.5))
    assert strict["value"] < read["pck"]["value"] < loose["value"]
    assert (strict["persons"], strict["left_out"]) == (COUNT, 0)
    assert read["accuracies"]["PCKh@0.5"] == {
        "persons": 0,
        "left_out": COUNT,
        "value": None,
        "low": None,
        "high": None,
    }


def test_the_probability_is_measured(evaluation: Evaluation) -> None:
    fitted = evaluation.bundle.manifest.calibration.failure_probability
    assert fitted is not None
    said = fitted.of(evaluation.persons.predicted_loss)
    read = record(evaluation)["failure_probability"]
    assert sum(one["persons"] for one in read["bins"]) == read["persons"] == COUNT
    mean = sum(one["persons"] * one["probability"] for one in read["bins"]) / COUNT
    assert mean == pytest.approx(said.mean())
    assert read["failures"] == evaluation.failures.failures
    assert (read["measured_on"], read["fitted_to"]) == ("synthetic:4,30", 0)
    text = "\n".join(lines(evaluation))
    low, high = read["low"], read["high"]
    assert f"calibration error {read['value']:.3f} [{low:.3f} {high:.3f}] over 30 persons" in text
    assert f"{evaluation.reliability.bins[0].probability:.2f}→" in text
    assert "too good to be true" not in text


def test_data_that_fitted_the_probability(estimator: Estimator) -> None:
    """Two of the three persons; and a bundle without a probability says nothing of it."""
    known = estimator.bundle.manifest.calibration
    fitted = known.failure_probability.model_copy(update={"data": "synthetic:4,9#2-9"})
    of_these = known.model_copy(update={"failure_probability": fitted})
    evaluation = evaluate(with_manifest(estimator, calibration=of_these), people(4, 3))
    assert "too good to be true: 2 of these persons fitted" in "\n".join(lines(evaluation))
    without = known.model_copy(update={"failure_probability": None})
    evaluation = evaluate(with_manifest(estimator, calibration=without), people(4, 3))
    assert "failure_probability" not in "\n".join(lines(evaluation))
    assert record(evaluation)["failure_probability"] is None


def test_the_text_names_what_it_measured(evaluation: Evaluation) -> None:
    text = "\n".join(lines(evaluation))
    assert "data     synthetic:4,30\n" in text
    assert f"bundle   lite-lsp 0.1.0 fp32, digest {evaluation.bundle.digest[:12]}\n" in text
    assert "failure  PCK@0.2 (longer torso diagonal) of the person < 0.5\n" in text
    assert "AP by OKS over 29 persons in 15 images" in text
    assert "PCKh" not in text  # nobody has a head box, nor an upper neck
    assert "nan" not in text


def test_pckh_where_the_data_has_head_boxes(estimator: Estimator) -> None:
    samples = [people(4, 3)[i] for i in range(3)]
    box = Region(0, 0, 30, 40)
    heads = [replace(samples[0], head_box=box), samples[1], replace(samples[2], head_box=box)]
    evaluation = evaluate(estimator, pose_set(heads))
    assert evaluation.persons.head_diagonal.tolist() == pytest.approx([50, NAN, 50], nan_ok=True)
    off = np.linalg.norm(evaluation.persons.points - evaluation.persons.true_points, axis=-1)
    official = (off[[0, 2]] <= 0.5 * 0.6 * 50).mean()
    measured = evaluation.accuracies["PCKh@0.5"]
    assert (measured.persons, measured.left_out) == (2, 1)
    assert measured.rate.value == pytest.approx(official)
    text = "\n".join(lines(evaluation))
    assert f"PCKh@0.5 {official:.3f} [" in text
    assert "over 2 persons; 1 without head size" in text
    assert "PCKh@0.5 (authors' variant) " in text
    assert "by its joints" not in text  # LSP has no upper neck


def unlabelled(data: PoseSet, joint: int) -> PoseSet:
    """The persons without one joint."""

    def without(sample: Sample) -> Sample:
        return replace(sample, labelled=np.arange(len(sample.labelled)) != joint)

    return pose_set([without(data[i]) for i in range(len(data))])


@pytest.mark.parametrize(
    ("data", "measured"),
    [
        (people(4, 1), 1),
        (unlabelled(people(4, 3), 8), 0),  # nobody has a torso
    ],
)
def test_degenerate_data(estimator: Estimator, data: PoseSet, measured: int) -> None:
    evaluation = evaluate(estimator, data)
    assert evaluation.failures.measured == measured
    assert evaluation.best_free is None
    text = "\n".join(lines(evaluation))
    assert "AP by OKS: –, no person has an area" in text
    assert "nan" not in text
    read = record(evaluation)
    assert read["best_free"] is read["difference"] is read["average_precision"] is None
    json.dumps(read, allow_nan=False)


def with_manifest(estimator: Estimator, **changed: object) -> Estimator:
    bundle = estimator.bundle
    manifest = bundle.manifest.model_copy(update=changed)
    return Estimator(Bundle(bundle.path, manifest, bundle.digest), estimator.engine)


def test_the_manifest_says_what_a_failure_is(estimator: Estimator) -> None:
    strict = FailureDefinition(metric="PCK@0.2", normaliser="longer torso diagonal", below=1.1)
    everybody = evaluate(with_manifest(estimator, failure=strict), people(4, 3))
    assert everybody.failures.failures == 3
    other = FailureDefinition(metric="OKS", normaliser="area", below=0.5)
    with pytest.raises(BundleError, match=r"by OKS; expected PCK@0.2. Evaluate it with"):
        evaluate(with_manifest(estimator, failure=other), people(4, 1))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)])


def test_the_command(tmp_path: Path) -> None:
    out, pictures = tmp_path / "numbers.json", tmp_path / "pictures"
    result = invoke("--data", "synthetic:4,9", "--json", out, "--pictures", pictures)
    assert result.exit_code == 0, result.output
    read = json.loads(out.read_text(encoding="utf-8"))
    assert f"PCK@0.2 {read['pck']['value']:.3f} [" in result.stdout
    assert math.isfinite(read["scores"]["predicted_loss"]["aurc"]["value"])
    assert len(list(pictures.glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "synthetic:4,2", "--json", "{tmp}/no/x.json"), "expected --json FILE in a"),
        (("--data", "synthetic:4,2", "--json", "{tmp}"), "expected --json FILE in a"),
        (("--data", "synthetic:4,2", "--pictures", "{tmp}"), "is there already"),
        (("--data", "synthetic:4,2", "--bundle", "{tmp}"), "is no bundle"),
        (("--data", "synthetic:4,2", "--device", "tpu"), "expected one of cpu"),
        (("--data", "lsp:{tmp}/nowhere"), "expected the folder of the data set"),
    ],
)
def test_what_a_user_can_mend(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept").touch()
    monkeypatch.setattr(module, "evaluate", lambda *_: pytest.fail("asked before it was refused"))
    result = invoke(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert isinstance(result.exception, MisgivingError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)


def test_other_keypoints_are_mapped_by_name() -> None:
    """The shipped bundle knows 14 joints, COCO labels 17; they share 12, and COCO gives areas."""
    folder = real_data("coco_ccby")
    result = invoke("--data", f"coco:{folder / 'person_keypoints.json'}@{folder / 'images'}")
    assert result.exit_code == 0, result.output
    assert "as lsp14: left out nose, left_eye, right_eye, left_ear, right_ear; " in result.stderr
    assert "AP by OKS over 31 persons in " in result.stdout
