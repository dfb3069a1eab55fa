"""What the verbs ``frames list``, ``show`` and ``status`` print."""

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from misgiving.collector.frames.ordering import ordered_frames
from misgiving.collector.frames.records import (
    aligned,
    details,
    frame_record,
    person_records,
    short,
    table,
)
from misgiving.collector.frames.selection import (
    FrameSelection,
    select_frames,
)
from misgiving.collector.frames.standing import (
    LoopCounts,
    batch_counts,
    loop_counts,
    marks_of,
    standings,
)
from misgiving.collector.frames.summed import count_of
from misgiving.collector.frames.words import Order, spoken_time
from misgiving.collector.store import Store
from misgiving.collector.store.database import Database
from misgiving.collector.store.rows import StoredFrame
from misgiving.runtime import images
from misgiving.runtime.draw import draw_result
from misgiving.runtime.durable import write_durably
from misgiving.runtime.errors import InvalidInput, NotFound, printable
from misgiving.runtime.keypoints import KeypointSet
from misgiving.runtime.wire.collected import KeptFrame

_PAGE = 200
_SUFFIXES = (".png", ".jpg", ".jpeg")


def print_frames(
    database: Database, selection: FrameSelection, order: Order, limit: int, as_json: bool
) -> None:
    """Frames as a table or as JSON lines; a remark on stderr where there are more."""
    rows = ordered_frames(database, selection, order, limit)
    rows = itertools.islice(rows, limit or None)
    shown = 0
    while page := list(itertools.islice(rows, _PAGE)):
        with database.connect(reads=True) as connection:
            known = standings(connection, [row.digest for row in page])
        told = [(row, known[row.digest]) for row in page]
        if as_json:
            lines = [json.dumps(frame_record(*one)) for one in told]
        else:
            lines = table(told)[bool(shown) :]
        print("\n".join(lines))
        shown += len(page)
    with database.connect(reads=True) as connection:
        count = count_of(connection, selection)
    if not count:
        print("no frame fits", file=sys.stderr)
    elif count > shown:
        print(f"{count - shown:,} more; --limit 0 shows all", file=sys.stderr)


def print_frame(
    store: Store, begin: str, *, as_json: bool, image: Path | None, plain: bool
) -> None:
    """One frame with its marks; its picture is written where a file is named.

    Raises:
        NotFound: no frame's digest begins so.
        InvalidInput: several do; the file is there already, or is no picture's name.
        DataError: its object is missing or damaged.
    """
    if plain and image is None:
        raise InvalidInput("--plain is of a picture; expected --image FILE too. Add it")
    if image:
        _check_file(image, _SUFFIXES)
    with store.database.connect(reads=True) as connection:
        row = _the_one(
            select_frames(connection, FrameSelection(digest=begin.lower()), limit=2), begin
        )
        standing = standings(connection, [row.digest])[row.digest]
        marks = marks_of(connection, [row.digest]).get(row.digest, [])
    frame = store.read(row.digest)
    if image:
        write_durably(image, _picture(frame, image, plain))
    if as_json:
        record = frame_record(row, standing) | {"persons": person_records(frame)}
        said = [asdict(one) | {"at": spoken_time(one.at_unix_nano)} for one in marks]
        print(json.dumps(record | {"marks": said}))
        return
    lines = details(row, standing, frame)
    lines += [
        f"  {spoken_time(one.at_unix_nano)} marked {one.mark} by {printable(one.by)}"
        for one in marks
    ]
    print("\n".join(lines))


def print_status(database: Database, selection: FrameSelection, as_json: bool) -> None:
    """Where frames stand, by device and campaign, and what came back of each export."""
    with database.connect(reads=True) as connection:
        counts, batches = loop_counts(connection, selection), batch_counts(connection)
    if as_json:
        for one in counts:
            print(json.dumps(asdict(one) | {"frames": one.frames}))
        return
    whole = LoopCounts(device="all", campaign="", **_sums(counts))
    heading = ("DEVICE", "CAMPAIGN", "FRAMES", "COLLECTED", "REVIEWED", "EXPORTED", "LABELLED")
    print("\n".join(aligned([heading, *map(_cells, [*counts, whole])])))
    for batch in batches:
        print(
            f"export {printable(batch.name)}, {batch.format}, "
            f"{spoken_time(batch.created_unix_nano)}: {batch.frames:,} frames, "
            f"{batch.labelled:,} labelled"
        )


_STAGES = ("collected", "reviewed", "exported", "labelled")


def _sums(counts: list[LoopCounts]) -> dict[str, int]:
    return {stage: sum(getattr(one, stage) for one in counts) for stage in _STAGES}


def _cells(one: LoopCounts) -> tuple[str, ...]:
    numbers = (one.frames, *(getattr(one, stage) for stage in _STAGES))
    return (short(one.device), short(one.campaign), *(f"{number:,}" for number in numbers))


def _the_one(found: list[StoredFrame], begin: str) -> StoredFrame:
    if not found:
        raise NotFound(
            f"no frame's digest begins with {begin!r}; expected one of the store. See 'misgiving "
            "frames list'"
        )
    if len(found) > 1:
        raise InvalidInput(
            f"several frames' digests begin with {begin!r}, {found[0].digest[:16]} and "
            f"{found[1].digest[:16]} among them; expected one. Give more digits"
        )
    return found[0]


def _picture(frame: KeptFrame, file: Path, plain: bool) -> bytes:
    picture: Any = frame.frame.image
    if plain:
        _check_file(file, _SUFFIXES[:1] if picture.startswith(b"\x89PNG") else _SUFFIXES[1:])
        return bytes(picture)
    names = frame.keypoint_names
    joints = KeypointSet(name="", names=names, skeleton=frame.skeleton, torso=())
    persons = [person for person in frame.persons if len(person.keypoints) == len(names)]
    drawn = draw_result(frame.frame.decoded(), persons, joints)
    png = file.suffix.lower() == ".png"
    return images.encode_png(drawn) if png else images.encode_jpeg(drawn)


def _check_file(file: Path, suffixes: Sequence[str]) -> None:
    if file.suffix.lower() not in suffixes:
        known = " or ".join(suffixes)
        raise InvalidInput(f"--image is {file}; expected a name that ends in {known}. Change it")
    if file.exists():
        raise InvalidInput(f"{file} is there already; nothing is overwritten. Give another name")
