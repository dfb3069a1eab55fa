"""Filters against a slow reference, pages against the whole, and what people write for them."""

from collections.abc import Callable, Iterator

import pytest

from misgiving.collector.frames.selection import (
    FrameSelection,
    Place,
    count_frames,
    every_frame,
    select_frames,
)
from misgiving.collector.frames.summed import count_of
from misgiving.collector.frames.words import Order, moment, score_range, spoken_size, spoken_time
from misgiving.collector.store.database import Database
from misgiving.collector.store.rows import StoredFrame
from misgiving.runtime.errors import InvalidInput
from shared.rows import HOUR, START, database_of, exported, labelled, mark, row

ROWS = [
    row(0),
    row(1, device_id="car-8", stream_id="rear", max_predicted_loss=0.25, reason="audit"),
    row(2, device_id="bus_1", campaign="night", max_predicted_loss=None, reason="audit"),
    row(3, device_id="busX1", bundle_digest="c" * 64, max_predicted_loss=-1.5),
    # the picture of 0 again
    row(4, image_digest=row(0).digest, max_predicted_loss=0.75),
    # at the same time as 4, and as bad as 0; the picture of a row of before is not known
    row(5, received_time_unix_nano=row(4).received_time_unix_nano, image_digest=None),
]
MARKED = {1: "label", 2: "ignore", 4: "confirmed"}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with database_of(tmp_path_factory.mktemp("rows"), ROWS) as database:
        with database.connect() as connection:
            mark(connection, ROWS[1].digest, "false_alarm", START)
            for number, said in MARKED.items():
                mark(connection, ROWS[number].digest, said, START + 1)
            exported(connection, ROWS[0].digest)
            exported(connection, ROWS[1].digest)
            labelled(connection, ROWS[1].digest)
        yield database


def since(number: int) -> int:
    return START + number * HOUR


_CARS = ("car-7", "car-8", "bus_1")
Fits = Callable[[int, StoredFrame], bool]


@pytest.mark.parametrize(
    ("selection", "fits"),
    [
        (FrameSelection(), lambda n, r: True),
        (FrameSelection(devices=("car-7",)), lambda n, r: r.device_id == "car-7"),
        (FrameSelection(devices=("car-*", "bus_1")), lambda n, r: r.device_id in _CARS),
        # what SQL has as any character is none here
        (FrameSelection(devices=("bus_*",)), lambda n, r: r.device_id == "bus_1"),
        (FrameSelection(streams=("rear",)), lambda n, r: n == 1),
        (FrameSelection(since_ns=since(2)), lambda n, r: n >= 2),
        (FrameSelection(until_ns=since(2)), lambda n, r: n < 2),
        (FrameSelection(since_ns=since(1), until_ns=since(3)), lambda n, r: n in (1, 2)),
        (FrameSelection(reasons=("audit", "shadow")), lambda n, r: n in (1, 2)),
        (FrameSelection(campaigns=("night",)), lambda n, r: n == 2),
        (FrameSelection(bundle="cc"), lambda n, r: n == 3),
        (FrameSelection(score=(0.25, 0.5)), lambda n, r: n in (0, 1, 5)),
        (FrameSelection(score=(float("-inf"), 0.25)), lambda n, r: n in (1, 3)),
        (FrameSelection(reviewed=True), lambda n, r: n in MARKED),
        (FrameSelection(reviewed=False), lambda n, r: n not in MARKED),
        # the newest mark counts
        (FrameSelection(marks=("label",)), lambda n, r: n == 1),
        (FrameSelection(marks=("false_alarm",)), lambda n, r: False),
        # 4 has the picture of 0, which was exported
        (FrameSelection(new=True), lambda n, r: n in (2, 3, 5)),
        (FrameSelection(unlabelled=True), lambda n, r: n != 1),
        (FrameSelection(digest=row(3).digest[:63]), lambda n, r: True),
        (FrameSelection(digest=row(3).digest), lambda n, r: n == 3),
        (FrameSelection(devices=("car-7",), reviewed=True), lambda n, r: n == 4),
    ],
)
def test_filters(database: Database, selection: FrameSelection, fits: Fits) -> None:
    expected = {r.digest for n, r in enumerate(ROWS) if fits(n, r)}
    with database.connect(reads=True) as connection:
        found = select_frames(connection, selection)
        counted = count_frames(connection, selection)
        counted_too = count_of(connection, selection)
    assert {frame.digest for frame in found} == expected
    assert counted == (len(found), sum(frame.size_bytes for frame in found))
    assert counted_too == len(found)


