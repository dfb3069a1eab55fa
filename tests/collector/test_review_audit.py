"""What judged frames say of the flag, against populations whose truth is known."""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from misgiving.collector.review.auditing import HANDFUL, Judged, Share, Stratum, estimate_audit

RATE = 0.01


def judged(camera: str, frames: Iterable[tuple[bool, float]]) -> Judged:
    """Sums of frames of which each failed or not, and was kept with a probability."""
    failed, probability = map(np.array, zip(*frames, strict=True))
    weight = 1 / probability
    return Judged(
        camera=camera,
        frames=len(failed),
        failed=int(failed.sum()),
        weight=float(weight.sum()),
        square=float((weight**2).sum()),
        failed_weight=float(weight[failed].sum()),
    )


def stratum(flagged: bool, failed: int, sound: int, probability: float = 1.0) -> Stratum:
    """All kept, all judged."""
    frames = failed * [(True, probability)] + sound * [(False, probability)]
    kept, reason = failed + sound, "predicted_loss" if flagged else "audit"
    variance = kept * (1 - probability) / probability**2
    return Stratum(
        flagged, reason, kept, kept / probability, variance, (judged("car/front", frames),)
    )


def test_audited_frames_count_for_those_they_stand_for() -> None:
    audit = estimate_audit([stratum(True, 30, 10), stratum(False, 2, 48, RATE)])
    assert audit.false_alarms is not None
    assert audit.false_alarms.value == pytest.approx(10 / 40)
    assert audit.unflagged_failed.value == pytest.approx(2 / 50)
    assert audit.missed.value == pytest.approx(200 / (200 + 30))
    assert audit.failed.value == pytest.approx(230 / (5000 + 40))
    assert audit.judged == 90


def test_probabilities_weigh_within_a_stratum() -> None:
    both = judged("car/front", 10 * [(True, 0.01)] + 10 * [(False, 0.1)])
    audit = estimate_audit([Stratum(False, "audit", 20, 1100.0, 0.0, (both,))])
    assert audit.unflagged_failed.value == pytest.approx(1000 / 1100)


@pytest.mark.parametrize(
    ("strata", "known"),
    [
        # nothing at all
        ([], {"missed": False, "false_alarms": False, "unflagged_failed": False}),
        # one too few of the unflagged
        (
            [stratum(True, 9, 9), stratum(False, 1, HANDFUL - 2, RATE)],
            {"missed": True, "false_alarms": True, "unflagged_failed": True},
        ),
        # nobody was ever flagged: all failures are missed, and no flag can be false
        (
            [stratum(False, 3, 20, RATE)],
            {"missed": True, "false_alarms": False, "unflagged_failed": True},
        ),
        # no audit: what is missed is not known
        (
            [stratum(True, 9, 9)],
            {"missed": False, "false_alarms": True, "unflagged_failed": False},
        ),
        # no failure: no share of them is missed
        (
            [stratum(True, 0, 20), stratum(False, 0, 20, RATE)],
            {"missed": False, "false_alarms": True, "unflagged_failed": True},
        ),
    ],
)
def test_a_share_is_given_where_it_is_known(strata: list[Stratum], known: dict[str, bool]) -> None:
    audit = estimate_audit(strata)
    assert {name: getattr(audit, name) is not None for name in known} == known


def test_no_number_below_a_handful() -> None:
    few = stratum(False, 1, HANDFUL - 2, RATE)
    more = replace(few, kept=few.kept + 100)
    assert more.missing == 1
    audit = estimate_audit([stratum(True, 9, 9), more])
    assert audit.unflagged_failed is None
    assert audit.missed is None
    assert audit.false_alarms is not None


def test_none_of_twenty_is_not_never() -> None:
    share = estimate_audit([stratum(False, 0, 20, RATE)]).unflagged_failed
    assert share.value == share.low == 0
    assert 0.08 < share.high < 0.16  # Clopper and Pearson have 0.168, Jeffreys 0.117


