"""A versioned label set on disk: what annotators hand back and training takes (``labels:DIR``).

A folder with ``labels.json`` and ``images/``. Written by the collector, read by the trainer.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from misgiving.runtime.errors import DataError, first_problem
from misgiving.runtime.keypoints import KeypointSet

LABELS = "labels.json"
IMAGES = "images"

Split = Literal["train", "val", "neither"]
"""A side of training and validation, which a frame keeps in all label sets to come; on neither are
frames for validation that are nearly the same as some for training."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelledPerson(_Part):
    """One person of one collected frame, corrected by an annotator."""

    id: str
    image: str
    """File name below ``images/``."""
    region: tuple[float, float, float, float]
    """x, y, width, height in image px, of what the vehicle's answer is of; the whole image where
    its client sent none and no closer look was better. The person's own box where an annotator
    added the person."""
    points: tuple[tuple[float, float], ...]
    """(K, 2) in continuous image px."""
    visibility: tuple[Literal[0, 1, 2], ...]
    """(K,), as COCO has it: 0 where the joint is not labelled and its point means nothing, 1 where
    it is hidden, 2 where it is visible."""
    sampling_probability: float = Field(gt=0, le=1)
    """Probability with which the vehicle kept this person's frame; weight by its inverse."""
    predicted_loss: float | None
    """What the collecting bundle said; None for a person that an annotator added."""
    bundle_digest: str
    device_id: str
    stream_id: str
    """Camera or drive, as the vehicle's client named it."""
    split: Split | None = None
    """None in sets of before schema 4."""

    @property
    def labelled(self) -> tuple[bool, ...]:
        """(K,), hidden or visible."""
        return tuple(one > 0 for one in self.visibility)


class LabelSet(_Part):
    """All persons of a version. Versions are immutable: an import makes a new folder.

    Made by :func:`misgiving.collector.read_corrected`.
    """

    schema_version: int = Field(ge=4, le=4)
    version: str
    keypoints: KeypointSet
    persons: tuple[LabelledPerson, ...]

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, values: Any) -> Any:
        """Schema 2 told only whether a joint is labelled, which COCO calls visible; 3 no split."""
        if not isinstance(values, dict) or values.get("schema_version") not in (2, 3):
            return values
        persons = values.get("persons")
        if values["schema_version"] == 2 and isinstance(persons, list):
            persons = [_of_schema_2(one) for one in persons]
        return {**values, "schema_version": 4, "persons": persons}

    @model_validator(mode="after")
    def _check(self) -> "LabelSet":
        for person in self.persons:
            if not len(person.points) == len(person.visibility) == len(self.keypoints):
                raise ValueError(
                    f"person {person.id} has {len(person.points)} points and "
                    f"{len(person.visibility)} flags; expected {len(self.keypoints)} of each"
                )
        return self


def _of_schema_2(person: Any) -> Any:
    if not isinstance(person, dict) or not isinstance(person.get("labelled"), list):
        return person
    rest = {key: value for key, value in person.items() if key != "labelled"}
    return rest | {"visibility": [2 if one else 0 for one in person["labelled"]]}


def read_labels(folder: Path) -> LabelSet:
    """Read ``labels.json`` of a label set.

    Raises:
        DataError: the file is missing, is not a label set, or names an image that is not there.
    """
    path = folder / LABELS
    try:
        labels = LabelSet.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; expected a folder written by 'misgiving annotations import'"
        ) from error
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}; import the annotations again") from error
    missing = [p.image for p in labels.persons if not (folder / IMAGES / p.image).is_file()]
    if missing:
        raise DataError(f"{folder / IMAGES} lacks {missing[0]}; import the annotations again")
    return labels
