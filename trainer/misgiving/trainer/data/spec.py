"""Data specs, the same in every command: ``KIND:WHERE[#FIRST-LAST|#@FILE|#SIDE]``.

==============================  =========================================================
``lsp:DIR``                     Leeds Sports Pose
``lspet:DIR``                   its extension
``coco:JSON@IMAGES``            a file of COCO person keypoints, and the folder of its images
``mpii:JSON@IMAGES``            MPII Human Pose as a JSON list, and the folder of its images
``synthetic:SEED,N[,LOW-HIGH]`` N rendered people, difficulty between LOW and HIGH (0-1)
``labels:DIR[@VERSION]``        a label set from ``misgiving annotations import``
``images:DIR``                  images without labels, to select from
``…#1-1000``                    the first thousand; positions count from 1, both ends included
``…#@FILE``                     those whose ids the file lists, one a line, in its order
``labels:…#train``, ``#val``    those on one side of training and validation
==============================  =========================================================
"""

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from misgiving.runtime.errors import DataError
from misgiving.runtime.keypoints import LSP, KeypointSet
from misgiving.trainer.data.base import PoseSet, subset, with_written_names
from misgiving.trainer.data.mapping import mapped
from misgiving.trainer.specs import SPECS


def open_data(spec: str, keypoints: KeypointSet | None = None) -> PoseSet:
    """Open the data set that a spec names.

    >>> people = open_data("synthetic:7,500,0-0.4#1-10")
    >>> len(people), people.keypoints.name
    (10, 'lsp14')

    Args:
        spec: see above.
        keypoints: that the persons are mapped to by the joints' names; the set's own by default
            (LSP's where it has none: ``images:``). A range counts the persons before that.

    Raises:
        DataError: the spec cannot be read, or what it names cannot.
    """
    kind, colon, rest = spec.partition(":")
    where, span = _divided(kind, rest)
    opener = _OPENERS.get(kind)
    if opener is None or not colon or not where:
        raise DataError(f"data spec is {spec!r}; expected {SPECS}")
    data = _open_images(where, keypoints) if kind == "images" and keypoints else opener(where)
    if len(data) == 0:
        raise DataError(f"{spec} holds nobody; expected at least one person")
    data = with_written_names(data)
    if span is not None and span.startswith("@"):
        data = _listed(data, Path(span[1:]))
    elif kind == "labels" and span in ("train", "val"):
        data = _sided(data, where, span)
    elif span is not None:
        data = _ranged(data, span)
    return mapped(data, keypoints) if keypoints else data


def without_folders(spec: str) -> str:
    """A spec, or several, as it may leave this machine: of a path only its last name stays."""
    kinds = "|".join(kind for kind in _OPENERS if kind != "synthetic")
    place = (
        rf"(?P<kind>\b(?:{kinds}):|#@)(?P<where>.*?)(?=#(?:\d+-\d+|train|val)(?: \+ |$)|#@| \+ |$)"
    )
    return re.sub(place, lambda match: match["kind"] + _last_names(match["where"]), spec)


def shared_persons(
    data: PoseSet, others: Iterable[str], largest: int | None = None
) -> tuple[str, ...]:
    """Ids of a set's persons that are in other data too, as far as that can be known here.

    A manifest names data without its folder; the same kind with the same last name counts as the
    same data. What a list chose (``#@FILE``), or lies under another name, cannot be told.

    Args:
        data: the persons, opened from a folder of this machine.
        others: specs as ``without_folders`` gives them.
        largest: what names more persons than that is left out: not all of them were taken.
    """
    places = [_without_span(part)[0] for part in data.spec.split(" + ")]
    here = {without_folders(place): place for place in places}
    shared: set[str] = set()
    for part in (part for spec in others for part in spec.split(" + ")):
        place, span = _without_span(part)
        where = place if place.startswith("synthetic:") else here.get(place)
        if where and not span.startswith("#@"):
            with suppress(DataError):  # what cannot be opened here is not known
                ids = open_data(where + span).ids
                shared |= set(ids if largest is None or len(ids) <= largest else ())
    return tuple(name for name in data.ids if name in shared)


def without_span(spec: str) -> str:
    """A spec without its range or list: the whole set.

    >>> without_span("lsp:DATA/lsp#1-1000")
    'lsp:DATA/lsp'
    """
    return _without_span(spec)[0]


def _divided(kind: str, rest: str) -> tuple[str, str | None]:
    """Where the data is, and its range or list; a ``#`` in the name of what is there is no mark."""
    marks = [len(rest), *(match.start() for match in re.finditer("#", rest))]
    there = next((m for m in sorted(marks, reverse=True) if _is_there(kind, rest[:m])), None)
    mark = min(marks) if there is None else there
    return rest[:mark], rest[mark + 1 :] if mark < len(rest) else None


def _is_there(kind: str, where: str) -> bool:
    if kind in ("coco", "mpii"):
        return any(os.path.exists(a) and os.path.exists(b) for a, b in _halves(where))
    return kind != "synthetic" and os.path.exists(where)


def _without_span(spec: str) -> tuple[str, str]:
    """A set's own name without its range or list, and that with its mark."""
    match = re.fullmatch(r"(.*?)(#\d+-\d+|#train|#val|#@.*)?", spec)
    assert match is not None  # both parts may be empty
    return match[1], match[2] or ""


