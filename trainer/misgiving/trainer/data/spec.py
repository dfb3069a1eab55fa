"""Data specs, the same in every command: ``KIND:WHERE[#FIRST-LAST]``.

==============================  =========================================================
``lsp:DIR``                     Leeds Sports Pose
``lspet:DIR``                   its extension
``synthetic:SEED,N[,LOW-HIGH]`` N rendered people, difficulty between LOW and HIGH (0-1)
``labels:DIR[@VERSION]``        a label set from ``misgiving annotations import``
``…#1-1000``                    the first thousand; positions count from 1, both ends included
==============================  =========================================================
"""

import re
from collections.abc import Callable
from pathlib import Path

from misgiving.runtime.errors import DataError
from misgiving.trainer.data.base import PoseSet, subset

HELP = "lsp:DIR, lspet:DIR, synthetic:SEED,N[,LOW-HIGH] or labels:DIR, each with #FIRST-LAST."


def open_data(spec: str) -> PoseSet:
    """Open the data set that a spec names.

    >>> people = open_data("synthetic:7,500,0-0.4#1-10")
    >>> len(people), people.keypoints.name
    (10, 'lsp14')

    Raises:
        DataError: the spec cannot be read, or what it names cannot.
    """
    kind, colon, rest = spec.partition(":")
    where, hash_mark, span = rest.partition("#")
    opener = _OPENERS.get(kind)
    if opener is None or not colon or not where:
        raise DataError(f"data spec is {spec!r}; expected {HELP}")
    data = opener(where)
    if len(data) == 0:
        raise DataError(f"{spec} holds nobody; expected at least one person")
    return _ranged(data, span) if hash_mark else data


def without_folders(spec: str) -> str:
    """A spec, or several, as it may leave this machine: of a folder only its own name stays."""
    kinds = "|".join(kind for kind in _OPENERS if kind != "synthetic")
    return re.sub(rf"\b({kinds}):([^#]*?)(?=#| \+ |$)", lambda m: f"{m[1]}:{Path(m[2]).name}", spec)


def _ranged(data: PoseSet, span: str) -> PoseSet:
    match = re.fullmatch(r"(\d+)-(\d+)", span)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= first <= last <= len(data):
        raise DataError(
            f"range is #{span}; expected #FIRST-LAST between 1 and {len(data)}, "
            f"the size of {data.spec}"
        )
    return subset(data, range(first - 1, last), f"{data.spec}#{span}")


def _open_lsp(where: str) -> PoseSet:
    from misgiving.trainer.data.lsp import open_lsp

    return open_lsp(Path(where))


def _open_lspet(where: str) -> PoseSet:
    from misgiving.trainer.data.lsp import open_lspet

    return open_lspet(Path(where))


def _open_labels(where: str) -> PoseSet:
    from misgiving.trainer.data.labels import open_labels

    match = re.fullmatch(r"(.+?)(?:@([0-9a-f]{12}))?", where)
    assert match is not None  # where is not empty
    return open_labels(Path(match[1]), match[2] or "")


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
    "labels": _open_labels,
    "synthetic": _open_synthetic,
}
