"""What threads write at once is one transaction, and nobody hears of it before it is done."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from misgiving.collector.store import Store
from misgiving.collector.store.database import Locked
from misgiving.collector.store.together import Together
from shared.collecting import DEADLINE_S, body_of, eventually


class Writer:
    """Writes when it is let; fails where it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.fails: Exception = OSError("full")
        self.began, self.go_on = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(sorted(items))
        self.began.release()
        assert self.go_on.acquire(timeout=DEADLINE_S)
        if -1 in items:
            raise self.fails
        return [10 * item for item in items]


def test_what_comes_during_a_write_is_written_together() -> None:
    together = Together(writer := Writer())
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(together.do, 0)
        assert writer.began.acquire(timeout=DEADLINE_S)
        others = [pool.submit(together.do, number) for number in range(1, 6)]
        eventually(lambda: len(together._waiting) == 5)
        assert not any(one.done() for one in (first, *others))
        writer.go_on.release(2)
        assert [one.result(DEADLINE_S) for one in (first, *others)] == [0, 10, 20, 30, 40, 50]
    assert writer.batches == [[0], [1, 2, 3, 4, 5]]


def test_what_cannot_be_written_fails_alone() -> None:
    together = Together(writer := Writer())
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(together.do, 0)
        assert writer.began.acquire(timeout=DEADLINE_S)
        bad, good = [pool.submit(together.do, number) for number in (-1, 1)]
        eventually(lambda: len(together._waiting) == 2)
        writer.go_on.release(5)
        assert (first.result(DEADLINE_S), good.result(DEADLINE_S)) == (0, 10)
        with pytest.raises(OSError, match="full"):
            bad.result(DEADLINE_S)
    assert writer.batches[:2] == [[0], [-1, 1]]
    assert together.do(2) == 20


def test_nobody_waits_twice_for_a_lock() -> None:
    """Neither who was in the transaction, nor who came while it waited; the next one may try."""
    together = Together(writer := Writer())
    writer.fails = Locked("held")
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(together.do, -1)]
        assert writer.began.acquire(timeout=DEADLINE_S)
        calls += [pool.submit(together.do, number) for number in (1, 2, 3)]
        eventually(lambda: len(together._waiting) == 3)
        writer.go_on.release(2)
        for call in calls:
            with pytest.raises(Locked, match="held"):
                call.result(DEADLINE_S)
    assert writer.batches == [[-1]]
    assert together.do(2) == 20


def test_rows_of_threads_share_a_transaction(tmp_path: Path) -> None:
    """While somebody else writes to the database, they gather."""
    commits = list[object]()
    with Store(tmp_path) as store, ThreadPoolExecutor(8) as pool:
        with store.database.connect():
            new = [pool.submit(store.put, body_of(f"f{number}")[1]) for number in range(8)]
            eventually(lambda: len(store._rows._together._waiting) == 7)
            sa.event.listen(store.database._engine, "commit", commits.append)
        assert len({one.result(DEADLINE_S) for one in new}) == store.count() == 8
    # that of the one who held them up, of the first, of the seven; and of the one who counts
    assert len(commits) == 4
