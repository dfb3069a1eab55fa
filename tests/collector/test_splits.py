"""A frame has one side for good, and what is nearly the same is not on both."""

import numpy as np
import pytest

from misgiving.collector.annotations.coco import FrameOrigin
from misgiving.collector.annotations.splits import MOMENT_S, PIECE_S, VAL_SHARE, split_of

PIECES = 3000
NANO = 10**9


def frame(time_s: float, *, stream: str = "front", digest: str = "a" * 64) -> FrameOrigin:
    return FrameOrigin(
        frame_digest=digest,
        sampling_probability=1,
        bundle_digest="b",
        device_id="car-7" if stream else "",
        stream_id=stream,
        capture_time_unix_nano=round(time_s * NANO),
    )


def test_shares() -> None:
    """Of the middles of pieces, which nothing is near to."""
    sides = [split_of(frame((piece + 0.5) * PIECE_S)) for piece in range(PIECES)]
    assert set(sides) == {"train", "val"}
    # Four standard deviations of a binomial.
    spread = 4 * np.sqrt(VAL_SHARE * (1 - VAL_SHARE) / PIECES)
    assert sides.count("val") / PIECES == pytest.approx(VAL_SHARE, abs=spread)


def test_near_frames_are_not_on_both_sides() -> None:
    """A frame every five seconds through two weeks of one stream."""
    times = np.arange(0, 14 * 24 * 3600, 5)
    sides = np.array([split_of(frame(1.7e9 + time)) for time in times.tolist()])
    val, train = times[sides == "val"], times[sides == "train"]
    nearest = np.abs(val - train[np.clip(np.searchsorted(train, val), 0, len(train) - 1)])
    before = np.abs(val - train[np.clip(np.searchsorted(train, val) - 1, 0, None)])
    assert min(nearest.min(), before.min()) >= MOMENT_S
    assert 0 < (sides == "neither").mean() < 2 * MOMENT_S / PIECE_S * VAL_SHARE


def test_a_side_is_for_good() -> None:
    """These answers must never change: label sets of before hold them."""
    sides = [split_of(frame(1.7e9 + 600 * piece)) for piece in range(20)]
    assert [place for place, side in enumerate(sides) if side == "val"] == [9, 12]
    assert split_of(frame(1.7e9)) == split_of(frame(1.7e9, digest="c" * 64))


@pytest.mark.parametrize("stream", ["front", "rear"])
def test_frames_without_a_time_stay_with_their_stream(stream: str) -> None:
    sides = {split_of(frame(0, stream=stream, digest=f"{one:064x}")) for one in range(100)}
    assert len(sides) == 1


def test_frames_of_nowhere_go_by_themselves() -> None:
    sides = {split_of(frame(0, stream="", digest=f"{one:064x}")) for one in range(100)}
    assert sides == {"train", "val"}
