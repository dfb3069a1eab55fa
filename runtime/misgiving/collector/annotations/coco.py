"""COCO's person-keypoints file as it is written; ``runtime/cocofile.py`` reads it.

Coordinates are continuous image px, top-left corner (0, 0), as in the rest of misgiving.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from misgiving.runtime.nouns import Reason

ANNOTATIONS = "annotations.json"
"""What annotators correct."""

ORIGINAL = "original.json"
"""The same as exported: what a tool drops from the annotations is looked up here."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class FrameOrigin(_Part):
    """Where the image of a frame comes from in which nobody was found."""

    frame_digest: str
    sampling_probability: float = Field(gt=0, le=1)
    """That the vehicle kept the frame, for whichever of its persons."""
    bundle_digest: str
    device_id: str
    stream_id: str
    capture_time_unix_nano: int = 0
    """Zero where unknown, and in exports of before."""
    coding: str = ""
    """``as sent``, ``png`` or ``jpeg QUALITY``; empty where unknown, and in exports of before."""
    covered: tuple[tuple[float, float, float, float], ...] = ()
    """x, y, width, height of what the vehicle made invisible: no label is taken there."""


class Origin(FrameOrigin):
    """Where an annotation comes from: our own key of it."""

    person_index: int
    """Place in CollectedFrame.persons."""
    flagged: bool
    """By the score."""
    kept: str
    """Why the vehicle kept this person, flagged or not: see nouns.Reason; empty where it was
    kept for another one of its frame."""
    predicted_loss: FiniteFloat

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, values: Any) -> Any:
        """Exports of before had ``flag_reason`` instead, and called an audited person flagged."""
        if isinstance(values, dict) and "kept" not in values and "flag_reason" in values:
            kept = values["flag_reason"]
            flagged = values.get("flagged") and kept != Reason.AUDIT.value
            return {**values, "kept": kept, "flagged": flagged}
        return values


class Image(_Part):
    id: int
    file_name: str
    width: int
    height: int
    misgiving: FrameOrigin | None = None
    """None where there are annotations, which say it."""


class Annotation(_Part):
    id: int
    image_id: int
    category_id: int
    keypoints: tuple[FiniteFloat, ...] = ()
    """x, y, v for each joint; v is 0 where it is not labelled, 1 hidden, 2 visible."""
    num_keypoints: int = 0
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = None
    """x, y, width, height."""
    area: float | None = None
    iscrowd: int = 0
    segmentation: object = ()
    """Always empty, but some tools do not read a file without it."""
    score: float | None = None
    """Minus the predicted loss: higher is better, as COCO has it."""
    misgiving: Origin | None = None

    @property
    def joints(self) -> list[tuple[float, float, int]]:
        """x, y, v of each joint."""
        triples = zip(*(iter(self.keypoints),) * 3, strict=True)
        return [(x, y, int(v)) for x, y, v in triples]


class Category(_Part):
    id: int
    name: str
    supercategory: str = ""
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    """Bones as pairs of places in ``keypoints``, counted from 1."""


class Document(_Part):
    info: object = None
    licenses: object = ()
    categories: tuple[Category, ...]
    images: tuple[Image, ...]
    annotations: tuple[Annotation, ...]

    def by_image(self) -> Iterator[tuple[Image, list[Annotation]]]:
        """Each image with its persons who have a labelled joint."""
        persons: defaultdict[int, list[Annotation]] = defaultdict(list)
        for one in self.annotations:
            if any(visibility for _, _, visibility in one.joints):
                persons[one.image_id].append(one)
        for image in self.images:
            yield image, persons[image.id]

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=1).encode() + b"\n"
