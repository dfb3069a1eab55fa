"""What came of the demo: the vehicle's replies against the truth, as numbers.

Axes: N streamed frames, one person each, K keypoints.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misgiving.export.demo.processes import DemoError
from misgiving.runtime.draw import Drawn
from misgiving.runtime.geometry import Region
from misgiving.trainer.answers.scoring import Floats, Scores
from misgiving.trainer.measures import metrics
from misgiving.trainer.report import picked

BUDGETS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
_RANDOM_DRAWS = 200


@dataclass(frozen=True, slots=True)
class Replies:
    """What the vehicle answered, in the order of the streamed set."""

    points: Floats
    """(N, K, 2) in image px."""
    confidence: Floats
    """(N, K)"""
    predicted_loss: Floats
    """(N,)"""
    mean_peak: Floats
    """(N,)"""
    flagged: NDArray[np.bool_]
    """(N,): by the threshold."""
    collected: NDArray[np.bool_]
    """(N,): by the threshold or as audit sample."""
    drawn: tuple[Drawn, ...]
    """(N,): how each person is drawn into its frame."""
    dropped: int
    round_trip_ms: Floats
    """(N,): client to client."""


def read_replies(path: Path, position: dict[str, int]) -> Replies:
    """Read the JSON lines of ``misgiving stream``.

    Raises:
        DemoError: a frame was answered with an error, or not at all.
    """
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if failed := [record for record in records if "error" in record]:
        raise DemoError(f"frame {failed[0]['frame_id']} failed: {failed[0]['error']}")
    records.sort(key=lambda record: position[record["frame_id"]])
    if len(records) != len(position):
        raise DemoError(f"{len(records)} of {len(position)} frames were answered; expected all")
    persons: list[dict[str, Any]] = [record["persons"][0] for record in records]
    joints = np.array([list(person["keypoints"].values()) for person in persons])
    return Replies(
        points=joints[..., :2],
        confidence=joints[..., 2],
        predicted_loss=np.array([person["predicted_loss"] for person in persons]),
        mean_peak=np.array([person["signals"]["mean_peak"] for person in persons]),
        flagged=np.array([person["flagged"] for person in persons]),
        collected=np.array([person["kept"] is not None for person in persons]),
        drawn=tuple(map(_drawn, persons, joints)),
        dropped=sum(record["dropped_before"] for record in records),
        round_trip_ms=np.array([record["round_trip_ms"] for record in records]),
    )


def _drawn(person: dict[str, Any], joints: Floats) -> Drawn:
    return Drawn(
        joints,
        np.array(list(person["keypoint_loss"].values()), float),
        Region(*person["region"]),
        person["predicted_loss"],
        person["failure_probability"],
        person["flagged"],
    )


def found_by_vehicle(replies: Replies, truth: Scores) -> Floats:
    """Joints that the vehicle found, (N, K); see ``metrics.hits``."""
    return metrics.hits(replies.points, truth.true_points, truth.labelled, truth.keypoints)


def pick_table(replies: Replies, truth: Scores) -> dict[str, float | int]:
    """PCK of the flagged frames and of as many that were picked otherwise; lower finds more.

    Over the frames whose torso is labelled; the others have no PCK, their number is given.
    """
    found = found_by_vehicle(replies, truth)
    failed, defined = metrics.failed(found)
    found, flagged = found[defined], replies.flagged[defined]
    shares, share = metrics.person_pck(found), float(flagged.mean())
    risk = replies.predicted_loss[defined]
    return {
        "frames": len(defined),
        "frames_with_torso": int(defined.sum()),
        "failures": int(failed.sum()),
        "picked": int(flagged.sum()),
        "pck_all": _rounded(metrics.pck(found)),
        "pck_flagged": _rounded(metrics.pck(found[flagged])),
        "pck_random": _rounded(_random_pck(found, share)),
        "pck_mean_peak": _rounded(metrics.pck(found[picked(-replies.mean_peak[defined], share)])),
        "pck_oracle": _rounded(metrics.pck(found[picked(-shares, share)])),
        "auroc_predicted_loss": _rounded(metrics.auroc(risk, failed)),
        "auroc_mean_peak": _rounded(metrics.auroc(-replies.mean_peak[defined], failed)),
        "spearman_missed": _rounded(metrics.spearman(risk, 1 - shares[defined])),
        "spearman_true_loss": _rounded(metrics.spearman(risk, truth.true_loss[defined])),
    }


def verdict(picks: Mapping[str, float]) -> str:
    """What a table of picks comes to, in one sentence."""
    names = {"flagged": "predicted loss", "mean_peak": "the mean heatmap peak", "random": "random"}
    ways = {said: round(picks[f"pck_{name}"], 3) for name, said in names.items()}  # as shown
    first, second = sorted(ways, key=lambda way: ways[way])[:2]
    gap = ways[second] - ways[first]
    if not np.isfinite(list(ways.values())).all():
        return "No flagged frame has a labelled torso: which way of picking is ahead is not known."
    lead = f"{first} is ahead of {second} by {gap:.3f} in PCK of the picked"
    if not gap:
        lead = f"{first} and {second} are level in PCK of the picked"
    return f"{lead[0].upper()}{lead[1:]}; one seed: no evidence."


def budget_curves(replies: Replies, truth: Scores) -> dict[str, list[float]]:
    """PCK of the share picked, for each of BUDGETS and each way of picking."""
    found = found_by_vehicle(replies, truth)
    shares = metrics.person_pck(found)
    defined = np.isfinite(shares)
    found = found[defined]
    risks = {
        "predicted loss": replies.predicted_loss[defined],
        "− mean heatmap peak": -replies.mean_peak[defined],
        "true PCK (oracle)": -shares[defined],
    }
    curves = {
        name: [metrics.pck(found[picked(risk, budget)]) for budget in BUDGETS]
        for name, risk in risks.items()
    }
    return {"random": [_random_pck(found, budget) for budget in BUDGETS], **curves}


def _random_pck(found: Floats, share: float) -> float:
    """The mean over many random picks of the same size."""
    rng = np.random.default_rng(0)
    draws = (picked(rng.random(len(found)), share) for _ in range(_RANDOM_DRAWS))
    return float(np.mean([metrics.pck(found[draw]) for draw in draws]))


def latency(replies: Replies) -> dict[str, float]:
    """Round trips as the client saw them."""
    p50, p99 = np.percentile(replies.round_trip_ms, [50, 99])
    return {"p50_ms": _rounded(float(p50)), "p99_ms": _rounded(float(p99))}


def check_agreement(replies: Replies, truth: Scores, head: str) -> float:
    """Largest shift of predicted_loss between vehicle and trainer, in standard deviations.

    Raises:
        DemoError: more than a hundredth: the vehicle runs another network, or cuts otherwise.
    """
    trained = truth.predicted_losses[head]
    shift = float(np.abs(replies.predicted_loss - trained).max() / trained.std())
    if not shift <= 0.01:
        raise DemoError(
            f"the vehicle's predicted_loss is {shift:.3f} standard deviations from the "
            "trainer's; expected at most 0.01"
        )
    return shift


def _rounded(value: float) -> float:
    return round(value, 4)
