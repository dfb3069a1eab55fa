"""Worst frames that are spread: nobody is lost, what repeats comes late."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from misgiving.collector import FrameSelection, Order, pick_diverse
from misgiving.collector.frames import diverse
from misgiving.collector.frames.ordering import ordered_frames
from misgiving.collector.store.database import Database
from misgiving.collector.store.rows import StoredFrame
from misgiving.collector.store.tables import FRAMES
from shared.rows import database_of, exported, labelled, row

SCENES, EACH, SIZE = 8, 50, 16


def scenes(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Embeddings and scores of frames of some scenes, one after another; the first has the worst.

    Lengths differ, as only directions count.
    """
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.normal(size=(SCENES, SIZE)), EACH, axis=0)
    rows = centres + 0.1 * rng.normal(size=centres.shape)
    scores = rng.random(len(rows)) + np.repeat(np.arange(SCENES, 0, -1) > SCENES - 1, EACH)
    return (rows * rng.uniform(0.1, 10, (len(rows), 1))).astype(np.float32), scores


def scene(picks: NDArray[np.int64]) -> list[int]:
    return (picks // EACH).tolist()


def test_the_worst_of_each_scene() -> None:
    rows, scores = scenes()
    worst = np.argsort(-scores)[:SCENES]
    assert set(scene(worst)) == {0}
    picks = pick_diverse(rows, scores, 2 * SCENES)
    assert len(set(scene(picks))) >= SCENES - 1
    assert picks[0] == worst[0]
    rng = np.random.default_rng(1)
    drawn = np.mean([scores[rng.permutation(len(rows))[: 2 * SCENES]].mean() for _ in range(20)])
    assert scores[picks].mean() > drawn + 0.3
    assert pick_diverse(rows, scores, 2 * SCENES).tolist() == picks.tolist()


@pytest.mark.parametrize("count", [1, 7, SCENES * EACH, SCENES * EACH + 9])
def test_nobody_is_lost_or_picked_twice(count: int) -> None:
    rows, scores = scenes()
    picks = pick_diverse(rows, scores, count)
    assert len(picks) == len(set(picks.tolist())) == min(count, len(rows))


def test_what_is_not_known_comes_last() -> None:
    rows, scores = scenes()
    rows[3], rows[4, 2], rows[5], scores[6] = np.nan, np.inf, 0, np.nan
    scores[3:6] = 99
    picks = pick_diverse(rows, scores, len(rows))
    assert set(picks[-4:].tolist()) == {3, 4, 5, 6}
    nothing = pick_diverse(np.full((3, SIZE), np.nan), np.array([1.0, 3.0, 2.0]), 2)
    assert nothing.tolist() == [1, 2]
    assert pick_diverse(np.empty((3, 0)), np.arange(3.0), 3).tolist() == [2, 1, 0]
    assert pick_diverse(np.empty((0, SIZE)), np.empty(0), 5).size == 0


def test_what_repeats_counts_once() -> None:
    rows, scores = scenes()
    rows[-1], scores[-1] = np.nan, 99
    rows[: EACH - 1] = rows[0]  # a scene that stands still, and one frame of it that does not
    picks = pick_diverse(rows, scores, len(rows))
    places = [picks.tolist().index(n) for n in range(EACH - 1)]
    worst = int(np.argmax(scores[: EACH - 1]))
    assert places[worst] == min(places) < SCENES
    assert sorted(places)[1] == len(rows) - 1 - (EACH - 2)
    again = pick_diverse(rows, scores, len(rows), labelled=rows[:1])
    assert {n for n in again[-EACH:-1].tolist()} == set(range(EACH - 1))


def test_labelled_scenes_wait() -> None:
    rows, scores = scenes()
    others = pick_diverse(rows, scores, SCENES, labelled=scenes(0)[0][: EACH // 2] * 2)
    assert scene(pick_diverse(rows, scores, 1)) == [0]
    assert 0 not in scene(others[: SCENES // 2])


def test_only_directions_count() -> None:
    rows, scores = scenes()
    longer = rows * 2.0 ** (np.arange(len(rows))[:, None] % 9)
    assert pick_diverse(longer, scores, 30).tolist() == pick_diverse(rows, scores, 30).tolist()


def test_parts_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, scores = scenes()
    whole = pick_diverse(rows, scores, 30)
    monkeypatch.setattr(diverse, "_BLOCK", 7)
    assert pick_diverse(rows, scores, 30).tolist() == whole.tolist()


def frame(number: int, embedding: NDArray[np.float32] | None, score: float | None) -> StoredFrame:
    packed = None if embedding is None else embedding.astype("<f4").tobytes()
    return row(number, embedding=packed, max_predicted_loss=score)


@pytest.fixture
def rows() -> list[StoredFrame]:
    """Scenes; a frame without an embedding, one without a score, one whose embedding is longer."""
    embeddings, scores = scenes()
    made = [frame(n, *one) for n, one in enumerate(zip(embeddings, scores.tolist(), strict=True))]
    return [
        *made,
        frame(1000, None, 50.0),
        frame(1001, embeddings[0], None),
        frame(1002, np.ones(2 * SIZE, np.float32), 0.1),
        frame(1003, np.arange(2 * SIZE, dtype=np.float32), 0.2),
    ]


def numbers(frames: list[StoredFrame]) -> list[int]:
    return [int(one.digest, 16) for one in frames]


def test_frames_of_a_store(
    tmp_path: Path, rows: list[StoredFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_AT_ONCE", "_PAGE"):
        monkeypatch.setattr(f"misgiving.collector.frames.ordering.{name}", 30)
    with database_of(tmp_path, rows) as database:
        found = list(ordered_frames(database, FrameSelection(), Order.DIVERSE, 20))
        assert sorted(numbers(found)) == sorted(numbers(rows))
        assert found[0] == rows[int(np.argmax(scenes()[1]))]
        assert set(numbers(found[-2:])) == {1000, 1001}  # as nothing is known of them
        ours = found[:20]
        assert len({n // EACH for n in numbers(ours)} & set(range(SCENES))) >= SCENES - 1
        some = FrameSelection(score=(0.5, 0.9))
        fewer = numbers(list(ordered_frames(database, some, Order.DIVERSE)))
        fit = [n for n, score in enumerate(scenes()[1].tolist()) if 0.5 <= score <= 0.9]
        assert sorted(fewer) == fit
        assert not list(ordered_frames(database, FrameSelection(devices=("no",)), Order.DIVERSE))


def test_each_bundle_has_its_share(tmp_path: Path) -> None:
    """However large its scores are beside those of the other one."""
    embeddings, scores = scenes()
    ours = [frame(n, *one) for n, one in enumerate(zip(embeddings, scores.tolist(), strict=True))]
    others = [
        replace(row, digest=f"{2000 + n:064x}", bundle_digest="c" * 64, max_predicted_loss=100.0)
        for n, row in enumerate(ours[::2])
    ]
    with database_of(tmp_path, [*ours, *others]) as database:
        found = list(ordered_frames(database, FrameSelection(), Order.DIVERSE, 30))[:30]
    assert sum(row.bundle_digest == "c" * 64 for row in found) == 10


@pytest.mark.parametrize("noted", [exported, labelled])
def test_what_annotators_have_waits(
    tmp_path: Path, rows: list[StoredFrame], noted: Callable[[sa.Connection, str], None]
) -> None:
    """Whether it is labelled yet or not; the frames themselves may be asked for all the same."""

    def first(database: Database) -> list[int]:
        found = list(ordered_frames(database, FrameSelection(), Order.DIVERSE, SCENES))
        return [n // EACH for n in numbers(found)[: SCENES // 2]]

    with database_of(tmp_path, rows) as database:
        assert 0 in first(database)
        with database.connect() as connection:
            for n in range(0, EACH, 2):
                noted(connection, rows[n].digest)
        assert 0 not in first(database)


def test_frames_that_are_erased_meanwhile(tmp_path: Path, rows: list[StoredFrame]) -> None:
    with database_of(tmp_path, rows) as database:
        found = ordered_frames(database, FrameSelection(), Order.DIVERSE, 20)
        first = next(found)
        with database.connect() as connection:
            connection.execute(sa.delete(FRAMES))
        assert first == rows[int(np.argmax(scenes()[1]))]
        # what was read of the page is still told
        assert len(list(found)) < len(rows)
