"""What is queued reaches the disk together, soon, and the frames of one commit share no fate."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from misgiving.runtime.outbox import spool as spool_module
from misgiving.runtime.outbox.records import Record
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.wire.collected import KeptFrame, to_message
from misgiving.v1.fleet_pb2 import CollectedFrame
from shared.collecting import child, collected, kept, line_of, offer, until_pending


def commits(spool: Spool) -> list[int]:
    """Frames of each commit from now on."""
    said: list[int] = [0]

    def listen(statement: str) -> None:
        if statement.startswith("INSERT"):
            said[-1] += 1
        if statement == "COMMIT":
            said.append(0)

    spool._records._database.set_trace_callback(listen)
    return said


def held(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> threading.Event:
    """The spool's thread waits in front of its first frame; ``then`` is called for each."""
    go_on = threading.Event()

    def slowly(frame: KeptFrame) -> CollectedFrame:
        assert go_on.wait(60)
        then()
        return to_message(frame)

    monkeypatch.setattr(spool_module, "to_message", slowly)
    return go_on


def test_what_is_queued_is_committed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = held(monkeypatch, lambda: None)
    spool = Spool(tmp_path)
    said = commits(spool)
    assert all(offer(spool, collected(str(number))) for number in range(10))
    counts = spool.counts()
    assert (counts.queued, counts.stored) == (10, 0)
    go_on.set()
    spool.close()
    counts = spool.counts()
    assert (counts.queued, counts.queued_age_s, counts.stored) == (0, 0.0, 10)
    assert said == [10, 0]


def test_a_commit_does_not_wait_for_all_of_a_long_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames that take long to get ready are committed each second, by a clock of our own."""
    clock = SimpleNamespace(passed=50.0)
    monkeypatch.setattr(
        spool_module, "time", SimpleNamespace(time=lambda: 2e9, monotonic=lambda: clock.passed)
    )

    def took_long() -> None:
        clock.passed += 0.4

    go_on = held(monkeypatch, took_long)
    spool = Spool(tmp_path)
    said = commits(spool)
    assert all(offer(spool, collected(str(number))) for number in range(7))
    clock.passed += 5.0
    assert spool.counts().queued_age_s == 5.0
    clock.passed -= 5.0
    go_on.set()
    spool.close()
    assert said == [3, 3, 1, 0]


def test_one_that_cannot_be_stored_is_lost_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = held(monkeypatch, lambda: None)
    spool = Spool(tmp_path)
    add = spool._records.change

    def refusing(new: list[Record], *rest: object) -> None:
        if any(record.entry.name == "front/bad" for record in new):
            raise OSError("no room")
        add(new, *rest)

    monkeypatch.setattr(spool._records, "change", refusing)
    assert all(offer(spool, collected(name)) for name in ("one", "bad", "two"))
    go_on.set()
    spool.close()
    counts = spool.counts()
    assert (counts.stored, counts.lost, counts.pending) == (2, 1, 2)
    assert (counts.queued, counts.bytes) == (0, sum(x.size for x in spool._entries.values()))
    spool = Spool(tmp_path)
    assert [entry.name for entry in spool.entries().values()] == ["front/one", "front/two"]
    spool.close()


KILLED = """
import sys
from pathlib import Path
from shared.collecting import collected, offer, until_pending
from misgiving.runtime.outbox.records import Record
from misgiving.runtime.outbox.spool import Spool

spool = Spool(Path(sys.argv[1]))
for number in range(1, 6):
    assert all(offer(spool, collected(f"{number}.{one}")) for one in range(20))
    until_pending(spool, 20 * number)
    print(*spool.pending(), flush=True)
with spool._records.lock:  # as a disk that stalls
    while offer(spool, collected(str(spool.counts().offered))):
        pass
    print(spool.counts().queued, flush=True)
    sys.stdin.read()
"""


def test_a_kill_takes_what_is_queued_and_no_more(tmp_path: Path) -> None:
    with child(KILLED, tmp_path) as process:
        stored = [line_of(process).split() for _ in range(5)][-1]
        assert line_of(process) == "64"  # in memory at most, as the guide says
        process.kill()
        process.wait()
    spool = Spool(tmp_path)
    assert spool.pending() == stored
    assert len(stored) == 100
    for digest in stored:
        assert hashlib.sha256(spool.read(digest)).hexdigest() == digest
    spool.close()


@pytest.mark.parametrize("key", [None, X25519PrivateKey.generate().public_key()])
def test_the_same_frame_twice_in_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: X25519PublicKey | None
) -> None:
    go_on = held(monkeypatch, lambda: None)
    spool = Spool(tmp_path, seal_to=key)
    assert all(spool.offer(kept("one")) for _ in range(3))
    go_on.set()
    until_pending(spool, 1)
    spool.close()
    assert (spool.counts().stored, spool.counts().pending) == (3, 1)
