"""Frames as a folder for machines: pictures, a JSON line for each, and checksums.

::

    OUT/images/<16 digits>.png|jpg  the picture as it came
    OUT/frames.jsonl                what ``frames list --json`` says, with the persons
    OUT/SHA256SUMS                  for ``sha256sum --check``
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from misgiving.collector.frames.ordering import ordered_frames
from misgiving.collector.frames.records import frame_record, person_records
from misgiving.collector.frames.selection import FrameSelection
from misgiving.collector.frames.standing import standings
from misgiving.collector.frames.words import Order
from misgiving.collector.store import Store
from misgiving.collector.store.rows import StoredFrame
from misgiving.runtime.durable import new_folder
from misgiving.runtime.errors import DataError
from misgiving.runtime.labelset import IMAGES
from misgiving.runtime.wire.collected import KeptFrame

log = logging.getLogger(__name__)

FRAMES_FILE, SUMS_FILE = "frames.jsonl", "SHA256SUMS"


@dataclass(slots=True)
class Exported:
    """What :func:`export_frames` wrote."""

    frames: int = 0
    size_bytes: int = 0
    """Of the pictures."""
    repeats: int = 0
    """Frames left out because one of them has the same picture."""
    unreadable: int = 0
    """Frames left out because their objects are missing or damaged; logged by digest."""


def export_frames(
    store: Store,
    out: Path,
    selection: FrameSelection,
    *,
    order: Order = Order.NEWEST,
    limit: int = 0,
    repeats: bool = False,
) -> Exported:
    """Write frames with everything said about them into a new folder.

    Args:
        store: of the collector.
        out: must not exist.
        selection: which frames.
        order: what comes first, and is taken of frames with the same picture.
        limit: of frames; 0 for all.
        repeats: take each of the frames that have the same picture.

    Raises:
        DataError: ``out`` exists or cannot be written, no frame fits, or more than half of them
            cannot be read.
    """
    done, pictures = Exported(), set[str]()
    rows = ordered_frames(store.database, selection, order, limit)
    with new_folder(out) as folder:
        (folder / IMAGES).mkdir()
        for row, frame in _readable(store, rows, done):
            picture = _picture(frame)
            digest = hashlib.sha256(picture).hexdigest()
            if digest in pictures and not repeats:
                done.repeats += 1
                continue
            pictures.add(digest)
            name = f"{IMAGES}/{row.digest[:16]}.{_suffix(picture)}"
            (folder / name).write_bytes(picture)
            _add_line(folder / SUMS_FILE, f"{digest}  {name}")
            _add_line(folder / FRAMES_FILE, json.dumps(_record(store, row, frame, name)))
            done.frames += 1
            done.size_bytes += len(picture)
            if done.frames == limit:
                break
        _check(done)
        listed = hashlib.sha256((folder / FRAMES_FILE).read_bytes()).hexdigest()
        _add_line(folder / SUMS_FILE, f"{listed}  {FRAMES_FILE}")
    return done


def _add_line(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as out:
        out.write(f"{line}\n")


def _readable(
    store: Store, rows: Iterator[StoredFrame], done: Exported
) -> Iterator[tuple[StoredFrame, KeptFrame]]:
    for row in rows:
        try:
            yield row, store.read(row.digest)
        except DataError as error:
            log.warning("frame %s is not exported: %s", row.digest[:12], error)
            done.unreadable += 1


def _record(store: Store, row: StoredFrame, frame: KeptFrame, name: str) -> dict[str, object]:
    with store.database.connect(reads=True) as connection:
        standing = standings(connection, [row.digest])[row.digest]
    said = frame_record(row, standing)
    return {"image": name, **said, "persons": person_records(frame)}


def _picture(frame: KeptFrame) -> bytes:
    image = frame.frame.image
    assert isinstance(image, bytes)  # the store takes no other
    return image


def _suffix(picture: bytes) -> str:
    return "png" if picture.startswith(b"\x89PNG") else "jpg"


def _check(done: Exported) -> None:
    if done.unreadable > done.frames:
        raise DataError(
            f"{done.unreadable} frames cannot be read, {done.frames} can; expected at least half. "
            "Restore the store's objects from a backup"
        )
    if not done.frames:
        raise DataError(
            "no frame of the store fits; expected at least one. Ask for others, or see 'misgiving "
            "frames list'"
        )