def _last_names(where: str) -> str:
    both = next(iter(_halves(where)), (where,))
    return "@".join(Path(part).name for part in both)


def _ranged(data: PoseSet, span: str) -> PoseSet:
    match = re.fullmatch(r"(\d+)-(\d+)", span)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= first <= last <= len(data):
        raise DataError(
            f"range is #{span}; expected #FIRST-LAST between 1 and {len(data)}, "
            f"the size of {data.spec}, or #@FILE"
        )
    return subset(data, range(first - 1, last), f"{data.spec}#{span}")


def _sided(data: PoseSet, where: str, side: str) -> PoseSet:
    from misgiving.trainer.data.labels import splits

    known = splits(_folder_of_labels(where)[0])
    places = [place for place, name in enumerate(data.ids) if known[name] == side]
    if not any(known.values()):
        raise DataError(
            f"{data.spec} is of before train and val were told apart; expected a newer one for "
            f"#{side}. Import the annotations again"
        )
    if not places:
        raise DataError(
            f"{data.spec} has nobody for {side} among {len(data)} persons; expected at least one. "
            f"Label more, or take them all, without #{side}"
        )
    return subset(data, places, f"{data.spec}#{side}")


def _listed(data: PoseSet, file: Path) -> PoseSet:
    try:
        lines = file.read_text("utf-8-sig").split("\n")  # nothing else ends a line of ids
        ids = [line.strip() for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise DataError(f"{file}: {reason}; expected a file of ids, one a line") from error
    if not ids:
        raise DataError(f"{file} lists nobody; expected ids of {data.spec}, one a line")
    wanted = set(ids)
    if len(wanted) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise DataError(f"{file} lists {twice} more than once; expected each id once")
    places = {name: index for index, name in enumerate(data.ids) if name in wanted}
    if unknown := [name for name in ids if name not in places]:
        raise DataError(
            f"{file} lists {unknown[0]}, which is not in {data.spec} ({len(unknown)} of {len(ids)} "
            f"are not); expected ids such as {data.ids[0]}"
        )
    return subset(data, [places[name] for name in ids], f"{data.spec}#@{file}")


def _halves(where: str) -> list[tuple[str, str]]:
    """All ways to read FILE.json@FOLDER; more than one where a name has an @ itself."""
    marks = [match.start() for match in re.finditer("@", where)]
    both = [(where[:mark], where[mark + 1 :]) for mark in marks]
    return [(file, folder) for file, folder in both if file[1:].endswith(".json") and folder]


def _file_and_folder(kind: str, where: str) -> tuple[Path, Path]:
    halves = _halves(where)
    if not halves:
        raise DataError(
            f"{kind} data is {where!r}; expected FILE.json@FOLDER, the annotations and the folder "
            "of their images"
        )
    there = (half for half in halves if all(map(os.path.exists, half)))
    file, folder = next(there, halves[0])
    return Path(file), Path(folder)


def _open_lsp(where: str) -> PoseSet:
    from misgiving.trainer.data.lsp import open_lsp

    return open_lsp(Path(where))


def _open_lspet(where: str) -> PoseSet:
    from misgiving.trainer.data.lsp import open_lspet

    return open_lspet(Path(where))


def _open_coco(where: str) -> PoseSet:
    from misgiving.trainer.data.coco import open_coco

    return open_coco(*_file_and_folder("coco", where))


def _open_mpii(where: str) -> PoseSet:
    from misgiving.trainer.data.mpii import open_mpii

    return open_mpii(*_file_and_folder("mpii", where))


def _open_labels(where: str) -> PoseSet:
    from misgiving.trainer.data.labels import open_labels

    return open_labels(*_folder_of_labels(where))


def _folder_of_labels(where: str) -> tuple[Path, str]:
    """The folder, and the version that it must have, empty for any."""
    match = re.fullmatch(r"(.+?)(?:@([0-9a-f]{12}))?", where)
    assert match is not None  # where is not empty
    if os.path.exists(where):
        return Path(where), ""
    return Path(match[1]), match[2] or ""


def _open_images(where: str, keypoints: KeypointSet = LSP) -> PoseSet:
    from misgiving.trainer.data.unlabelled import open_images

    return open_images(Path(where), keypoints)


def _open_synthetic(where: str) -> PoseSet:
    from misgiving.trainer.data.synthetic import open_synthetic

    number = r"(\d*\.?\d+)"
    match = re.fullmatch(rf"(\d+),(\d+)(?:,{number}-{number})?", where)
    low, high = (float(match[3] or 0), float(match[4] or 1)) if match else (1.0, 0.0)
    if match is None or not 0 <= low <= high <= 1 or int(match[2]) < 1:
        raise DataError(
            f"synthetic data is {where!r}; expected SEED,N or SEED,N,LOW-HIGH "
            "with N from 1 and 0 ≤ LOW ≤ HIGH ≤ 1, for example 7,500,0-0.4"
        )
    return open_synthetic(int(match[1]), int(match[2]), (low, high))


_OPENERS: dict[str, Callable[[str], PoseSet]] = {
    "lsp": _open_lsp,
    "lspet": _open_lspet,
    "coco": _open_coco,
    "mpii": _open_mpii,
    "labels": _open_labels,
    "images": _open_images,
    "synthetic": _open_synthetic,
}
