"""From one keypoint set to another, by the joints' names; and keypoint sets in TOML files.

Axes: N persons, K keypoints.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from misgiving.runtime.errors import DataError, first_problem
from misgiving.runtime.keypoints import SETS, KeypointSet, places_of
from misgiving.trainer import progress
from misgiving.trainer.data.base import PoseSet, Sample, subset

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def mapped(data: PoseSet, target: KeypointSet) -> PoseSet:
    """The same persons with the joints of another set.

    A joint that the data lacks is not labelled; what the target lacks is left out, as is a person
    of whom nothing remains, and one line on stderr says so. A person's box stays what it was.

    Raises:
        DataError: no joint has the same name in both.
    """
    names = data.keypoints.names
    if names == target.names:
        return replace(data, keypoints=target)
    places = np.array(places_of(names, target.names))
    shared = places >= 0
    if not shared.any():
        raise DataError(
            f"{data.spec} has none of the joints of {target.name}: {', '.join(names[:3])}…; "
            f"expected names as {', '.join(target.names[:3])}…. Take another keypoint set"
        )

    def read(index: int) -> Sample:
        sample = data.read(index)
        points = np.where(shared[:, None], sample.points[places], np.float32(0))
        labelled = sample.labelled[places] & shared
        hidden = None if sample.hidden is None else sample.hidden[places] & shared
        return replace(sample, points=points, labelled=labelled, box=sample.region, hidden=hidden)

    known = None if data.labelled is None else data.labelled[:, places] & shared
    kept = range(len(data)) if known is None else np.flatnonzero(known.any(axis=1))
    if len(kept) == 0:
        raise DataError(
            f"{data.spec} has nobody with a joint of {target.name}; expected at least one"
        )
    moved = PoseSet(data.spec, target, data.ids, read, known)
    _tell(data, target, places, len(data) - len(kept))
    return moved if len(kept) == len(data) else subset(moved, kept)


def _tell(data: PoseSet, target: KeypointSet, at: NDArray[np.int64], nobody: int) -> None:
    names = data.keypoints.names
    dropped = [name for index, name in enumerate(names) if index not in at]
    lacking = [name for name, index in zip(target.names, at, strict=True) if index < 0]
    renamed = [
        f"{names[index]} is {name}"
        for name, index in zip(target.names, at, strict=True)
        if index >= 0 and names[index] != name
    ]
    parts = (
        f"{len(renamed)} joints in another spelling ({renamed[0]})" if renamed else "",
        f"left out {', '.join(dropped)}" if dropped else "",
        f"{', '.join(lacking)} not labelled" if lacking else "",
        f"{nobody} persons have none of these joints and are left out" if nobody else "",
    )
    said = "; ".join(part for part in parts if part)
    if said:
        progress.print_line(f"{data.spec}: as {target.name}: {said}")


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(min_length=1)
    names: list[str] = Field(min_length=1)
    skeleton: list[list[str]]
    torso: list[list[str]]
    """Diagonals whose longer one normalises PCK; empty where there is no torso."""
    sigmas: dict[str, PositiveFloat] | None = None
    """OKS constants; a joint that is not in it does not count in OKS. None for COCO's, by name."""


def keypoints_named(name: str) -> KeypointSet:
    """A keypoint set by its name, or of a ``.toml`` file.

    >>> keypoints_named("coco17").names[:3]
    ('nose', 'left_eye', 'right_eye')

    Raises:
        DataError: there is no set of that name, or the file cannot be read or contradicts itself.
    """
    if name in SETS:
        return SETS[name]
    if not name.endswith(".toml"):
        raise DataError(f"keypoints are {name!r}; expected {', '.join(SETS)} or a .toml file")
    try:
        return _keypoints(_File.model_validate(tomllib.loads(Path(name).read_text("utf-8-sig"))))
    except OSError as error:
        raise DataError(f"{name}: {error.strerror}; expected a keypoint set in TOML") from error
    except ValidationError as error:
        raise DataError(f"{name}: {first_problem(error)}") from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or no name of a joint
        raise DataError(f"{name}: {error}") from error


def _keypoints(file: _File) -> KeypointSet:
    strange = sorted(set(file.sigmas or ()) - set(file.names))
    if strange:
        raise ValueError(f"sigmas: {strange[0]!r} is not in names; expected one of them")
    sigmas = None if file.sigmas is None else [file.sigmas.get(name) for name in file.names]
    return KeypointSet(
        name=file.name,
        names=tuple(file.names),
        skeleton=_pairs(file, "skeleton"),
        torso=_pairs(file, "torso"),
        sigmas=tuple(sigmas or ()),
    )


def _pairs(file: _File, key: str) -> tuple[tuple[int, int], ...]:
    pairs: list[list[str]] = getattr(file, key)
    for pair in pairs:
        if len(pair) != 2 or not set(pair) <= set(file.names):
            raise ValueError(f"{key}: {pair} is not two of names; expected pairs of joints")
    return tuple((file.names.index(a), file.names.index(b)) for a, b in pairs)
