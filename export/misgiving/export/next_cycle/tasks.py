"""Picked frames out to annotators as one batch, and labels back as two lists of persons."""

import json
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from misgiving.collector import (
    Corrected,
    Store,
    export_frames,
    read_corrected,
    record_labels,
    write_labels,
)
from misgiving.collector.annotations.coco import ORIGINAL
from misgiving.collector.annotations.exported import Exported
from misgiving.collector.annotations.formats import format_named
from misgiving.collector.annotations.records import record_batch
from misgiving.export.next_cycle.asked import AnnotatorsTable
from misgiving.export.next_cycle.selecting import Picks
from misgiving.runtime.durable import write_durably
from misgiving.runtime.errors import DataError
from misgiving.runtime.labelset import LabelSet, read_labels
from misgiving.runtime.wire.collected import KeptFrame

log = logging.getLogger(__name__)

TRAIN, AUDIT = "train.txt", "audit.txt"
_PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class Labels:
    """What came back."""

    set: LabelSet
    train: tuple[str, ...]
    """Ids of persons that shall teach."""
    audit: tuple[str, ...]
    """Ids of persons that shall calibrate."""
    held_out: int
    """Persons who are not on the side of training in this label set, nor in others to come: they
    teach nothing, so that a validation on them stays one."""
    unseen: int
    """Drawn persons whom nobody has looked at, as far as it is known."""


def export_tasks(store: Store, picks: Picks, folder: Path, format: str) -> tuple[int, int]:
    """Write the picked frames as a batch, where it is not written yet, and have the store note it;
    gives the number of pictures and of persons.

    Raises:
        DataError: more than half of the frames cannot be read.
    """
    if not folder.exists():
        frames = _read(store, [*picks.drawn, *picks.picked])
        export_frames(frames, folder, format=format)
    out = Exported(folder / ORIGINAL)
    images = len(out.images.names)
    record_batch(
        store, folder.name, format, (out.origin_of(one).frame_digest for one in range(images))
    )
    return images, len(out)


def _read(store: Store, digests: list[str]) -> Iterator[tuple[str, KeptFrame]]:
    """Frames of a store; leaves out and names those that are damaged."""
    damaged = 0
    for digest in digests:
        try:
            yield digest, store.read(digest)
        except DataError as error:
            log.warning("frame %s is not exported: %s", digest[:12], error)
            damaged += 1
    if 2 * damaged > len(digests):
        raise DataError(
            f"{damaged} of {len(digests)} picked frames cannot be read; expected at least half. "
            "Restore the store's objects from a backup"
        )


def labels_at(path: Path) -> bool:
    """Whether somebody has put labels there: a file, or a folder that has any."""
    return path.is_file() or (path.is_dir() and any(file.is_file() for file in path.rglob("*")))


def take_labels(
    store: Store, batch: Path, labels: Path, out: Path, asked: AnnotatorsTable, picks: Picks
) -> tuple[Corrected, Labels]:
    """Read what the annotators handed back, and write it as a label set with its two lists.

    Args:
        store: that the frames are of; it notes the label set.
        batch: as it went out.
        labels: the tool's file, or a folder with its files.
        out: folder of the cycle.
        asked: which format, and whether untouched persons are labels.
        picks: who was drawn.

    Raises:
        DataError: see :func:`misgiving.collector.read_corrected`; nobody is left to train on.
    """
    corrected = _corrected(store, batch, labels, asked)
    target = out / "labelset"
    if target.exists() and read_labels(target).version != corrected.labels.version:
        shutil.rmtree(target)  # of a run that was killed, before other labels came
    if not target.exists():
        write_labels(corrected.labels, batch, target)
    record_labels(store, corrected.labels.version, target.resolve(), corrected.frames)
    found = divided(corrected, Exported(batch / ORIGINAL), picks.drawn)
    if not found.train:
        raise DataError(
            f"{labels} has nobody to train on: {len(found.audit)} persons calibrate, "
            f"{found.held_out} are for validation; expected some of others. Label more of {batch}"
        )
    for name, ids in ((TRAIN, found.train), (AUDIT, found.audit)):
        write_durably(out / name, "".join(f"{one}\n" for one in ids).encode())
    return corrected, found


def _corrected(store: Store, batch: Path, labels: Path, asked: AnnotatorsTable) -> Corrected:
    format = asked.format.value
    with tempfile.TemporaryDirectory(prefix="misgiving-labels-") as folder:
        _lay(batch, labels, Path(folder), format)
        try:
            return read_corrected(
                Path(folder), format=format, trust_untouched=asked.trust_untouched, store=store
            )
        except DataError as error:
            raise DataError(str(error).replace(folder, str(labels))) from error


def divided(corrected: Corrected, out: Exported, drawn: Iterable[str]) -> Labels:
    """Who trains and who calibrates: all of a frame do the same."""
    names = {digest[:16] for digest in drawn}
    lists: dict[str, list[str]] = {"train": [], "audit": [], "held out": []}
    for person in corrected.labels.persons:
        if any(person.labelled):
            side = "train" if person.split in (None, "train") else "held out"
            lists["audit" if person.id[:16] in names else side].append(person.id)
    back = {person.id for person in corrected.labels.persons}
    went = [f"{one.frame_digest[:16]}-{one.person_index}" for one in out.origins]
    lost = sum(one[:16] in names and one not in back for one in went)
    unseen = lost if corrected.untouched else 0  # else somebody has deleted them
    train, audit, held_out = lists.values()
    return Labels(corrected.labels, tuple(train), tuple(audit), len(held_out), unseen)


def _lay(batch: Path, labels: Path, folder: Path, format: str) -> None:
    """What came back in the shape that an import reads, pictures left out."""
    shutil.copyfile(batch / ORIGINAL, folder / ORIGINAL)
    name = format_named(format).pattern.replace("*", "misgiving")
    if labels.is_file():
        _copy(labels, folder / name)
        return
    files = [file for file in labels.rglob("*") if file.is_file()]
    files = [one for one in files if one.suffix.lower() not in _PICTURES and one.name != ORIGINAL]
    if len(files) == 1 and files[0].suffix == Path(name).suffix:
        _copy(files[0], folder / name)  # however the tool has called it
        return
    for file in files:
        _copy(file, folder / file.relative_to(labels))


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)


def write_picks(path: Path, picks: Picks) -> None:
    """Durably."""
    write_durably(
        path, json.dumps({"picked": picks.picked, "drawn": picks.drawn}, indent=1).encode() + b"\n"
    )


def read_picks(path: Path) -> Picks:
    """What :func:`write_picks` wrote.

    Raises:
        DataError: somebody has altered it.
    """
    try:
        read = json.loads(path.read_bytes())
        return Picks(tuple(read["picked"]), dict(read["drawn"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no list of picks; name another --out") from error
