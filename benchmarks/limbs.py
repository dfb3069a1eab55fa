"""Pose nets with joints of their own, counted alike over the twelve joints of the limbs.

Pure: what ``against_others.py`` asks for, this compares. Axes: N persons, R resamples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.geometry import Window
from misgiving.runtime.keypoints import LSP, KeypointSet, places_of, torso_by_name
from misgiving.trainer.measures import metrics
from misgiving.trainer.measures.bootstrap import Estimate, Key, estimates
from misgiving.trainer.measures.ranking import Failures, Ranking

_NAMES = tuple(name for name in LSP.names if name not in ("neck", "head_top"))
LIMBS = KeypointSet(name="limbs12", names=_NAMES, skeleton=(), torso=torso_by_name(_NAMES))
KINDS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
OURS, BLAZEPOSE, ALWAYS = "ours", "BlazePose", "BlazePose, thresholds 0"

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Said:
    """What one net says of N persons."""

    points: Floats
    """(N, 12, 2), image px; NaN where it finds nobody."""
    risks: Mapping[str, Floats]
    """(N,) each, higher is riskier."""

    @property
    def answered(self) -> Bools:
        """(N,): of whom it says anything."""
        return np.array([np.isfinite(points).all() for points in self.points], bool)


@dataclass(frozen=True)
class Truth:
    """The persons who are asked about, (N, …) each."""

    images: Sequence[str]
    points: Floats
    labelled: Bools


@dataclass(frozen=True)
class Comparison:
    """Nets on the persons whose torso is labelled."""

    measured: int
    answered: Mapping[str, float]
    """Share of the measured, by net."""
    failures: Mapping[str, int]
    everybody: Mapping[Key, Estimate]
    """By net the joints found, by net and score the AUROC of the net's own failures; all of the
    same resamples."""
    found: Mapping[Key, Estimate]
    """The same over the persons whom all nets answer."""
    by_kind: Mapping[str, Sequence[float]]
    """Share found of each of KINDS, by net."""

    def scores(self, net: str) -> list[str]:
        """Names of a net's own scores."""
        return [key[1] for key in self.everybody if isinstance(key, tuple) and key[0] == net]


def limb_places(names: Sequence[str]) -> list[int]:
    """Where the twelve are among a net's joints, by their names."""
    places = places_of(names, LIMBS.names)
    if -1 in places:
        raise ValueError(f"joints are {', '.join(names)}; expected {', '.join(LIMBS.names)}")
    return places


def of_landmarks(landmarks: Floats, names: Sequence[str], windows: Sequence[Window]) -> Said:
    """BlazePose's limb joints by their names, in px of the image.

    Nobody found is the surest failure: riskier than any visibility, which is at most 1.

    Args:
        landmarks: (N, 33, 3), x and y in px of the window, and visibility; NaN for nobody.
        names: of the 33.
        windows: of each image, which it was shown.
    """
    corners = np.array([(window.left, window.top) for window in windows])[:, None]
    limbs = landmarks[:, limb_places(names)]
    parts = {"mean visibility, these 12": limbs, "mean visibility, all 33": landmarks}
    risks = {name: np.nan_to_num(-part[..., 2].mean(1), nan=1.0) for name, part in parts.items()}
    return Said(limbs[..., :2] + corners, risks)


def compare(nets: Mapping[str, Said], truth: Truth) -> Comparison:
    """Measure nets; a joint of a person whom a net does not find is missed."""
    labels = truth.points, truth.labelled, LIMBS
    hits = {net: metrics.hits(said.points, *labels) for net, said in nets.items()}
    known = np.isfinite(metrics.person_pck(hits[OURS]))  # by the labels alone: alike for all nets
    answered = {net: said.answered[known] for net, said in nets.items()}
    failed = {net: metrics.failed(each)[0] for net, each in hits.items()}
    rankings = {
        (net, name): Ranking.of(risk[known])
        for net, said in nets.items()
        for name, risk in said.risks.items()
    }
    images = [image for image, counts in zip(truth.images, known, strict=True) if counts]
    kept = {net: each[known] for net, each in hits.items()}
    measure = partial(_measure, kept, failed, rankings)
    all_answer = np.all(list(answered.values()), axis=0)
    return Comparison(
        measured=len(images),
        answered={net: float(each.mean()) for net, each in answered.items()},
        failures={net: int(each.sum()) for net, each in failed.items()},
        everybody=estimates(measure, images),
        found=estimates(lambda weights: measure(weights * all_answer[:, None]), images),
        by_kind={net: by_kind(each) for net, each in kept.items()},
    )


def _measure(
    hits: Mapping[str, Floats],
    failed: Mapping[str, Bools],
    rankings: Mapping[tuple[str, str], Ranking],
    weights: Floats,
) -> dict[Key, Floats]:
    numbers: dict[Key, Floats] = {
        net: metrics.weighted_pck(each, weights) for net, each in hits.items()
    }
    for (net, name), ranking in rankings.items():
        numbers[net, name] = Failures.of(ranking, failed[net], weights).auroc()
    return numbers


def by_kind(hits: Floats) -> list[float]:
    """Share found of each of KINDS, both sides together, from hits (N, 12)."""
    columns = [[i for i, name in enumerate(LIMBS.names) if kind in name] for kind in KINDS]
    return [float(np.nanmean(hits[:, pair])) for pair in columns]


def rows(result: Comparison) -> Iterator[str]:
    """A line for each score of each net, then ours less each of the others."""
    for net in result.answered:
        joints = f"{result.everybody[net]} | {result.found[net]}"
        about = f"{net} | {joints} | {result.answered[net]:.3f} | {result.failures[net]}"
        for name in result.scores(net):
            aurocs = f"{result.everybody[net, name]} | {result.found[net, name]}"
            yield f"| {about} | {name} | {aurocs} |"
            about = " | | | | "
    for net in result.answered:
        if net != OURS:
            yield from _differences(result, net)


def _differences(result: Comparison, other: str) -> Iterator[str]:
    parts = result.everybody, result.found
    joints = " | ".join(signed(part[OURS] - part[other]) for part in parts)
    about = f"ours less {other} | {joints} | | "
    for name in result.scores(OURS):
        gaps = [signed(part[OURS, name] - best(result, part, other)) for part in parts]
        yield f"| {about} | {name} less best visibility | {' | '.join(gaps)} |"
        about = " | | | | "


def best(result: Comparison, numbers: Mapping[Key, Estimate], net: str) -> Estimate:
    """The highest AUROC of a net's own scores."""
    return max((numbers[net, name] for name in result.scores(net)), key=lambda one: one.value)


def signed(gap: Estimate) -> str:
    """A difference with its interval, and who is ahead where that has no zero."""
    low, high = gap.interval
    if not np.isfinite(gap.value):
        return "–"
    if not np.isfinite(low):
        return f"{gap.value:+.3f}"
    who = "**ours**" if low > 0 else "**theirs**" if high < 0 else "level"
    return f"{gap.value:+.3f} [{low:+.3f} {high:+.3f}], {who}"
