"""Drawn persons: colours by side and state, pale doubts, strokes that grow, free labels."""

import math
from dataclasses import replace

import numpy as np
import pytest

from misgiving.runtime.draw import (
    AMBER,
    CENTRE,
    GREY,
    LEFT,
    RED,
    RIGHT,
    SMALLEST_SIDE,
    Drawn,
    draw_figures,
    draw_persons,
    draw_result,
    side_colour,
    stroke,
)
from misgiving.runtime.geometry import Region
from misgiving.runtime.keypoints import LSP, KeypointSet
from misgiving.runtime.lettering import Box, Mark, Row, draw_key, draw_label, label_place
from misgiving.runtime.nouns import Decision, Person

GROUND = (128, 128, 128)
PLAIN = np.full((500, 400, 3), GROUND, np.uint8)
ALONE = LSP.model_copy(update={"skeleton": ()})
"""No bone runs through the joints."""
REGION = Region(50, 60, 300, 400)
POINTS = np.array([(100 + 40 * (i % 5), 150 + 60 * (i // 5), 0.9) for i in range(14)])
ANKLE = (100, 150)
"""The right one, of POINTS."""


def person(probability: float | None, flagged: bool) -> Person:
    nothing = np.empty(0, np.float32)
    flag = Decision(flagged, None, 0.5, 1.0)
    points = POINTS.astype(np.float32)
    return Person(REGION, points, 0.125, probability, nothing, nothing, flag=flag)


def at(picture: np.ndarray, x: int, y: int) -> tuple[int, ...]:
    return tuple(picture[y, x].tolist())


def figure(drawn: Drawn, keypoints: KeypointSet = ALONE) -> np.ndarray:
    picture = PLAIN.copy()
    draw_figures(picture, [drawn], keypoints)
    return picture


def test_sides_have_their_colours() -> None:
    names = LSP.names
    assert side_colour(names, [names.index("left_knee"), names.index("left_hip")]) == LEFT
    assert side_colour(names, [names.index("right_wrist")]) == RIGHT
    assert side_colour(names, [names.index("left_hip"), names.index("right_hip")]) == CENTRE
    assert side_colour(names, [names.index("neck"), names.index("head_top")]) == CENTRE
    assert side_colour(names, [names.index("neck"), names.index("left_shoulder")]) == LEFT


@pytest.mark.parametrize(
    ("probability", "flagged", "colour", "label"),
    [
        (0.2, False, GREY, "P(failure) 0.20"),
        (0.5, False, AMBER, "P(failure) 0.50"),  # by a threshold that is higher
        (0.67, True, RED, "P(failure) 0.67, flagged"),
        (0.2, True, RED, "P(failure) 0.20, flagged"),
        (0.0, False, GREY, "P(failure) 0.00"),  # a probability, not a missing one
        (None, False, GREY, "predicted loss 0.125"),  # of a bundle without calibration
        (None, True, RED, "predicted loss 0.125, flagged"),
    ],
)
def test_the_state_is_seen(
    probability: float | None, flagged: bool, colour: tuple[int, ...], label: str
) -> None:
    answer = person(probability, flagged)
    picture = draw_result(PLAIN, [answer], LSP)
    assert at(picture, 50, 300) == at(picture, 349, 300) == colour  # the sides of the box
    drawn = Drawn(POINTS, None, REGION, 0.125, probability, flagged)
    assert drawn.label == label
    expected = PLAIN.copy()
    draw_persons(expected, [drawn], LSP)
    assert np.array_equal(picture, expected)


def test_doubtful_joints_are_hollow_and_pale() -> None:
    assert at(figure(Drawn(POINTS)), *ANKLE) == RIGHT
    doubtful = figure(Drawn(POINTS * (1, 1, 0.3)))
    assert at(doubtful, *ANKLE) == GROUND
    changed = doubtful[140:161, 90:111].reshape(-1, 3)
    assert (changed != GROUND).any()
    assert not (changed == RIGHT).all(axis=-1).any()


@pytest.mark.parametrize(
    ("loss", "confidence", "doubtful"),
    [
        (0.5, 0.9, True),  # the head knows better than the peak
        (0.49, 0.1, False),
        (None, 0.1, True),
        (None, 0.3, False),
        (None, math.nan, True),
        (-2.0, 0.9, False),  # a log-variance is no chance of a miss
        (-2.0, 0.1, True),
        (math.nan, 0.9, False),
    ],
)
def test_who_doubts_a_joint(loss: float | None, confidence: float, doubtful: bool) -> None:
    points = POINTS.copy()
    points[3, 2] = confidence
    losses = None if loss is None else np.where(np.arange(14) == 3, loss, 0.1)
    expected = np.zeros(14, bool)
    expected[3] = doubtful
    assert np.array_equal(Drawn(points, losses).doubtful, expected)
    assert Drawn(points, np.empty(0)).doubtful[3] == Drawn(points).doubtful[3]


def test_a_bone_is_as_sure_as_its_two_ends() -> None:
    one = LSP.model_copy(update={"skeleton": ((0, 1),)})
    losses = np.zeros(14)
    assert at(figure(Drawn(POINTS, losses), one), 120, 150) == RIGHT
    losses[1] = 1
    half = at(figure(Drawn(POINTS, losses), one), 120, 150)
    assert half not in (RIGHT, GROUND)
    blend = 0.5 * np.array(RIGHT) + 0.5 * np.array(GROUND)
    assert np.abs(np.array(half) - blend).max() <= 1


@pytest.mark.parametrize(
    ("extent", "side", "expected"),
    [
        (35, 640, 1),  # never thinner
        (140, 640, 2),
        (900, 640, 640 / 70),  # never as of somebody larger than the picture
        (3500, 7680, 50),
        (0, 1, 1),
    ],
)
def test_strokes_grow_with_the_person(extent: float, side: int, expected: float) -> None:
    assert stroke(extent, np.zeros((side // 2 + 1, side, 3), np.uint8)) == pytest.approx(expected)


def test_a_larger_person_is_drawn_with_more() -> None:
    one = LSP.model_copy(update={"skeleton": ((0, 4),)})
    small, large = (np.full((side, side, 3), 128, np.uint8) for side in (500, 2000))
    draw_figures(small, [Drawn(POINTS)], one)
    draw_figures(large, [Drawn(POINTS).moved((4, 4))], one)
    thick = [(picture[:, x] == CENTRE).all(-1).sum() for picture, x in ((small, 190), (large, 760))]
    assert 2 <= thick[0] <= 3
    assert 3 * thick[0] <= thick[1] <= 5 * thick[0]


def test_moved_goes_with_its_box() -> None:
    moved = Drawn(POINTS, region=REGION).moved((2, 0.5), (50, 60))
    assert moved.region == Region(0, 0, 600, 200)
    assert moved.points[0].tolist() == [100, 45, 0.9]
    assert Drawn(POINTS).moved((2, 2)).region is None


def test_the_image_itself_is_left_alone_and_small_ones_grow() -> None:
    before = PLAIN.copy()
    assert draw_result(PLAIN, [person(None, False)], LSP).shape == PLAIN.shape
    assert np.array_equal(PLAIN, before)
    assert max(draw_result(PLAIN[:100, :80].copy(), [], LSP).shape) == SMALLEST_SIDE
    assert draw_result(PLAIN[:1, :1].copy(), [person(None, False)], LSP).shape == (
        SMALLEST_SIDE,
    ) * 2 + (3,)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1e30, 1e30])
def test_joints_that_are_nowhere_are_left_out(bad: float) -> None:
    assert np.array_equal(figure(Drawn(np.full((14, 3), bad)), LSP), PLAIN)
    some = POINTS.copy()
    some[0, 0] = bad
    expected = np.delete(POINTS, 0, axis=0)
    rest = ALONE.model_copy(update={"names": LSP.names[1:]})
    assert np.array_equal(figure(Drawn(some)), figure(Drawn(expected), rest))
    region = Region(bad, 60, bad, 400)
    picture = PLAIN.copy()
    draw_persons(picture, [Drawn(POINTS, None, region, bad, None, True)], LSP)


@pytest.mark.parametrize("shape", [(8, 480), (480, 8), (64, 1000), (2160, 3840)])
def test_any_shape_and_64_persons(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 128, np.uint8)
    draw_persons(picture, [Drawn(POINTS, None, REGION, 0.5, 0.9, True)] * 64, LSP)
    assert (picture == RED).all(axis=-1).any()


@pytest.mark.parametrize(
    ("around", "expected"),
    [
        (Box(100, 100, 200, 200), (100, 80)),  # above
        (Box(350, 100, 390, 200), (320, 80)),  # and not beyond the picture
        (Box(100, 10, 200, 200), (100, 200)),  # below
        (Box(100, 0, 200, 500), (200, 0)),  # right
        (Box(200, 0, 400, 500), (120, 0)),  # left
        (Box(0, 0, 400, 500), (0, 0)),  # nowhere but inside
        (Box(-900, -900, -800, -800), (0, 0)),
    ],
)
def test_labels_stand_outside_the_box(around: Box, expected: tuple[int, int]) -> None:
    place = label_place(around, 80, 20, (500, 400, 3), [])
    assert place is not None
    assert (place.left, place.top) == expected
    assert place.within(400, 500)
    if expected != (0, 0):
        assert not place.meets(around)


def test_labels_leave_each_other_free() -> None:
    around, places = Box(100, 100, 200, 200), list[Box]()
    while place := label_place(around, 80, 20, (500, 400, 3), places):
        assert not any(place.meets(other) for other in places)
        places.append(place)
    assert len(places) == 5  # above, below, right, left, inside
    assert label_place(around, 401, 20, (500, 400, 3), []) is None


def test_a_label_covers_nothing_of_its_box() -> None:
    picture, around = PLAIN.copy(), Box(100, 100, 300, 300)
    place = draw_label(picture, "P(failure) 0.67", around, RED, [])
    assert place is not None
    assert np.array_equal(picture[100:300, 100:300], PLAIN[100:300, 100:300])
    assert (picture == RED).all(axis=-1).sum() > 1000


def test_the_key_says_what_is_seen() -> None:
    """In the corner where nobody is; not at all where it would hide the picture."""
    rows = [Row(Mark.DOT, LEFT, "left"), Row(Mark.BOX, RED, "flagged")]
    for points, corner in (
        ([], (0, 500)),
        ([(10, 490)], (400, 500)),
        ([(10, 490), (390, 490)], (400, 0)),
        ([(10, 490), (390, 490), (390, 10)], (0, 0)),
    ):
        picture = PLAIN.copy()
        place = draw_key(picture, rows, np.array(points, float).reshape(-1, 2))
        assert place is not None
        assert corner in [
            (x, y) for x in (place.left, place.right) for y in (place.top, place.bottom)
        ]
        hidden = picture[place.top : place.bottom, place.left : place.right]
        assert all((hidden == colour).all(axis=-1).any() for colour in (LEFT, RED))
    assert draw_key(PLAIN[:30].copy(), rows, np.empty((0, 2))) is None
    assert draw_key(PLAIN.copy(), [], np.empty((0, 2))) is None


def test_the_key_stands_in_the_picture() -> None:
    """Rows for what occurs: of two calm persons no red, and nobody is doubtful."""
    wide = np.full((500, 900, 3), 128, np.uint8)
    calm = Drawn(POINTS, None, replace(REGION, x=400), 0.1, 0.2).moved((1, 1))
    loud = replace(calm, flagged=True)
    pictures = []
    for one in (calm, loud):
        pictures.append(wide.copy())
        draw_persons(pictures[-1], [one], LSP)
    corners = [picture[350:, :250] for picture in pictures]
    assert all((corner == LEFT).all(-1).any() for corner in corners)
    assert [(corner == RED).all(-1).any() for corner in corners] == [False, True]
