"""Results as plain records, for ``--json``."""

import math
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from misgiving.runtime.nouns import Answer, FrameFailure, Person


def result_record(
    result: Answer, keypoint_names: Sequence[str], signal_names: Sequence[str]
) -> dict[str, Any]:
    """A result with its keypoints and signals by name; numbers that are not finite become null.

    >>> estimator = Estimator.load()
    >>> manifest = estimator.bundle.manifest
    >>> runner = Region(x=40, y=10, width=120, height=200)
    >>> result = estimator.infer(Path("runner.jpg").read_bytes(), [runner], frame_id="7")
    >>> signals = [signal.name for signal in manifest.signals]
    >>> record = result_record(result, manifest.keypoints.names, signals)
    >>> record["frame_id"], record["persons"][0]["region"]
    ('7', [40.0, 10.0, 120.0, 200.0])

    Args:
        result: of an estimator or a server.
        keypoint_names: of the bundle that answered, in order.
        signal_names: likewise.
    """
    return {
        "frame_id": result.frame_id,
        "persons": [person_record(p, keypoint_names, signal_names) for p in result.persons],
        "inference_ms": result.inference_nano / 1e6,
        "queue_ms": result.queue_nano / 1e6,
        "age_ms": None if result.age_nano is None else result.age_nano / 1e6,
        "server_age_ms": result.server_age_nano / 1e6,
        "dropped_before": result.dropped_before,
        "collection": result.collection.value,
        "bundle_digest": result.bundle_digest,
    }


def person_record(
    person: Person, keypoint_names: Sequence[str], signal_names: Sequence[str]
) -> dict[str, Any]:
    region, decision = person.region, person.flag
    probability = person.failure_probability
    return {
        "region": [float(side) for side in astuple(region)],
        "predicted_loss": finite(person.predicted_loss),
        "failure_probability": None if probability is None else finite(probability),
        "flagged": decision.raised,
        "kept": decision.kept.value if decision.kept else None,
        "withheld": decision.withheld.value if decision.withheld else None,
        "threshold": finite(decision.threshold),
        "sampling_probability": decision.sampling_probability,
        "keypoints": {
            name: [finite(value) for value in point]
            for name, point in zip(keypoint_names, person.keypoints.tolist(), strict=True)
        },
        "keypoint_loss": {
            name: finite(loss)
            for name, loss in zip(keypoint_names, person.keypoint_loss.tolist(), strict=False)
        },
        "signals": {
            name: finite(value)
            for name, value in zip(signal_names, person.signals.tolist(), strict=True)
        },
    }


def error_record(error: FrameFailure) -> dict[str, Any]:
    return {
        "frame_id": error.frame_id,
        "error": error.message,
        "code": error.code,
        "dropped_before": error.dropped_before,
    }


def finite(value: float) -> float | None:
    """JSON knows neither NaN nor infinity. Seven digits are all that a float32 has."""
    return float(f"{value:.7g}") if math.isfinite(value) else None
