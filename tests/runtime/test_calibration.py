"""What a manifest says of calibration, and how it is read."""

import json
import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.calibration import (
    Calibration,
    EmbeddingReference,
    FailureProbability,
    Histogram,
    Threshold,
)
from misgiving.runtime.errors import InvalidInput
from shared.tiny import BUNDLE

TINY = Bundle.load(BUNDLE).manifest.calibration


@pytest.mark.parametrize(
    ("score", "expected"),
    [(-9, 0), (0.0, 0), (0.25, 0.25), (1.0, 1), (9.0, 1), (math.inf, 1), (-math.inf, 0)],
)
def test_probabilities_lie_on_lines_between_the_knots(score: float, expected: float) -> None:
    assert TINY.probability(score) == expected


def test_of_many_at_once() -> None:
    fitted = TINY.failure_probability
    assert fitted is not None
    got = fitted.of(np.array([[0.5, math.nan], [2.0, 0.1]], np.float32))
    np.testing.assert_allclose(got, [[0.5, math.nan], [1.0, 0.1]], rtol=1e-6)


def changed(**fit: Any) -> str:
    content = json.loads(TINY.model_dump_json())
    content["failure_probability"] |= fit
    return json.dumps(content)


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        ({"predicted_loss": [], "probability": []}, "at least 1 item"),
        ({"predicted_loss": [0, 1, 2]}, "3 knots have 2 probabilities"),
        ({"predicted_loss": [1, 1]}, "knots must rise"),
        ({"probability": [0.5, 0.4]}, "never fall"),
        ({"probability": [0.5, 1.4]}, "between 0 and 1"),
        ({"probability": [0, math.nan]}, "finite number"),
    ],
)
def test_fits_that_are_none(fit: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Calibration.model_validate_json(changed(**fit))


@pytest.mark.parametrize(("edges", "shares"), [((1.0, 1.0), (0, 0, 1)), ((1.0,), (1.0,))])
def test_histograms_that_are_none(edges: tuple[float, ...], shares: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match=r"edges must rise"):
        Histogram(name="x", edges=edges, shares=shares)


def test_distances_of_nobody() -> None:
    known = EmbeddingReference(mean=(0, 0), deviation=(1, 1))
    assert known.distance(np.empty((0, 2))).shape == (0,)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "flags at most 10 % of the frames with 90 % confidence: 0 of 3 frames (1 failures) in "
            "procedural. Assumes that nothing changes",
        ),
        (
            {"target": "miss_rate", "target_value": 0.025, "n": 80, "effective_n": 80, "beyond": 2},
            "misses at most 2.5 % of the failures with 90 % confidence: 2 of 80 failures (0 "
            "persons undefined) in procedural. Assumes that nothing changes",
        ),
        (
            {"effective_n": 2},
            "flags at most 10 % of the frames with 90 % confidence: 0 of 3 frames (1 failures) in "
            "procedural, worth 2 independent ones. Assumes that nothing changes",
        ),
    ],
)
def test_a_promise_in_words(changes: dict[str, Any], said: str) -> None:
    assert str(TINY.thresholds[0].model_copy(update=changes)) == said


def test_a_threshold_says_all_that_it_rests_on() -> None:
    for name in Threshold.model_fields:
        content = json.loads(TINY.thresholds[0].model_dump_json())
        del content[name]
        with pytest.raises(ValidationError, match=name):
            Threshold.model_validate_json(json.dumps(content))


LIKELY_OF_TINY = float(np.nextafter(np.float32(0.5), np.float32(1)))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, LIKELY_OF_TINY),
        ("likely", LIKELY_OF_TINY),
        (2.5, 2.5),
        ("2.5", 2.5),
        ("inf", math.inf),
        ("flag_rate=0.1", 0.75),
        ("miss_rate=0.2", 0.5),
    ],
)
def test_which_threshold_is_meant(asked: float | str | None, expected: float) -> None:
    assert Bundle.load(BUNDLE).threshold(asked) == expected


