"""Where frames stand in the loop: collected, reviewed, exported to annotators, labelled."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa

from misgiving.collector.frames.selection import FrameSelection
from misgiving.collector.frames.summed import is_summed, summed
from misgiving.collector.store.tables import BATCH_FRAMES, BATCHES, FRAMES, LABELLED, MARKS


class Stage(Enum):
    """How far a frame has come; each frame is at one."""

    COLLECTED = "collected"
    REVIEWED = "reviewed"
    """Somebody has marked it, and it was not exported."""
    EXPORTED = "exported"
    """Annotators have it, and no label set."""
    LABELLED = "labelled"


@dataclass(frozen=True, slots=True)
class Standing:
    """What people have done with a frame."""

    mark: str = ""
    """The newest; empty where there is none."""
    batches: tuple[str, ...] = ()
    label_sets: tuple[str, ...] = ()
    same_as: str = ""
    """The digest of the first frame that has the same picture; empty where that is this one."""

    @property
    def stage(self) -> Stage:
        """How far the frame has come."""
        if self.label_sets:
            return Stage.LABELLED
        if self.batches:
            return Stage.EXPORTED
        return Stage.REVIEWED if self.mark else Stage.COLLECTED


@dataclass(frozen=True, slots=True)
class Said:
    """One mark of a frame."""

    mark: str
    by: str
    at_unix_nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopCounts:
    """Frames of one device and campaign, by where they stand."""

    device: str
    campaign: str
    collected: int = 0
    reviewed: int = 0
    exported: int = 0
    labelled: int = 0

    @property
    def frames(self) -> int:
        """All of them."""
        return self.collected + self.reviewed + self.exported + self.labelled


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCounts:
    """Frames of one export to annotators."""

    name: str
    format: str
    created_unix_nano: int
    frames: int
    labelled: int


def standings(connection: sa.Connection, digests: Iterable[str]) -> dict[str, Standing]:
    """What people have done with each of some frames."""
    wanted = list(digests)
    marked = {digest: said[-1].mark for digest, said in marks_of(connection, wanted).items()}
    batches = _names(connection, BATCH_FRAMES.c.batch, BATCH_FRAMES.c.digest, wanted)
    versions = _names(connection, LABELLED.c.version, LABELLED.c.digest, wanted)
    first = _first_of_pictures(connection, wanted)
    return {
        digest: Standing(
            marked.get(digest, ""),
            tuple(batches[digest]),
            tuple(versions[digest]),
            first.get(digest, ""),
        )
        for digest in wanted
    }


def marks_of(connection: sa.Connection, digests: Iterable[str]) -> dict[str, list[Said]]:
    """All marks of some frames, the newest last."""
    c = MARKS.c
    rows = sa.select(c.digest, c.mark, c.by, c.at_unix_nano).where(c.digest.in_(digests))
    found = defaultdict[str, list[Said]](list)
    for digest, *said in connection.execute(rows.order_by(c.at_unix_nano, c.id)):
        found[digest].append(Said(*said))
    return found


def loop_counts(connection: sa.Connection, selection: FrameSelection) -> list[LoopCounts]:
    """Where frames stand, for each device and campaign that has some."""
    c, total = FRAMES.c, Counter[tuple[str, str]]()
    wanted = selection.clauses()
    if is_summed(selection):  # those that nobody has worked on are the rest
        for row in summed(connection, selection, ("device_id", "campaign"), ("frames",)):
            total[row.device_id, row.campaign] = row.frames
        worked = [sa.select(one.c.digest) for one in (LABELLED, BATCH_FRAMES, MARKS)]
        wanted.append(c.digest.in_(sa.union(*worked)))
    stage = sa.case(
        (sa.exists().where(LABELLED.c.digest == c.digest), Stage.LABELLED.value),
        (sa.exists().where(BATCH_FRAMES.c.digest == c.digest), Stage.EXPORTED.value),
        (sa.exists().where(MARKS.c.digest == c.digest), Stage.REVIEWED.value),
        else_=Stage.COLLECTED.value,
    )
    each = sa.select(c.device_id, c.campaign, stage.label("stage"))
    one = each.where(*wanted).subquery()
    by = one.c.device_id, one.c.campaign
    rows = sa.select(*by, one.c.stage, sa.func.count()).group_by(*by, one.c.stage)
    counts = defaultdict[tuple[str, str], dict[str, int]](dict)
    for device, campaign, name, count in connection.execute(rows):
        counts[device, campaign][name] = count
    for key, frames in total.items():
        rest = frames - sum(counts[key].values())
        counts[key] |= {Stage.COLLECTED.value: rest} if rest else {}
    return [LoopCounts(device=d, campaign=g, **of) for (d, g), of in sorted(counts.items())]


def batch_counts(connection: sa.Connection) -> list[BatchCounts]:
    """Every export to annotators, in their order, and how much of it came back."""
    each, done = BATCH_FRAMES.c, sa.exists().where(LABELLED.c.digest == BATCH_FRAMES.c.digest)
    labelled = sa.func.coalesce(sa.func.sum(sa.case((done, 1), else_=0)), 0)
    c = BATCHES.c
    rows = (
        sa.select(c.name, c.format, c.created_unix_nano, sa.func.count(each.digest), labelled)
        .select_from(BATCHES.outerjoin(BATCH_FRAMES, each.batch == c.name))
        .group_by(c.name, c.format, c.created_unix_nano)
        .order_by(c.created_unix_nano, c.name)
    )
    names = ("name", "format", "created_unix_nano", "frames", "labelled")
    return [BatchCounts(**dict(zip(names, row, strict=True))) for row in connection.execute(rows)]


def _names(
    connection: sa.Connection, name: sa.Column[Any], digest: sa.Column[Any], digests: list[str]
) -> dict[str, list[str]]:
    found = defaultdict[str, list[str]](list)
    rows = sa.select(digest, name).where(digest.in_(digests)).order_by(digest, name)
    for one, text in connection.execute(rows):
        found[one].append(text)
    return found


def _first_of_pictures(connection: sa.Connection, digests: list[str]) -> dict[str, str]:
    """For each frame that repeats a picture the first one that has it."""
    other = FRAMES.alias("other")
    c, o = FRAMES.c, other.c
    rows = (
        sa.select(c.digest, o.digest)
        .join(other, o.image_digest == c.image_digest)
        .where(c.digest.in_(digests))
        .order_by(c.digest, o.received_time_unix_nano, o.digest)
    )
    first: dict[str, str] = {}
    for digest, same in connection.execute(rows):
        first.setdefault(digest, same)
    return {digest: same for digest, same in first.items() if same != digest}
