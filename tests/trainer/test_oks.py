"""Average precision against OKS by hand: one person, two persons, neighbours, joints left out."""

import io
import math
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from misgiving.trainer.measures.oks import AveragePrecision, average_precision
from shared.training import real_data

Floats = NDArray[np.float64]
NAN = math.nan
AREA, SIGMA = 1000.0, 0.1
TRUE = np.array([[100.0, 100.0], [120.0, 100.0], [100.0, 160.0]])


def off(similarity: float) -> float:
    """How many px a joint is off whose similarity exp(−d² / (2 (2σ)² area)) this is."""
    return math.sqrt(-math.log(similarity) * 2 * (2 * SIGMA) ** 2 * AREA)


def measured(
    predicted: list[Floats],
    true: list[Floats] | None = None,
    images: str = "abcdef",
    labelled: list[bool] | None = None,
    sigmas: list[float] | None = None,
    area: list[float] | None = None,
    score: list[float] | None = None,
) -> AveragePrecision:
    count = len(predicted)
    return average_precision(
        np.array(predicted).reshape(-1, 3, 2),
        np.array(true or [TRUE] * count).reshape(-1, 3, 2),
        np.array([labelled or [True] * 3] * count).reshape(-1, 3),
        np.array(area or [AREA] * count, float),
        np.array(sigmas or [SIGMA] * 3),
        list(images[:count]),
        {"score": np.array(score or [0.5] * count, float)},
    )


def numbers(precision: AveragePrecision) -> list[float]:
    # pycocotools adds the smallest float to its divisors, so that 1 is not quite 1.
    return [round(estimate.value, 9) for estimate in precision.by_score["score"].values()]


def moved(*similarities: float) -> Floats:
    """A prediction whose joints have these similarities."""
    return TRUE + np.array([[off(s), 0.0] for s in similarities])


@pytest.mark.parametrize(
    ("similarities", "expected"),
    [
        # AP, AP50, AP75, AR over the thresholds .50, .55, … .95
        ((1, 1, 1), [1, 1, 1, 1]),
        ((0.72, 0.72, 0.72), [0.5, 1, 0, 0.5]),  # passes .50 to .70
        ((1, 1, 0.28), [0.6, 1, 1, 0.6]),  # the mean .76 passes .50 to .75
        ((0.4, 0.5, 0.5), [0, 0, 0, 0]),
    ],
)
def test_one_person(similarities: tuple[float, ...], expected: list[float]) -> None:
    assert numbers(measured([moved(*similarities)])) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        # 51 of the 101 recalls, 0 to .50, are reached, at precision 1 if the good one comes first
        ([0.9, 0.1], 51 / 101),
        ([0.1, 0.9], 51 / 101 / 2),
    ],
)
def test_the_ranking_makes_the_precision(score: list[float], expected: float) -> None:
    ap, ap50, ap75, ar = numbers(measured([TRUE, TRUE + 500], score=score))
    assert [ap, ap50, ap75] == pytest.approx([expected] * 3)
    assert ar == 0.5  # the order does not matter to it


def test_joints_that_do_not_count() -> None:
    bad_last = moved(1, 1, 1e-9)
    assert numbers(measured([bad_last]))[0] == pytest.approx(0.4)  # two thirds
    assert numbers(measured([bad_last], labelled=[True, True, False]))[0] == 1
    assert numbers(measured([bad_last], sigmas=[SIGMA, SIGMA, NAN]))[0] == 1


def test_persons_that_cannot_be_measured_are_left_out() -> None:
    precision = measured([TRUE, TRUE + 500, TRUE + 500], area=[AREA, NAN, 0.0])
    assert (precision.persons, precision.images) == (1, 1)
    assert numbers(precision)[0] == 1


@pytest.mark.parametrize("sigmas", [[NAN] * 3, None])
def test_nobody(sigmas: list[float] | None) -> None:
    precision = measured([TRUE] * 2 if sigmas else [], sigmas=sigmas)
    assert precision.persons == 0
    assert all(math.isnan(number) for number in numbers(precision))


def test_a_prediction_may_be_the_neighbour_s() -> None:
    """As COCO counts: within an image, the nearest label that is free."""
    there = TRUE + 300
    swapped = {"predicted": [there, TRUE], "true": [TRUE, there]}
    assert numbers(measured(**swapped, images="aa"))[0] == 1
    assert numbers(measured(**swapped, images="ab"))[0] == 0


def test_intervals_are_over_images() -> None:
    good_and_bad = [TRUE, TRUE + 500] * 3
    ap = measured(good_and_bad, images="abcdef").by_score["score"]["ap"]
    low, high = ap.interval
    assert 0 <= low < ap.value < high <= 1
    alone = measured(good_and_bad, images="aaaaaa").by_score["score"]["ap"]
    assert math.isnan(alone.interval[0])


def as_a_result_file(path: Path, predicted: Floats, score: Floats, ignored: bool) -> list[float]:
    """COCO's usual way for every person with a labelled joint: AP, AP50, AP75, AR.

    ``ignored``: keep the crowds and the persons without a labelled joint, as COCO does.
    """
    with redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
        if not ignored:
            coco.dataset["annotations"] = measurable(coco)
            coco.createIndex()
        joints = np.concatenate([predicted, np.ones((*predicted.shape[:2], 1))], -1)
        results = [
            {
                "image_id": a["image_id"],
                "category_id": 1,
                "keypoints": j.ravel().tolist(),
                "score": s,
            }
            for a, j, s in zip(measurable(coco), joints, score, strict=True)
        ]
        evaluation = COCOeval(coco, coco.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(evaluation.stats[i]) for i in (0, 1, 2, 5)]


def measurable(coco: COCO) -> list[dict[str, Any]]:
    return [a for a in coco.dataset["annotations"] if a["num_keypoints"] and not a["iscrowd"]]


def test_as_pycocotools_reads_a_file() -> None:
    """Real annotations, moved at random and given back as predictions."""
    path = real_data("coco_ccby") / "person_keypoints.json"
    with redirect_stdout(io.StringIO()):
        people = measurable(COCO(str(path)))
    rng = np.random.default_rng(0)
    true = np.array([a["keypoints"] for a in people], float).reshape(-1, 17, 3)
    area = np.array([a["area"] for a in people])
    spread = rng.uniform(0, 0.15, len(people)) * np.sqrt(area)
    predicted = true[..., :2] + rng.normal(0, spread[:, None, None], (len(people), 17, 2))
    score = rng.random(len(people))
    got = average_precision(
        predicted,
        true[..., :2],
        true[..., 2] > 0,
        area,
        Params("keypoints").kpt_oks_sigmas,
        [str(a["image_id"]) for a in people],
        {"score": score},
    )
    assert got.persons == len(people) == 31
    assert numbers(got) == pytest.approx(as_a_result_file(path, predicted, score, ignored=False))
    # COCO pardons what lies in a region that it ignores: its own numbers are never lower.
    as_coco = as_a_result_file(path, predicted, score, ignored=True)
    assert as_coco[0] > numbers(got)[0]
    assert as_coco[3] == pytest.approx(numbers(got)[3])


def test_pycocotools_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    measured([TRUE])
    assert capsys.readouterr() == ("", "")
