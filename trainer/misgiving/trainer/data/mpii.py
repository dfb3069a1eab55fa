"""MPII Human Pose in its common JSON form (``mpii:JSON@IMAGES``): a list of persons.

``joints_vis`` is 0 where a joint is not labelled; its place, (-1, -1), means nothing. The box is
the square of ``scale`` × 200 px around ``center``, as far as it lies in the image.

The JSON has no head boxes, which PCKh needs. They are read from ``gt_NAME.mat`` beside
``NAME.json`` where that is there, as the common form has it (``gt_valid.mat``): ``headboxes_src``,
(2, 2, N), the corners (x1, y1) and (x2, y2) of each person in the order of the JSON.
"""

import json
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError
from scipy.io import loadmat

from misgiving.runtime import keypoints
from misgiving.runtime.errors import DataError, first_problem
from misgiving.trainer import progress
from misgiving.trainer.data.annotated import Persons, annotated_set, said
from misgiving.trainer.data.base import PoseSet

_SCALE_PX = 200.0
_JOINTS = len(keypoints.MPII)


class _Person(BaseModel):
    model_config = ConfigDict(extra="ignore")

    image: str
    center: tuple[FiniteFloat, FiniteFloat] = (-1.0, -1.0)
    """(-1, -1) where it is not known."""
    scale: FiniteFloat = -1.0
    joints: list[tuple[FiniteFloat, FiniteFloat]] = Field(min_length=_JOINTS, max_length=_JOINTS)
    joints_vis: list[int] = Field(min_length=_JOINTS, max_length=_JOINTS)


def open_mpii(file: Path, folder: Path) -> PoseSet:
    """The persons of an MPII file, those of one image in a row.

    Args:
        file: the JSON file.
        folder: that its image names are relative to.

    Raises:
        DataError: a file cannot be read, is not of this form, or an image is missing.
    """
    spec = f"mpii:{file}@{folder}"
    everybody = _parse(file)
    heads = _head_boxes(file.with_name(f"gt_{file.stem}.mat"), len(everybody))
    places = [place for place, person in enumerate(everybody) if any(person.joints_vis)]
    kept = [everybody[place] for place in places]
    if line := said(len(kept), {"without keypoints": len(everybody) - len(kept)}):
        progress.print_line(f"{spec}: {line}")
    columns = _columns(kept, None if heads is None else heads[places])
    return annotated_set(spec, keypoints.MPII, folder, columns)


def _parse(file: Path) -> list[_Person]:
    try:
        content = file.read_bytes()
        text = content.decode(json.detect_encoding(content))  # with a mark, or UTF-16
        return TypeAdapter(list[_Person]).validate_json(text)
    except OSError as error:
        raise DataError(
            f"{file}: {error.strerror}; expected a JSON file of MPII persons"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not JSON ({error}); copy or export the file again") from error
    except ValidationError as error:
        raise DataError(
            f"{file}: {first_problem(error)}; expected a list of persons with image, center, "
            f"scale, and {_JOINTS} joints and joints_vis"
        ) from error


def _head_boxes(file: Path, count: int) -> NDArray[np.float64] | None:
    """(N, 4): x, y, width, height; NaN where a person has none. None without the file."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}; expected MPII's head boxes") from error
    try:
        content_of_file = loadmat(BytesIO(content))  # type: ignore[arg-type]  # takes any file
        corners = np.asarray(content_of_file["headboxes_src"], np.float64)
    except Exception as error:  # scipy answers a damaged file with nearly any exception
        reason = " ".join(str(error).split())
        raise DataError(
            f"{file} holds no array 'headboxes_src' ({reason}); expected MPII's head boxes. "
            "Download it again, or take it away: only PCKh needs it"
        ) from error
    if corners.shape != (2, 2, count):
        raise DataError(
            f"{file} has headboxes_src of shape {corners.shape}; expected (2, 2, {count}), one for "
            "each person of the JSON file. Take the two of one download"
        )
    low, high = corners.min(axis=0), corners.max(axis=0)
    return np.column_stack([*low, *(high - low)])


def _columns(persons: list[_Person], heads: NDArray[np.float64] | None) -> Persons:
    places = {name: place for place, name in enumerate(dict.fromkeys(p.image for p in persons))}
    points = np.array([person.joints for person in persons], np.float32)
    labelled = np.array([person.joints_vis for person in persons]) > 0
    return Persons(
        ids=_ids(persons),
        files=list(places),
        file=np.array([places[person.image] for person in persons], np.int64),
        points=points.reshape(-1, _JOINTS, 2),
        labelled=labelled.reshape(-1, _JOINTS),
        boxes=_boxes(persons),
        areas=np.zeros(len(persons)),
        head_boxes=heads,
    )


def _boxes(persons: list[_Person]) -> NDArray[np.float64]:
    centres = np.array([person.center for person in persons], np.float64).reshape(-1, 2)
    known = (centres != -1).all(axis=1)
    sides = _SCALE_PX * np.array([person.scale for person in persons], np.float64) * known
    return np.column_stack([centres - sides[:, None] / 2, sides, sides])


def _ids(persons: list[_Person]) -> list[str]:
    """A person has no number: image and centre tell who it is in whichever part of the set."""
    seen: Counter[str] = Counter()
    ids = []
    for person in persons:
        name = f"mpii/{person.image}/{person.center[0]:g},{person.center[1]:g}"
        seen[name] += 1
        ids.append(name if seen[name] == 1 else f"{name}/{seen[name]}")
    return ids
