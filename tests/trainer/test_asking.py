"""What a bundle answers about a data set is what the runtime answers about the same persons."""

from pathlib import Path

import numpy as np
import pytest

from misgiving.runtime import images
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Region
from misgiving.trainer.answers.asking import Answers, ask
from misgiving.trainer.data import PoseSet, Sample
from misgiving.trainer.data.synthetic import open_synthetic


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator.load(threads=1)


@pytest.fixture(scope="module")
def people() -> PoseSet:
    return open_synthetic(3, 7)


@pytest.mark.parametrize("batch", [1, 3, 7, 64])
def test_as_the_runtime_answers(estimator: Estimator, people: PoseSet, batch: int) -> None:
    samples = [people[i] for i in range(len(people))]
    parts = list(ask(estimator, samples, batch))
    assert [len(part) for part in parts] == [batch] * (7 // batch) + [7 % batch] * (7 % batch > 0)
    assert tuple(name for part in parts for name in part.ids) == people.ids
    rows = [(part, i) for part in parts for i in range(len(part))]
    for sample, (part, i) in zip(samples, rows, strict=True):
        assert sample.region is not None
        _same(part, i, estimator, sample.image, [sample.region])


def _same(
    part: Answers, i: int, estimator: Estimator, image: np.ndarray, regions: list[Region]
) -> None:
    """PNG keeps every pixel, so that only the batch differs."""
    (person,) = estimator.infer(images.encode_png(image), regions).persons
    np.testing.assert_allclose(part.points[i], person.keypoints[:, :2], atol=0.02)
    np.testing.assert_allclose(part.confidence[i], person.keypoints[:, 2], atol=1e-4)
    assert part.predicted_loss[i] == pytest.approx(person.predicted_loss, abs=1e-3)
    np.testing.assert_allclose(part.signals[i], person.signals, atol=1e-3)
    assert part.embedding[i].shape == (estimator.bundle.manifest.embedding_size,)


def test_without_a_label_the_whole_frame_is_asked_about(estimator: Estimator) -> None:
    labelled = open_synthetic(3, 1)[0]
    bare = Sample("bare", labelled.image, labelled.points, np.zeros_like(labelled.labelled))
    (part,) = ask(estimator, [bare])
    _same(part, 0, estimator, bare.image, [])


def test_a_data_set_s_own_box_is_taken(estimator: Estimator) -> None:
    person = open_synthetic(3, 1)[0]
    box = Region(10, 12, 60, 70)
    boxed = Sample("boxed", person.image, person.points, person.labelled, None, box)
    (part,) = ask(estimator, [boxed])
    _same(part, 0, estimator, person.image, [box])


def test_nobody(estimator: Estimator) -> None:
    assert list(ask(estimator, [])) == []


def test_estimator_takes_another_threshold(tmp_path: Path) -> None:
    image = images.encode_png(open_synthetic(3, 1)[0].image)
    for threshold, raised in ((-1e9, True), (1e9, False)):
        estimator = Estimator.load(threads=1, threshold=threshold)
        flag = estimator.infer(image).persons[0].flag
        assert flag.raised is raised
        assert flag.threshold == threshold