ORDERS = {
    Order.NEWEST: [4, 5, 3, 2, 1, 0],
    Order.WORST: [4, 0, 5, 1, 3, 2],
    Order.DRAWN: [0, 1, 2, 3, 4, 5],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [1, 2, 4, 6, 7])
def test_pages_make_the_whole(database: Database, order: Order, size: int) -> None:
    found: list[StoredFrame] = []
    after = None
    with database.connect(reads=True) as connection:
        while page := select_frames(
            connection, FrameSelection(), after=after, order=order, limit=size
        ):
            found += page
            after = Place.read(str(Place.of(page[-1], order)))
    assert [ROWS.index(frame) for frame in found] == ORDERS[order]


@pytest.mark.parametrize("limit", [0, 1, 5, 6, 9])
def test_every_frame(database: Database, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("misgiving.collector.frames.selection._PAGE", 2)
    found = every_frame(database, FrameSelection(), Order.WORST, limit)
    assert [ROWS.index(frame) for frame in found] == ORDERS[Order.WORST][: limit or None]


def test_what_is_no_reason_mark_or_page() -> None:
    for wrong in (
        lambda: FrameSelection(reasons=("bored",)),
        lambda: FrameSelection(marks=("good",)),
        lambda: Place.read("7"),
        lambda: Place.read("x~abc"),
    ):
        with pytest.raises(InvalidInput, match="expected one"):
            wrong()


NOW = 1_796_000_000 * 10**9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 1_796_000_000 - 90),
        ("2h", 1_796_000_000 - 7200),
        ("3d", 1_796_000_000 - 259_200),
        ("2w", 1_796_000_000 - 1_209_600),
        ("2026-11-29", 1_795_910_400),
        ("2026-11-29T14:30", 1_795_962_600),
        ("2026-11-29T14:30Z", 1_795_962_600),
        ("2026-11-29T14:30+01:00", 1_795_959_000),
    ],
)
def test_moments(text: str, seconds: int) -> None:
    assert moment(text, NOW) == seconds * 10**9


@pytest.mark.parametrize("text", ["", "yesterday", "2", "-2h", "2y", "2026-13-01", "29.11.2026"])
def test_no_moments(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected 2026-11-29"):
        moment(text, NOW)


INF = float("inf")


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("0.5-0.9", (0.5, 0.9)),
        ("0.5-", (0.5, INF)),
        ("-0.9", (-INF, 0.9)),
        (".5-1e1", (0.5, 10.0)),
        # losses below zero
        ("-1--0.5", (-1.0, -0.5)),
        ("-1-", (-1.0, INF)),
    ],
)
def test_ranges(text: str, ends: tuple[float, float]) -> None:
    assert score_range(text) == ends


@pytest.mark.parametrize("text", ["", "-", "0.5", "0.9-0.5", "a-b", "nan-1", "1-2-3"])
def test_no_ranges(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected LOW-HIGH"):
        score_range(text)


def test_what_is_told_of_times_and_sizes() -> None:
    assert spoken_time(1_795_962_600 * 10**9 + 999_999_999) == "2026-11-29T14:30:00Z"
    assert spoken_time(0) == ""
    sizes = {834: "834 B", 999_960: "1.0 MB", 12_345: "12.3 kB", 4 * 10**9: "4.0 GB"}
    assert {size: spoken_size(size) for size in sizes} == sizes
    assert spoken_size(10**15) == "1000.0 TB"