@pytest.mark.parametrize("asked", ["miss_rate=0.1", "miss_rate", "", "high"])
def test_a_threshold_that_is_none(asked: str) -> None:
    with pytest.raises(
        InvalidInput, match=r"bright-spots's own: likely, flag_rate=0.1, miss_rate=0.2$"
    ):
        Bundle.load(BUNDLE).threshold(asked)


def fitted(knots: list[float], values: list[float]) -> FailureProbability:
    known = TINY.failure_probability
    assert known is not None
    changes = {"predicted_loss": tuple(knots), "probability": tuple(values)}
    return FailureProbability(**{**dict(known), **changes})


def test_whoever_fails_more_likely_than_not_is_flagged() -> None:
    """For every score that a graph can give near the threshold, of many fits."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        knots = np.unique(rng.normal(size=9).astype(np.float32)).astype(float)
        fit = fitted(list(knots), sorted(rng.uniform(0, 1, len(knots))))
        cut = np.float32(fit.likely)
        assert float(cut) == fit.likely
        scores = [*rng.normal(size=200).astype(np.float32)]
        for end in (-np.inf, np.inf):
            near = cut
            for _ in range(20 if np.isfinite(cut) else 0):
                near = np.nextafter(near, np.float32(end))
                scores.append(near)
        scores = np.array([*scores, cut], np.float32)
        assert np.array_equal(fit.of(scores) > 0.5, scores >= fit.likely)
        each = [fit.at(float(score)) for score in scores]
        np.testing.assert_allclose(each, fit.of(scores), rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "likely"),
    [
        ([0.1, 0.5, 0.5], math.inf),  # nobody fails more likely than not
        ([0.6, 0.7, 1.0], -math.inf),  # everybody does
        ([0.0, 0.0, 1.0], LIKELY_OF_TINY + 1),
    ],
)
def test_likely_where_it_is_nobody_or_everybody(values: list[float], likely: float) -> None:
    assert fitted([0, 1, 2], values).likely == pytest.approx(likely)


@pytest.mark.parametrize(
    ("knots", "values", "likely"),
    [
        # just one half at a score of 0, where float32 lie closest
        ([0.0, 1.0], [0.5, 0.9], 2.8e-16),
        ([-1.0, 0.0, 1.0], [0.1, 0.5, 0.9], 2.8e-16),
        # on both sides of it, and below
        ([-0.5, 0.5], [0.4, 0.7], -0.5 + 1 / 3),
        ([-3.0, -1.0], [0.0, 1.0], -2.0),
        # flat at one half
        ([0.1, 0.2, 0.3], [0.2, 0.5, 0.9], 0.2),
        ([0.1, 0.2, 0.3, 0.4], [0.2, 0.5, 0.5, 0.9], 0.3),
    ],
)
def test_where_likely_begins(knots: list[float], values: list[float], likely: float) -> None:
    fit = fitted(knots, values)
    assert fit.likely == pytest.approx(likely, abs=1e-6)
    assert fit.of(np.float32(fit.likely)) > 0.5
    assert not fit.of(np.nextafter(np.float32(fit.likely), np.float32(-9))) > 0.5


def calibration(**changes: Any) -> Calibration:
    return TINY.model_copy(update=changes)


def test_what_a_threshold_costs_and_misses() -> None:
    """Scores that are spread evenly from 0 to 1 and fail with that probability."""
    edges = tuple((np.arange(19) + 1) / 20)
    even = Histogram(name="predicted_loss", edges=edges, shares=(0.05,) * 20)
    reference = TINY.reference.model_copy(update={"histograms": (even,)})
    known = calibration(reference=reference)
    for threshold in (0.0, 0.25, 0.5, 0.9, 1.0):
        # the failures below it are the integral of x from 0 to it, of 1/2 in all
        assert known.cost(threshold) == pytest.approx((1 - threshold, threshold**2), abs=1e-3)
    assert known.said(0.5) == (
        "of persons like those of procedural (1 of 3 failed), the calibration expects it to flag "
        "50 % and to miss 25 % of the failures"
    )


def test_without_a_probability_the_first_promise_is_the_default() -> None:
    known = calibration(failure_probability=None)
    assert next(iter(known.by_name())) == "flag_rate=0.1"
    assert known.said(0.5).startswith("what it misses is not known")
