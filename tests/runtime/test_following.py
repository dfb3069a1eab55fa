"""Following persons from frame to frame, and where to look in general."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from misgiving.runtime.geometry import Region
from misgiving.runtime.nouns import Answer, Frame, Person, make_frame
from misgiving.runtime.persons import lookout as looking
from misgiving.runtime.persons.finding import Picture
from misgiving.runtime.persons.following import LOST_FROM, Trail, next_regions
from misgiving.runtime.persons.lookout import Lookout

HEIGHT, WIDTH = 90, 120
IMAGE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
NOTHING = np.empty(0, np.float32)

coordinates = st.one_of(st.floats(-50, 200, width=32), st.just(float("nan")))
doubts = st.one_of(st.none(), st.floats(0, 1))
poses = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=4)
crowds = st.lists(st.tuples(poses, doubts), max_size=5)


def person(points: list[tuple[float, float]], doubt: float | None = 0.0) -> Person:
    keypoints = np.array([(x, y, 0.5) for x, y in points], np.float32)
    return Person(Region(0, 0, 9, 9), keypoints, 0.1, doubt, NOTHING, NOTHING)


def standing(x: float, doubt: float | None = 0.0) -> Person:
    """20 px wide and 40 px high."""
    return person([(x, 20), (x + 20, 60)], doubt)


def answer(*persons: Person) -> Answer:
    return Answer("", persons, "")


@given(crowds)
def test_only_those_who_are_sure_are_followed_and_with_all_of_their_joints(
    crowd: list[tuple[list[tuple[float, float]], float | None]],
) -> None:
    regions = next_regions([person(*one) for one in crowd])
    sure = [
        points
        for points, doubt in crowd
        if doubt is not None and doubt < LOST_FROM and np.isfinite(points).all()
    ]
    assert len(regions) <= len(sure)
    assert bool(regions) == bool(sure)
    for region in regions:
        assert any(_holds(region, points) for points in sure)


@given(crowds, st.integers(1, 200), st.integers(1, 200))
def test_regions_within_an_image_are_whole_pixels_of_it(
    crowd: list[tuple[list[tuple[float, float]], float | None]], height: int, width: int
) -> None:
    trail = Trail(next_regions([person(*one) for one in crowd]), 1)
    for region in trail.within(height, width):
        assert 0 <= region.x < region.x + region.width <= width
        assert 0 <= region.y < region.y + region.height <= height
        assert all(float(side).is_integer() for side in (region.x, region.y, region.width))


def _holds(region: Region, points: list[tuple[float, float]]) -> bool:
    low = np.array([region.x, region.y]) - 1e-3
    high = low + [region.width, region.height] + np.float64(2e-3)
    return bool(((np.array(points) >= low) & (np.array(points) <= high)).all())


@given(st.integers(1, 9), st.integers(1, 30))
def test_a_full_look_comes_every_so_many_frames(every: int, frames: int) -> None:
    trail, full = Trail(), []
    for frame in range(frames):
        if not trail.regions:
            full.append(frame)
        trail = trail.after([standing(50)], every)
    assert full == list(range(0, frames, every))


def test_the_region_is_the_joints_box_grown() -> None:
    assert next_regions([standing(50)]) == (Region(49, 18, 22, 44),)


def test_of_two_in_one_place_the_surer_is_followed() -> None:
    both = next_regions([standing(50, 0.4), standing(51, 0.1)])
    assert both == next_regions([standing(51)])


class Detecting:
    """Finds who is there, and counts how often it was asked."""

    most = 7

    def __init__(self, *there: Region) -> None:
        self.there, self.looks = there, 0

    def find(self, image: Picture) -> tuple[Region, ...]:
        self.looks += 1
        return self.there


FIXED = Region(1, 2, 30, 40)
FOUND = Region(40, 20, 20, 40)
CAMERA = make_frame(IMAGE, stream_id="front")


@pytest.mark.parametrize(
    ("frame", "most", "expected"),
    [
        (CAMERA, 1, (FIXED,)),
        (make_frame(IMAGE, stream_id="rear"), 7, (FOUND,)),
        (make_frame(IMAGE), 7, (FOUND,)),
    ],
)
def test_fixed_regions_come_before_a_detector(
    frame: Frame, most: int, expected: tuple[Region, ...]
) -> None:
    lookout = Lookout(Detecting(FOUND), {"front": [FIXED]})
    assert lookout.find(frame, IMAGE) == expected
    assert lookout.most(frame) == most


def test_without_a_detector_the_whole_frame_is_looked_at() -> None:
    assert Lookout(fixed={"front": [FIXED]}).find(make_frame(IMAGE), IMAGE) is None


def test_whoever_was_seen_is_looked_for_there_until_lost() -> None:
    detector = Detecting(FOUND)
    lookout = Lookout(detector, follow=10)
    assert lookout.find(CAMERA, IMAGE) == (FOUND,)
    lookout.seen(CAMERA, answer(standing(50)))
    assert lookout.find(CAMERA, IMAGE) == (Region(49, 18, 22, 44),)
    assert lookout.find(make_frame(IMAGE, stream_id="rear"), IMAGE) == (FOUND,)  # not its person
    assert detector.looks == 2
    lookout.seen(CAMERA, answer(standing(50, LOST_FROM)))
    assert lookout.find(CAMERA, IMAGE) == (FOUND,)
    lookout.seen(CAMERA, answer(standing(WIDTH)))  # walked out of the picture
    assert lookout.find(CAMERA, IMAGE) == (FOUND,)


@pytest.mark.parametrize(
    "frame", [make_frame(IMAGE), make_frame(IMAGE, [FIXED], stream_id="front")]
)
def test_nobody_is_followed_without_a_stream_or_beside_the_clients_regions(frame: Frame) -> None:
    lookout = Lookout(Detecting(FOUND), follow=10)
    lookout.seen(frame, answer(standing(50)))
    assert not lookout.follows(frame)
    assert lookout.find(CAMERA, IMAGE) == (FOUND,)


def test_the_stream_that_was_silent_longest_is_forgotten_first() -> None:
    lookout = Lookout(Detecting(FOUND), follow=10)
    frames = [make_frame(IMAGE, stream_id=str(i)) for i in range(looking.MAX_STREAMS + 1)]
    for frame in [*frames[:-1], frames[0], frames[-1]]:
        lookout.seen(frame, answer(standing(50)))
    followed = [lookout.find(frame, IMAGE) != (FOUND,) for frame in frames]
    assert followed == [True, False, *[True] * (len(frames) - 2)]
