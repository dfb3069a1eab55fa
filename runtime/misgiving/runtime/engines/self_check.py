"""A bundle's samples, run by the engine that will answer: does it compute what was exported?"""

import io
from typing import Any

import numpy as np

from misgiving.runtime.bundles.bundle import SAMPLES, Bundle
from misgiving.runtime.bundles.precisions import SampleDrift
from misgiving.runtime.engines.base import Engine, Prediction
from misgiving.runtime.errors import BundleError, MisgivingError


def self_check(bundle: Bundle, engine: Engine) -> None:
    """Run the bundle's samples and compare with the answers recorded at export.

    Raises:
        BundleError: the engine answers otherwise.
    """
    try:
        with np.load(io.BytesIO(bundle.read(SAMPLES)), allow_pickle=False) as archive:
            samples = dict(archive)
        got = engine.infer(samples["image"])
        compare_samples(got, samples, bundle.measured_drift)
    except MisgivingError:
        raise
    except (OSError, KeyError, ValueError) as error:
        raise BundleError(f"{bundle.path / SAMPLES} cannot be used: {error}") from error


def compare_samples(got: Prediction, expected: dict[str, Any], measured: SampleDrift) -> None:
    """Raise BundleError where a prediction differs from the recorded one.

    The tolerance admits another CPU's rounding, not another network. Of a lower precision it admits
    twice what the export measured on top: another device rounds as coarsely, but elsewhere.
    """
    shift, drift = sample_drift(got, expected)
    most_px = 0.1 + 2 * measured.keypoint_px
    most = 0.05 + 2 * measured.predicted_loss
    if not (drift <= most and shift <= most_px):
        raise BundleError(
            f"self-check failed: keypoints moved {shift:.3f} px and predicted_loss "
            f"{drift:.3f} standard deviations from the bundle's samples; expected at most "
            f"{most_px:.3g} px and {most:.3g}. The engine computes something else here: "
            "try another device"
        )


def sample_drift(got: Prediction, expected: dict[str, Any]) -> tuple[float, float]:
    """How far a prediction is from the recorded one, as the two numbers of a SampleDrift."""
    spread = float(np.std(expected["predicted_loss"])) or 1.0
    drift = float(np.abs(got.predicted_loss - expected["predicted_loss"]).max()) / spread
    moved = np.linalg.norm(got.keypoints[..., :2] - expected["keypoints"][..., :2], axis=-1)
    # A flat heatmap's peak may jump between equal cells; the median does not.
    return float(np.median(moved)), drift
