"""What nobody shall see is taken out of an image before it is stored."""

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import ImageError
from misgiving.runtime.geometry import CropRule, Region, window_of
from misgiving.runtime.images import check_rgb
from misgiving.runtime.nouns import Answer, Person
from misgiving.runtime.privacy.heads import head_boxes, head_joints
from misgiving.runtime.privacy.metadata import bare
from misgiving.runtime.privacy.policy import Hook, PrivacyPolicy
from misgiving.runtime.wire.collected import KeptFrame, Redaction

Image = NDArray[np.uint8]

GREY = 128
_CELLS = 4
"""Of a covered part sixteen colours are left, which run into each other."""


def redacted(kept: KeptFrame, policy: PrivacyPolicy, rule: CropRule) -> KeptFrame:
    """The same without what the policy hides.

    The hook sees the image first, as the camera took it. What is left of a crop is left as it was:
    the same region cuts the same pixels out of it.

    Args:
        kept: as the pipeline has it.
        policy: of the operator.
        rule: of the bundle that answered.

    Raises:
        Exception: whatever the hook raises; the frame must then not be kept.
        ImageError: the hook gave something else than an image of the same shape.
        InvalidInput: heads are to be blurred, and no joint is a head's.
    """
    if not policy.position:
        kept = replace(kept, frame=replace(kept.frame, position=None))
    if not policy.redacts:
        return kept if policy.position else _bare(kept)
    image = np.array(kept.frame.decoded())  # a copy: others look at the frame too
    if policy.hook:
        image = _changed(image, kept, policy.hook)
    heads = _heads(kept, rule, image) if policy.blur_heads else []
    for head in heads:
        _blur(image, head)
    if policy.crop:
        image = _only_windows(image, kept.persons, rule)
    done = Redaction(
        policy.crop,
        tuple(heads),
        tuple(_hidden(person, kept, heads) for person in kept.persons) if policy.blur_heads else (),
        policy.hook.name if policy.hook else "",
    )
    return replace(kept, frame=replace(kept.frame, image=image), coding=None, redaction=done)


def _bare(kept: KeptFrame) -> KeptFrame:
    """The same without the place that a camera may have written into the image."""
    image = kept.frame.image
    if not isinstance(image, bytes) or (made := bare(image)) == image:
        return kept
    return replace(kept, frame=replace(kept.frame, image=made))


def _changed(image: Image, kept: KeptFrame, hook: Hook) -> Image:
    shape = image.shape
    answer = Answer(kept.frame.frame_id, kept.persons, kept.bundle_digest, nobody=kept.nobody)
    changed = check_rgb(hook.change(image, answer), f"what {hook.name} gave")
    if changed.shape != shape:
        raise ImageError(f"{hook.name} gave an image {changed.shape}; expected {shape}, as it got")
    return np.array(changed)


def _heads(kept: KeptFrame, rule: CropRule, image: Image) -> list[Region]:
    """Whole pixels of the image that cover heads."""
    height, width = image.shape[:2]
    boxes = [
        box
        for person in kept.persons
        for box in head_boxes(person, kept.keypoint_names, rule, height, width)
    ]
    inside = (_inside(box, height, width) for box in boxes)
    return [box for box in inside if box.width > 0 and box.height > 0]


def _inside(box: Region, height: int, width: int) -> Region:
    left, top = max(0, math.floor(box.x)), max(0, math.floor(box.y))
    right = min(width, math.ceil(box.x + box.width))
    bottom = min(height, math.ceil(box.y + box.height))
    return Region(left, top, right - left, bottom - top)


def _blur(image: Image, box: Region) -> None:
    left, top, width, height = map(int, (box.x, box.y, box.width, box.height))
    part = image[top : top + height, left : left + width]
    few = cv2.resize(part, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    part[:] = cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR)


def _only_windows(image: Image, persons: tuple[Person, ...], rule: CropRule) -> Image:
    height, width = image.shape[:2]
    left = np.full_like(image, GREY)
    for person in persons:
        window = window_of(person.region, height, width, rule)
        rows = slice(max(0, window.top), max(0, window.top + window.height))
        columns = slice(max(0, window.left), max(0, window.left + window.width))
        left[rows, columns] = image[rows, columns]
    return left


def _hidden(person: Person, kept: KeptFrame, heads: list[Region]) -> tuple[int, ...]:
    """The head's joints, and whatever else is predicted where heads are covered."""
    points = person.keypoints[:, :2]
    lost = set(head_joints(kept.keypoint_names))
    for box in heads:
        low = np.array([box.x, box.y])
        inside = (points >= low) & (points <= low + [box.width, box.height])
        lost |= set(np.flatnonzero(inside.all(axis=1)).tolist())
    return tuple(sorted(lost))
