"""PCK at other thresholds and PCKh, by hand and against the official script's arithmetic."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.keypoints import COCO, LSP, MPII
from misgiving.trainer.data import open_data
from misgiving.trainer.measures.accuracy import (
    AUTHORS,
    OFFICIAL,
    PCKh,
    accuracies,
    head_diagonals,
    pckh_hits,
    weighted_pckh,
)
from shared.training import real_data

Floats = NDArray[np.float64]
NAN = math.nan
DIAGONAL = 100.0
HEAD_TOP, PELVIS, THORAX, NECK = (
    MPII.names.index(name) for name in ("head_top", "pelvis", "thorax", "upper_neck")
)


def person(moved: dict[int, float]) -> tuple[Floats, Floats]:
    """One person as predicted and as labelled: some joints so many px off."""
    true = np.arange(32.0).reshape(1, 16, 2)
    predicted = true.copy()
    for joint, px in moved.items():
        predicted[0, joint, 0] += px
    return predicted, true


def hits_of(
    moved: dict[int, float], measure: PCKh, diagonal: float = DIAGONAL, threshold: float = 0.5
) -> list[float]:
    predicted, true = person(moved)
    labelled = np.arange(16) != 5
    found = pckh_hits(
        predicted, true, labelled[None], MPII, np.array([diagonal]), measure, threshold
    )
    hits: list[float] = found[0].tolist()
    return hits


@pytest.mark.parametrize(
    ("measure", "px", "threshold", "expected"),
    [
        # the official head size is 60 px: found up to 30 px, the border included
        (OFFICIAL, 29.9, 0.5, 1),
        (OFFICIAL, 30.0, 0.5, 1),
        (OFFICIAL, 30.1, 0.5, 0),
        (OFFICIAL, 6.0, 0.1, 1),
        (OFFICIAL, 6.1, 0.1, 0),
        # the authors' is the whole diagonal: found below 50 px
        (AUTHORS, 49.9, 0.5, 1),
        (AUTHORS, 50.0, 0.5, 0),
        # a prediction that is no number is a miss
        (OFFICIAL, NAN, 0.5, 0),
        (AUTHORS, NAN, 0.5, 0),
    ],
)
def test_the_border(measure: PCKh, px: float, threshold: float, expected: float) -> None:
    assert hits_of({0: px}, measure, threshold=threshold)[0] == expected


def test_which_joints_count() -> None:
    official, authors = hits_of({}, OFFICIAL), hits_of({}, AUTHORS)
    assert [i for i, hit in enumerate(official) if math.isnan(hit)] == [5, PELVIS, THORAX]
    assert [i for i, hit in enumerate(authors) if math.isnan(hit)] == [5]  # not labelled


@pytest.mark.parametrize("diagonal", [NAN, 0.0, -1.0])
@pytest.mark.parametrize("measure", [OFFICIAL, AUTHORS])
def test_without_a_head_there_is_no_pckh(measure: PCKh, diagonal: float) -> None:
    assert np.isnan(hits_of({}, measure, diagonal)).all()


def official_pckh(found: Floats) -> float:
    """As HRNet's mpii.py: the joints' rates, weighed by how often each is labelled."""
    labelled = np.isfinite(found).sum(0)
    rates = np.nansum(found, axis=0) / np.maximum(labelled, 1)
    return float((rates * labelled / labelled.sum()).sum())


def test_rates_against_the_scripts() -> None:
    rng = np.random.default_rng(0)
    found = np.where(rng.random((30, 16)) < rng.random(16), NAN, rng.integers(0, 2, (30, 16)))
    weights = rng.integers(0, 3, (30, 4)).astype(float)
    pooled, by_joint = (weighted_pckh(found, weights, measure) for measure in (OFFICIAL, AUTHORS))
    for column, official, authors in zip(weights.T, pooled, by_joint, strict=True):
        written_out = np.repeat(found, column.astype(int), axis=0)
        assert official == pytest.approx(official_pckh(written_out))
        assert authors == pytest.approx(np.nanmean(np.nanmean(written_out, axis=0)))
        assert official != pytest.approx(authors)


def test_the_authors_half_is_the_official_five_sixths() -> None:
    moved = {joint: 3.7 * joint for joint in range(16)}
    authors = hits_of(moved, AUTHORS)
    official = hits_of(moved, OFFICIAL, threshold=0.5 / 0.6)
    counted = np.isfinite(official)
    assert np.array(authors)[counted].tolist() == np.array(official)[counted].tolist()
    assert 0 < np.nanmean(authors) < 1


@pytest.mark.parametrize("keypoints", [LSP, COCO])  # LSP's neck is not MPII's upper neck
def test_other_sets_have_no_head_segment(keypoints: object) -> None:
    assert isinstance(keypoints, type(MPII))
    count = len(keypoints)
    lengths = head_diagonals(np.ones((2, count, 2)), np.ones((2, count), bool), keypoints)
    assert np.isnan(lengths).all()


def test_the_head_segment() -> None:
    true = np.zeros((3, 16, 2))
    true[:, HEAD_TOP] = [30, 40]
    labelled = np.ones((3, 16), bool)
    labelled[1, HEAD_TOP] = labelled[2, NECK] = False
    lengths = head_diagonals(true, labelled, MPII)
    assert lengths.tolist() == pytest.approx([62.5, NAN, NAN], nan_ok=True)


def test_mpii_s_head_joints_tell_a_box_of_whole_pixels() -> None:
    """Why 0.8: the squares of two whole sides add up to the square of the diagonal."""
    folder = real_data("mpii_sample")
    data = open_data(f"mpii:{folder}/test_mpii.json@{folder}")
    samples = [data[i] for i in range(len(data))]
    points, labelled = (
        np.stack([getattr(sample, name) for sample in samples]) for name in ("points", "labelled")
    )
    squares = head_diagonals(points.astype(float), labelled, MPII) ** 2
    whole = {a * a + b * b for a in range(1, 250) for b in range(1, 250)}
    assert np.abs(squares - squares.round()).max() < 0.035
    assert set(squares.round().astype(int).tolist()) <= whole


def test_all_measures_with_who_is_left_out() -> None:
    """Three persons: one without a torso, one without a head box."""
    predicted, true = (np.repeat(part, 3, axis=0) * 10 for part in person({0: 3.5}))
    labelled = np.ones((3, 16), bool)
    labelled[0, MPII.names.index("left_hip")] = False
    diagonal = np.array([90.0, NAN, 90.0])
    measured = accuracies(predicted, true, labelled, MPII, diagonal, ["a", "b", "c"])
    assert {name: (one.persons, one.left_out) for name, one in measured.items()} == {
        "PCK@0.1": (2, 1),
        "PCK@0.5": (2, 1),
        "PCKh@0.5": (2, 1),
        "PCKh@0.5 (authors' variant)": (2, 1),
        "PCKh@0.5 (head box by its joints)": (3, 0),
    }
    rates = {name: one.rate.value for name, one in measured.items()}
    # joint 0 is 35 px off; a torso is 311 px, half a head 27 or 45 px, and by its joints 10.6 px
    assert rates == pytest.approx(
        {
            "PCK@0.1": 15 / 16,
            "PCK@0.5": 1,
            "PCKh@0.5": (13 + 12) / (14 + 13),
            "PCKh@0.5 (authors' variant)": 1,
            "PCKh@0.5 (head box by its joints)": (13 + 13 + 12) / (14 + 14 + 13),
        }
    )


def test_nobody() -> None:
    none = np.zeros((0, 16, 2))
    measured = accuracies(none, none, np.zeros((0, 16), bool), MPII, np.zeros(0), [])
    assert all(one.persons == one.left_out == 0 for one in measured.values())
    assert all(math.isnan(one.rate.value) for one in measured.values())
