"""What is old goes, by day and reason counted; of what it was nothing is left."""

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
import sqlalchemy as sa

from misgiving.collector.frames.arrivals import Arrivals
from misgiving.collector.frames.devices import DAY_NS
from misgiving.collector.frames.erased import erased_by_day
from misgiving.collector.frames.erasing import erase, erase_old
from misgiving.collector.frames.selection import FrameSelection, select_frames
from misgiving.collector.frames.upkeep import Retention, kept_up
from misgiving.collector.store import Store
from misgiving.collector.store.tables import DECLINED, FRAMES
from misgiving.runtime.errors import InvalidInput
from shared.collecting import body_of, eventually
from shared.reviewing import client_of
from shared.rows import labelled
from shared.services import Place

AGES = {"old": 3, "labelled": 3, "ancient": 9, "young": 0}
"""Days since each frame arrived; the two in the middle have labels."""
FAR = 4_000_000_000 * 10**9


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    now = time.time_ns()
    with place.open() as made:
        digests = {name: made.put(body_of(name)[1]) for name in AGES}
        with made.database.connect() as connection:
            for name in ("labelled", "ancient"):
                labelled(connection, digests[name])
            for name, days in AGES.items():
                row = sa.update(FRAMES).where(FRAMES.c.frame_id == name)
                connection.execute(row.values(received_time_unix_nano=now - days * DAY_NS))
                note = {key: "" for key in ("device_id", "stream_id", "campaign")}
                connection.execute(
                    sa.insert(DECLINED).values(
                        digest=hashlib.sha256(name.encode()).hexdigest(),
                        frame_id=name,
                        reason="near_duplicate",
                        declined_time_unix_nano=now - days * DAY_NS,
                        **note,
                    )
                )
        yield made


def left(store: Store) -> set[str]:
    with store.database.connect(reads=True) as connection:
        return {row.frame_id for row in select_frames(connection, FrameSelection())}


def declined(store: Store) -> set[str]:
    with store.database.connect(reads=True) as connection:
        return set(connection.scalars(sa.select(DECLINED.c.frame_id)))


def counted(store: Store) -> dict[str, int]:
    """Of all days together, as the test may run at midnight."""
    with store.database.connect(reads=True) as connection:
        return {reason: frames for _, reason, frames in erased_by_day(connection, 0)}


@pytest.mark.parametrize(
    ("retention", "stay", "gone"),
    [
        (Retention(days=2), {"labelled", "ancient", "young"}, {"expired": 1}),
        (
            Retention(days=2, labelled_days=5),
            {"labelled", "young"},
            {"expired": 1, "expired_with_labels": 1},
        ),
        (Retention(days=2, labelled_days=2), {"young"}, {"expired": 1, "expired_with_labels": 2}),
        (Retention(), set(AGES), {}),
    ],
)
def test_what_is_old_goes(
    store: Store,
    caplog: pytest.LogCaptureFixture,
    retention: Retention,
    stay: set[str],
    gone: dict[str, int],
) -> None:
    store.append("a" * 64, 0, b"an upload of today")
    arrivals, frames = Arrivals(), sum(gone.values())

    async def scene() -> None:
        async with kept_up(store, arrivals, retention):
            said = f"retention: {frames} frames"
            await asyncio.to_thread(eventually, lambda: not gone or said in caplog.text)

    with caplog.at_level(logging.INFO, "misgiving"):
        asyncio.run(scene())
    assert left(store) == stay
    assert len(list(store.frames())) == len(stay)
    assert counted(store) == gone
    assert declined(store) == ({"young"} if gone else set(AGES))
    assert store.offset("a" * 64) > 0
    erased = arrivals.registry.get_sample_value("misgiving_collector_erased_frames_total")
    assert erased == frames
    of_labels = re.findall("has labels made of (.) of them; delete it", caplog.text)
    assert of_labels == [str(gone[x]) for x in ("expired_with_labels",) if x in gone]


def test_what_two_collectors_erase_at_once_counts_once(store: Store, place: Place) -> None:
    """The second has listed the frames when the first deletes their rows."""
    drop = store.drop

    def meanwhile(digest: str) -> None:
        store.drop = drop
        with place.open() as other:
            assert erase_old(other, FAR).frames == 2
        drop(digest)

    store.drop = meanwhile
    assert erase_old(store, FAR).frames == 0
    assert counted(store) == {"expired": 2}


def test_what_somebody_erases_counts_too(store: Store) -> None:
    erase(store, FrameSelection(until_ns=time.time_ns() - 2 * DAY_NS))
    erase(store, FrameSelection())
    assert counted(store) == {"erased_by_somebody": len(AGES)}
    assert declined(store) == set()


def test_the_overview_has_what_was_erased(store: Store) -> None:
    assert erase_old(store, FAR).frames == 2
    days = {day.isoformat() for day in (datetime.now(timezone.utc).date(),)}
    text = client_of(store).get("/overview").text
    days.add(datetime.now(timezone.utc).date().isoformat())
    row = '<th scope="row">{}expired</th><td class="number">2</td>'
    assert row.format("") in text
    assert any(row.format(f"{day}, ") in text for day in days)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"days": 0}, "--keep-days is 0; expected a number of days from 1 on"),
        ({"labelled_days": 9}, "--keep-labelled-days is 9 and --keep-days is not given; expected"),
        ({"days": 9, "labelled_days": 8}, "--keep-labelled-days is 8 and --keep-days is 9; exp"),
    ],
)
def test_what_is_no_retention(given: dict[str, int], said: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{said}"):
        Retention(**given)