def test_cameras_that_differ_widen_the_interval() -> None:
    alike = stratum(False, 40, 40, RATE)
    cameras = [(True, "a"), (True, "b"), (False, "a"), (False, "b")]
    apart = replace(
        alike,
        judged=tuple(judged(f"car/{one}/{name}", 20 * [(one, RATE)]) for one, name in cameras),
    )
    wide, narrow = (estimate_audit([one]).unflagged_failed for one in (apart, alike))
    assert wide.value == narrow.value
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_number_of_frames_that_is_unsure_widens_the_interval() -> None:
    few = stratum(False, 4, 8, RATE)
    sure = replace(few, variance=0.0)
    unsure, narrow = (estimate_audit([stratum(True, 300, 10), one]).missed for one in (few, sure))
    assert unsure.value == narrow.value
    assert unsure.high - unsure.low > 1.1 * (narrow.high - narrow.low)


def test_frames_that_were_not_drawn_are_told() -> None:
    scores = tuple(replace(one, scored=20, score=40.0) for one in stratum(True, 10, 10).judged)
    usual = Stratum(True, "audit", 500, 500.0, 0.0, scores, mean_score=2.1, deviation=0.5)
    assert not usual.unlike
    assert replace(usual, mean_score=0.5).unlike
    assert not replace(usual, mean_score=math.nan, deviation=math.nan).unlike


@pytest.mark.parametrize("cameras", [1, 20])
def test_intervals_cover(cameras: int) -> None:
    """Of 200 vehicles' weeks: frames are kept by flag and audit, and a part of them is judged."""
    rng = np.random.default_rng(5)
    hits: dict[str, list[bool]] = {}
    for _ in range(200):
        strata, truth = week(rng, cameras)
        audit = estimate_audit(strata)
        for name, true in truth.items():
            share: Share | None = getattr(audit, name)
            if share is not None:
                hits.setdefault(name, []).append(share.low <= true <= share.high)
    assert set(hits) == {"missed", "false_alarms", "unflagged_failed", "failed"}
    assert min(map(len, hits.values())) > 190
    assert {name: float(np.mean(of)) for name, of in hits.items() if np.mean(of) < 0.92} == {}


def week(rng: np.random.Generator, cameras: int) -> tuple[list[Stratum], dict[str, float]]:
    """What is kept and judged of 20,000 frames, and what is true of them."""
    camera = rng.integers(0, cameras, 20_000)
    odds = rng.normal(-2.2, 1.0 if cameras > 1 else 0.0, cameras)[camera]
    failed = rng.random(len(camera)) < 1 / (1 + np.exp(-odds))
    flagged = rng.random(len(camera)) < np.where(failed, 0.6, 0.03)
    withheld = flagged & (rng.random(len(camera)) < 0.5)
    audited = RATE * rng.choice([1.0, 0.5], len(camera))
    probability = np.where(flagged & ~withheld, 1.0, audited)
    kept = rng.random(len(camera)) < probability
    strata = []
    for flag, reason, member in (
        (True, "predicted_loss", flagged & ~withheld),
        (True, "audit", withheld),
        (False, "audit", ~flagged),
    ):
        at = np.flatnonzero(member & kept)
        looked = rng.permutation(at)[: max(min(len(at), HANDFUL), len(at) // 2)]
        of_cameras = [
            judged(
                f"{name}",
                ((bool(failed[i]), probability[i]) for i in looked[camera[looked] == name]),
            )
            for name in set(camera[looked].tolist())
        ]
        p = probability[at]
        variance = float(((1 - p) / p**2).sum())
        strata.append(
            Stratum(flag, reason, len(at), float((1 / p).sum()), variance, (*of_cameras,))
        )
    truth = {
        "missed": (failed & ~flagged).sum() / failed.sum(),
        "false_alarms": (~failed[flagged]).mean(),
        "unflagged_failed": failed[~flagged].mean(),
        "failed": failed.mean(),
    }
    return strata, truth
