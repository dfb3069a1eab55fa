"""Which frames are meant, and the frames that are: the one home of the filters.

A page of frames begins behind the last one of the page before, by the values that order them, so
that frames which come or go meanwhile neither repeat others nor hide them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa

from misgiving.collector.frames.words import Mark, Order
from misgiving.collector.store.database import Database
from misgiving.collector.store.rows import StoredFrame
from misgiving.collector.store.tables import BATCH_FRAMES, FRAMES, LABELLED
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.nouns import Reason

Columns: TypeAlias = sa.sql.base.ReadOnlyColumnCollection[str, sa.Column[Any]]

_PAGE = 500
_COLUMNS = {
    Order.NEWEST: FRAMES.c.received_time_unix_nano,
    Order.WORST: FRAMES.c.max_predicted_loss,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameSelection:
    """Frames that fit all that is given; of several names, any may fit.

    >>> FrameSelection(devices=("car-*",), reasons=("audit",), reviewed=False).narrow
    True

    Raises:
        InvalidInput: there is no such reason or mark.
    """

    devices: tuple[str, ...] = ()
    """Names; one that ends in ``*`` stands for all that begin so."""
    streams: tuple[str, ...] = ()
    """The same of streams."""
    since_ns: int | None = None
    """Unix nanoseconds of the first arrival."""
    until_ns: int | None = None
    """The end of the arrivals, which is not among them."""
    reasons: tuple[str, ...] = ()
    """Why they were kept: ``predicted_loss``, ``shadow``, ``audit``."""
    campaigns: tuple[str, ...] = ()
    bundle: str = ""
    """How the bundle's digest begins."""
    score: tuple[float, float] | None = None
    """Lowest and highest predicted loss, unitless; a frame without one does not fit."""
    reviewed: bool | None = None
    """Whether somebody has marked them."""
    marks: tuple[str, ...] = ()
    """What the newest mark says."""
    new: bool = False
    """Neither they nor the same picture of another frame were exported to annotators."""
    unlabelled: bool = False
    """No label set has labels made of them."""
    digest: str = ""
    """How the digest begins."""

    def __post_init__(self) -> None:
        _check("reason", self.reasons, [one.value for one in Reason])
        _check("mark", self.marks, [one.value for one in Mark])

    @property
    def narrow(self) -> bool:
        """Whether anything is asked for: else every frame fits."""
        return self != FrameSelection()

    def clauses(self) -> list[sa.ColumnElement[bool]]:
        """What the rows of ``frames`` must fulfil."""
        c, found = FRAMES.c, self.of_names(FRAMES.c)
        if self.reasons and Reason.PREDICTED_LOSS.value not in self.reasons:
            found.append(c.reason != sa.literal_column(f"'{Reason.PREDICTED_LOSS.value}'"))
        if self.campaigns and "" not in self.campaigns:
            found.append(_said(c.campaign))
        if self.since_ns is not None:
            found.append(c.received_time_unix_nano >= self.since_ns)
        if self.until_ns is not None:
            found.append(c.received_time_unix_nano < self.until_ns)
        if self.digest:
            found += _begins(c.digest, self.digest)
        if self.score is not None:
            low, high = self.score
            found += [c.max_predicted_loss >= low, c.max_predicted_loss <= high]
        return found + self._worked_on()

    def of_names(self, c: Columns) -> list[sa.ColumnElement[bool]]:
        """What is asked of names, for the columns ``c`` of frames or of sums over them."""
        found = named(c.device_id, self.devices) + named(c.stream_id, self.streams)
        for column, names in ((c.reason, self.reasons), (c.campaign, self.campaigns)):
            if names:
                found.append(column.in_(names))
        return found + (_begins(c.bundle_digest, self.bundle) if self.bundle else [])

    def _worked_on(self) -> list[sa.ColumnElement[bool]]:
        """Of what people have done with them."""
        c, found = FRAMES.c, list[sa.ColumnElement[bool]]()
        digest = c.digest
        if self.reviewed is not None:
            found.append(_said(c.mark) if self.reviewed else c.mark == sa.literal_column("''"))
        if self.marks:
            found += [c.mark.in_(self.marks), _said(c.mark)]
        if self.new:
            found += [~sa.exists().where(BATCH_FRAMES.c.digest == digest), ~_exported_picture()]
        if self.unlabelled:
            found.append(~sa.exists().where(LABELLED.c.digest == digest))
        return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended; as text for a link: ``str(place)``, ``Place.read(text)``."""

    value: float | int | None
    digest: str

    def __str__(self) -> str:
        return f"{'' if self.value is None else repr(self.value)}~{self.digest}"

    @classmethod
    def read(cls, text: str) -> "Place":
        """Raises InvalidInput where it is no place."""
        value, _, digest = text.partition("~")
        try:
            whole = not value or value.lstrip("-").isdecimal()
            number = None if not value else int(value) if whole else float(value)
        except ValueError:
            digest = ""
        if not digest:
            raise InvalidInput(f"page is {text!r}; expected one that a list named. Go to the first")
        return cls(number, digest)

    @classmethod
    def of(cls, frame: StoredFrame, order: Order) -> "Place":
        """The place of a frame."""
        column = _COLUMNS.get(order)
        return cls(None if column is None else getattr(frame, column.name), frame.digest)


def select_frames(
    connection: sa.Connection,
    selection: FrameSelection,
    *,
    after: Place | None = None,
    order: Order = Order.NEWEST,
    backwards: bool = False,
    limit: int = _PAGE,
    few: bool = False,
) -> list[StoredFrame]:
    """One page of frames.

    Args:
        connection: to the store's database.
        selection: which frames.
        after: where the page before ended; None for the first one.
        order: what comes first; not DIVERSE.
        backwards: the frames before the place instead, the nearest first.
        limit: of frames.
        few: all that fit are few: they are looked for first, and then sorted.
    """
    column, wanted = _COLUMNS.get(order), selection.clauses()
    if column is None or not column.nullable:
        return _part(connection, wanted, column, after, backwards, limit, few)
    # Those without a value come last. Asked for by themselves, so that an index gives the others.
    found: list[StoredFrame] = []
    for valued in (False, True) if backwards else (True, False):
        kind = column.is_not(None) if valued else column.is_(None)
        place = after
        if after is not None and valued != (after.value is not None):
            if valued != backwards:
                continue  # all of them lie on the other side
            place = None
        by = column if valued else None
        left = limit - len(found)
        found += _part(connection, [*wanted, kind], by, place, backwards, left, few)
        if len(found) == limit:
            break
    return found


def every_frame(
    database: Database, selection: FrameSelection, order: Order = Order.NEWEST, limit: int = 0
) -> Iterator[StoredFrame]:
    """All frames, page by page, with no transaction open between two pages; 0 for no limit.

    In the order NEWEST or WORST; for the diverse one see :func:`ordering.ordered_frames`.
    """
    after, left = None, limit or None
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        with database.connect(reads=True) as connection:
            page = select_frames(connection, selection, after=after, order=order, limit=size)
        yield from page
        if len(page) < size:
            return
        left = None if left is None else left - size
        after = Place.of(page[-1], order)


def count_frames(connection: sa.Connection, selection: FrameSelection) -> tuple[int, int]:
    """How many frames there are, and their bytes."""
    size = sa.func.coalesce(sa.func.sum(FRAMES.c.size_bytes), 0)
    row = connection.execute(sa.select(sa.func.count(), size).where(*selection.clauses())).one()
    return int(row[0]), int(row[1])


def named(column: sa.Column[Any], names: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    """That a column has one of some names; one that ends in ``*`` stands for all that begin so."""
    return [sa.or_(*(_is_named(column, name) for name in names))] if names else []


def _exported_picture() -> sa.ColumnElement[bool]:
    other = FRAMES.alias("same_picture")
    same = other.c.image_digest == FRAMES.c.image_digest
    return sa.exists().where(BATCH_FRAMES.c.digest == other.c.digest, same).correlate(FRAMES)


def _part(
    connection: sa.Connection,
    wanted: Sequence[sa.ColumnElement[bool]],
    column: sa.Column[Any] | None,
    after: Place | None,
    backwards: bool,
    limit: int,
    few: bool,
) -> list[StoredFrame]:
    """Frames by a column that all of them have, the greatest first, then by digest."""
    frames: Any = FRAMES
    wanted = list(wanted)
    if few:  # an offset keeps a database from looking through an index in order
        frames, wanted = sa.select(FRAMES).where(*wanted).offset(0).subquery(), []
    digest, column = frames.c.digest, None if column is None else frames.c[column.name]
    ordered: list[Any] = [digest.desc() if backwards else digest]
    if column is not None:
        ordered.insert(0, column.asc() if backwards else column.desc())
    if after:
        rest = digest < after.digest if backwards else digest > after.digest
        if column is not None:  # the first of the two lets an index begin at the place
            wanted.append(column >= after.value if backwards else column <= after.value)
            rest = (column != after.value) | rest
        wanted.append(rest)
    rows = sa.select(frames).where(*wanted).order_by(*ordered).limit(limit)
    return [StoredFrame(**row) for row in connection.execute(rows).mappings()]


def _said(column: sa.Column[str]) -> sa.ColumnElement[bool]:
    return column != sa.literal_column("''")


def _begins(column: sa.Column[str], begin: str) -> list[sa.ColumnElement[bool]]:
    """That a column of hex digits begins so; the range lets an index find it."""
    ends = column < f"{begin}g"  # behind any hex
    return [column.startswith(begin, autoescape=True), column >= begin, ends]


def _is_named(column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
    if name.endswith("*"):
        return column.startswith(name[:-1], autoescape=True)
    return column == name


def _check(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    if unknown := [name for name in given if name not in known]:
        raise InvalidInput(f"{what} is {unknown[0]!r}; expected one of {', '.join(known)}")
