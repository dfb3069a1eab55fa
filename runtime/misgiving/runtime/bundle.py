"""The bundle: a folder with one graph, its manifest and its self-check samples.

The manifest is the contract between training and driving. It names every file with its sha256;
what it does not name is refused, what it lacks is an error and never a default.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from misgiving.runtime.calibration import Calibration
from misgiving.runtime.engines.base import Engine, Prediction
from misgiving.runtime.errors import BundleError, InvalidInput, MisgivingError, first_problem
from misgiving.runtime.geometry import CropRule
from misgiving.runtime.keypoints import KeypointSet
from misgiving.runtime.precisions import (
    FP32,
    MODELS,
    Parity,
    Reduced,
    ReducedPrecision,
    SampleDrift,
)

MANIFEST = "manifest.json"
MODEL = MODELS[FP32]
SAMPLES = "samples.npz"
SCHEMA_VERSION = 2


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Signal(_Part):
    """A free score: it costs nothing beside the heatmaps."""

    name: str
    higher_is: Literal["safer", "riskier"]


class FailureDefinition(_Part):
    """What counts as a failure for this model."""

    metric: str
    """For example ``PCK@0.2``: the share of a person's labelled joints found."""
    normaliser: str
    below: float
    """A person whose metric is below this has failed."""

    def __str__(self) -> str:
        return f"{self.metric} ({self.normaliser}) of the person < {self.below:g}"


class Provenance(_Part):
    """Where the weights come from."""

    recipe: str
    training_data: tuple[str, ...]
    label_count: int
    validation_data: str
    commit: str
    """Commit of the code that trained, empty where it was not a checkout."""
    created: str
    """ISO 8601, UTC."""
    metrics: dict[str, float]
    config: dict[str, Any]


class Manifest(_Part):
    """Everything that a runtime must know about a graph.

    >>> manifest = Bundle.load(Path("bundle")).manifest
    >>> manifest.crop.padding, manifest.calibration.thresholds[0].target
    (1.25, 'flag_rate')
    """

    schema_version: Literal[2]
    name: str
    version: str
    keypoints: KeypointSet
    crop: CropRule
    outputs: tuple[str, ...]
    signals: tuple[Signal, ...]
    embedding_size: int
    failure: FailureDefinition
    calibration: Calibration
    parity: Parity
    """Of fp32."""
    precisions: dict[Reduced, ReducedPrecision]
    """The bundle's further graphs."""
    provenance: Provenance
    weights_licence: str
    files: dict[str, str]
    """File name → sha256 in hex, of every file of the bundle but the manifest."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are all there and unaltered.

    >>> bundle = Bundle.load(Path("bundle"))
    >>> bundle.manifest.keypoints.name, len(bundle.digest)
    ('lsp14', 64)
    """

    path: Path
    manifest: Manifest
    digest: str
    """sha256 of the manifest's bytes, in hex; it covers every file through ``files``."""
    precision: str = FP32
    """Whose graph answers."""

    @classmethod
    def load(cls, path: Path) -> "Bundle":
        """Read and verify a bundle.

        Raises:
            BundleError: no bundle, an incomplete or unknown manifest, a file that is missing,
                altered or not listed.
        """
        manifest_path = path / MANIFEST
        try:
            text = manifest_path.read_bytes()
        except OSError as error:
            raise BundleError(
                f"{path} is no bundle: {MANIFEST}: {error.strerror}; "
                "expected a folder written by 'misgiving export'"
            ) from error
        manifest = _parse(text, manifest_path)
        models = (MODELS[name] for name in (FP32, *manifest.precisions))
        _check_files(path, manifest.files, (*models, SAMPLES))
        return cls(path, manifest, hashlib.sha256(text).hexdigest())

    @property
    def model(self) -> Path:
        return self.path / MODELS[self.precision]

    def in_precision(self, name: str) -> "Bundle":
        """The same bundle with another of its graphs.

        Raises:
            BundleError: it has none in that precision.
        """
        if name not in (known := (FP32, *self.manifest.precisions)):
            raise BundleError(
                f"precision is {name!r}; {self.path} has {', '.join(known)}. Take one of these, "
                "or export with --precision"
            )
        return replace(self, precision=name)

    @property
    def default_threshold(self) -> float:
        return self.manifest.calibration.thresholds[0].predicted_loss

    def threshold(self, asked: float | str | None) -> float:
        """The ``predicted_loss`` from which on persons are flagged.

        Args:
            asked: a number, or the name of one of the bundle's thresholds; None for its default.

        Raises:
            InvalidInput: neither a number nor such a name.
        """
        if asked is None:
            return self.default_threshold
        known = {one.name: one.predicted_loss for one in self.manifest.calibration.thresholds}
        try:
            return known[asked] if asked in known else float(asked)
        except ValueError as error:
            raise InvalidInput(
                f"threshold is {asked!r}; expected a number in units of predicted_loss, or one of "
                f"{self.manifest.name}'s own: {', '.join(known)}"
            ) from error

    def self_check(self, engine: Engine) -> None:
        """Run the bundle's samples and compare with the answers recorded at export.

        Raises:
            BundleError: the engine answers otherwise.
        """
        try:
            with np.load(self.path / SAMPLES, allow_pickle=False) as archive:
                samples = dict(archive)
            got = engine.infer(samples["image"])
            compare_samples(got, samples, self._measured_drift)
        except MisgivingError:
            raise
        except (OSError, KeyError, ValueError) as error:
            raise BundleError(f"{self.path / SAMPLES} cannot be used: {error}") from error

    @property
    def _measured_drift(self) -> SampleDrift:
        """What the export measured of this precision on the samples; nothing for fp32."""
        if self.precision == FP32:
            return SampleDrift(keypoint_px=0, predicted_loss=0)
        reduced = self.manifest.precisions.items()
        return next(one.samples for name, one in reduced if name == self.precision)


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


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest into its bundle's folder."""
    (path / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def sha256_file(path: Path) -> str:
    """sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _parse(text: bytes, path: Path) -> Manifest:
    try:
        version = json.loads(text).get("schema_version")
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{path} has schema_version {version!r}; expected {SCHEMA_VERSION}. "
                "Export again with this version of misgiving"
            )
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BundleError(
            f"{path}: {first_problem(error)} ({error.error_count()} problem(s)); "
            "expected a manifest written by 'misgiving export'. Export or copy it again"
        ) from error
    except (ValueError, AttributeError) as error:
        raise BundleError(f"{path} is not a JSON object: {error}. Copy the bundle again") from error


def _check_files(path: Path, files: dict[str, str], needed: Iterable[str]) -> None:
    present = {str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir()}
    present -= {MANIFEST}
    if extra := sorted(present - files.keys()):
        raise BundleError(f"{path} holds {extra[0]}, which its manifest does not list; remove it")
    for name, expected in files.items():
        if name not in present:
            raise BundleError(f"{path} lacks {name}, which its manifest lists; copy it again")
        if (got := sha256_file(path / name)) != expected:
            raise BundleError(
                f"{path / name} has sha256 {got[:12]}…; its manifest says {expected[:12]}…. "
                "The file was altered or cut short: copy the bundle again"
            )
    for name in needed:
        if name not in files:
            raise BundleError(f"{path / MANIFEST} lists no {name}; export the bundle again")
