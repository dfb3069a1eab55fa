"""The manifest: the contract between training and driving.

It names every file of its bundle with its sha256; what it lacks is an error and never a default.
"""

import json
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from misgiving.runtime.bundles.calibration import Calibration
from misgiving.runtime.bundles.precisions import Parity, Reduced, ReducedPrecision
from misgiving.runtime.errors import BundleError, first_problem
from misgiving.runtime.geometry import CropRule
from misgiving.runtime.keypoints import KeypointSet

MANIFEST = "manifest.json"
SIGNATURES = "manifest.sig"
MODEL_SIGNATURE = "model.sig"
SIGNATURE_FILES = (SIGNATURES, MODEL_SIGNATURE)
SCHEMA_VERSION = 3


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


class ForeignNet(_Part):
    """The network of others that a head was attached to."""

    file: str
    """Its name, without folders."""
    sha256: str
    """Of that file, in hex."""
    licence: str
    family: str
    """How its outputs become keypoints."""
    opset: int
    """That the file had."""
    converted: bool
    """Whether the bundle's graph holds it in another opset."""


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
    foreign: ForeignNet | None
    """None of a network that was trained together with its head."""
    metrics: dict[str, float]
    """Of the trained network, on the validation data."""
    reports: dict[str, dict[str, float]]
    """Data that neither trained nor calibrated the bundle → ``pck``, ``auroc``, ``augrc`` of the
    fp32 graph there, with ``persons``, ``failures`` and the best free score's ``auroc_free``."""
    config: dict[str, Any]


class Manifest(_Part):
    """Everything that a runtime must know about a graph.

    >>> manifest = Bundle.load(Path("bundle")).manifest
    >>> manifest.crop.padding, manifest.calibration.thresholds[0].target
    (1.25, 'flag_rate')
    """

    schema_version: Literal[3]
    name: str
    version: str
    release: int = Field(ge=0)
    """Rises from one release of this model to the next; see ``floor.py``."""
    expires: date | None
    """The last day, in UTC, on which a runtime with keys starts it."""
    keypoints: KeypointSet
    crop: CropRule
    max_batch: int = Field(ge=1)
    """Crops that a graph takes at once; 1 also of a graph whose batch is fixed."""
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
    """What the weights may be used for, in words; ``serve`` prints it."""
    files: dict[str, str]
    """File name → sha256 in hex, of every file of the bundle but manifest and signatures."""


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest into its bundle's folder."""
    (path / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def parse_manifest(text: bytes, path: Path) -> Manifest:
    """The manifest in the bytes of ``path``.

    Raises:
        BundleError: they are none, or one of another schema.
    """
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
    except (ValueError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path} is not a JSON object: {error}. Copy the bundle again") from error
