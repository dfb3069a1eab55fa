"""Average precision over object keypoint similarity (OKS), by COCO's own pycocotools.

Axes: N persons, K keypoints. One prediction a person, on the person's own box: what the
literature calls "with ground-truth boxes". As there, predictions are matched within their image,
and one that lies nearer to a neighbour's label counts for the neighbour. Unlike there, nothing is
ignored: COCO pardons a wrong prediction that lies on a crowd or on a person without labelled
joints, which data sets do not tell here, so that its AP is a little higher. AR is the same.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from misgiving.trainer.measures.bootstrap import Estimate, draw_images

Floats = NDArray[np.floating]

RESAMPLES = 200
"""Of the images; pycocotools takes some 10 ms for 1,000 persons, each time."""
NUMBERS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ar": "AR"}


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """Of some persons, for each score that ranked their predictions; see :func:`evaluate`."""

    persons: int
    """With an area and a labelled joint that OKS knows; the others are left out."""
    images: int
    by_score: dict[str, dict[str, Estimate]]
    """Score → one of NUMBERS → the number. Which score ranks changes AP, but not AR."""


def average_precision(
    predicted: Floats,
    true: Floats,
    labelled: NDArray[np.bool_],
    area: Floats,
    sigmas: Floats,
    images: Sequence[str],
    scores: Mapping[str, Floats],
) -> AveragePrecision:
    """Average precision and recall at OKS .50 to .95, ranked by each score.

    Args:
        predicted: (N, K, 2), image px.
        true: (N, K, 2).
        labelled: (N, K).
        area: (N,), px²; NaN where a person has none.
        sigmas: (K,), NaN for a joint that OKS leaves out.
        images: (N,), which image each person is in.
        scores: by name, (N,), higher is better.
    """
    known = np.isfinite(sigmas)
    kept: list[int] = np.flatnonzero((area > 0) & labelled[:, known].any(1)).tolist()
    flags = 2.0 * labelled[:, known, None]
    true_rows = np.concatenate([true[:, known], flags], -1)[kept]
    rows = np.concatenate([predicted[:, known], flags], -1)[kept]
    names = sorted({images[i] for i in kept})
    numbers = {name: number for number, name in enumerate(names)}
    image = [numbers[images[i]] for i in kept]
    truth = _annotations(true_rows, image, area[kept], np.zeros(len(kept)))
    by_score = {
        name: _estimates(truth, _annotations(rows, image, area[kept], score[kept]), sigmas[known])
        for name, score in scores.items()
    }
    return AveragePrecision(len(kept), len(names), by_score)


def _annotations(
    points: Floats, images: Sequence[int], area: Floats, score: Floats
) -> list[dict[str, Any]]:
    return [
        {
            "id": number + 1,  # COCOeval takes 0 for "no match"
            "image_id": images[number],
            "category_id": 1,
            "keypoints": points[number].ravel(),
            "num_keypoints": int((points[number, :, 2] > 0).sum()),
            "area": float(area[number]),
            "bbox": [0.0, 0.0, 0.0, 0.0],  # counts only where no joint is labelled
            "iscrowd": 0,
            "score": float(score[number]),
        }
        for number in range(len(points))
    ]


def _estimates(
    truth: list[dict[str, Any]], answers: list[dict[str, Any]], sigmas: Floats
) -> dict[str, Estimate]:
    images = sorted({answer["image_id"] for answer in answers})
    with redirect_stdout(io.StringIO()):  # pycocotools prints at every step
        evaluation = COCOeval(_coco(truth, images), _coco(answers, images), "keypoints")
        evaluation.params.kpt_oks_sigmas = sigmas
        evaluation.params.areaRng = evaluation.params.areaRng[:1]  # all
        evaluation.evaluate()
        one_by_one = evaluation.evalImgs
        numbers = [_numbers(evaluation)]
        for drawn in draw_images(len(images), RESAMPLES):
            evaluation.evalImgs = [one_by_one[i] for i in drawn]
            numbers.append(_numbers(evaluation))
    columns = np.array(numbers).T
    return {
        name: Estimate(float(values[0]), values[1:])
        for name, values in zip(NUMBERS, columns, strict=True)
    }


def _coco(annotations: list[dict[str, Any]], images: Sequence[int]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in images],
        "annotations": annotations,
        "categories": [{"id": 1}],
    }
    coco.createIndex()
    return coco


def _numbers(evaluation: COCOeval) -> list[float]:
    """AP, AP50, AP75 and AR; NaN for nobody."""
    if not evaluation.evalImgs:
        return [float("nan")] * len(NUMBERS)
    evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    return [float(part.mean()) for part in (precision, precision[0], precision[5], recall)]
