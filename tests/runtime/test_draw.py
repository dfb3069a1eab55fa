"""Drawn skeletons: sides by colour, doubtful joints hollow, nothing outside the picture."""

import math

import numpy as np
import pytest

from misgiving.runtime.draw import (
    CALM,
    CENTRE,
    FLAGGED,
    LEFT,
    RIGHT,
    SMALLEST_SIDE,
    draw_label,
    draw_result,
    draw_skeleton,
    side_colour,
)
from misgiving.runtime.keypoints import LSP
from misgiving.v1 import pose_pb2 as pose

GREY = np.full((500, 400, 3), 128, np.uint8)


def person(confidence: float = 0.9, flagged: bool = False) -> pose.Person:
    return pose.Person(
        region=pose.Region(x_px=50, y_px=60, width_px=300, height_px=400),
        keypoints=[
            pose.Keypoint(x_px=100 + 40 * (i % 5), y_px=150 + 60 * (i // 5), confidence=confidence)
            for i in range(14)
        ],
        flag=pose.Flag(raised=flagged),
    )


def at(picture: np.ndarray, x: int, y: int) -> tuple[int, ...]:
    return tuple(picture[y, x].tolist())


def test_sides_have_their_colours() -> None:
    names = LSP.names
    assert side_colour(names, [names.index("left_knee"), names.index("left_hip")]) == LEFT
    assert side_colour(names, [names.index("right_wrist")]) == RIGHT
    assert side_colour(names, [names.index("left_hip"), names.index("right_hip")]) == CENTRE
    assert side_colour(names, [names.index("neck"), names.index("head_top")]) == CENTRE
    assert side_colour(names, [names.index("neck"), names.index("left_shoulder")]) == LEFT


def test_joints_are_filled_and_doubtful_ones_hollow() -> None:
    alone = LSP.model_copy(update={"skeleton": ()})  # no bone runs through the joints
    ankle = (100, 150)
    assert at(draw_result(GREY, [person(0.9)], alone), *ankle) == RIGHT
    doubtful = draw_result(GREY, [person(0.1)], alone)
    assert at(doubtful, *ankle) == (128, 128, 128)
    assert (doubtful[140:161, 90:111] != 128).any()


def test_the_flag_is_seen() -> None:
    assert at(draw_result(GREY, [person(flagged=True)], LSP), 350, 300) == FLAGGED
    assert at(draw_result(GREY, [person()], LSP), 350, 300) == CALM


def test_the_image_itself_is_left_alone_and_small_ones_grow() -> None:
    before = GREY.copy()
    assert draw_result(GREY, [person()], LSP).shape == GREY.shape
    assert np.array_equal(GREY, before)
    assert max(draw_result(GREY[:100, :80].copy(), [], LSP).shape) == SMALLEST_SIDE
    assert draw_result(GREY[:1, :1].copy(), [person()], LSP).shape == (SMALLEST_SIDE,) * 2 + (3,)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1e30, 1e30])
def test_joints_that_are_nowhere_are_left_out(bad: float) -> None:
    points = np.full((14, 3), bad)
    picture = GREY.copy()
    draw_skeleton(picture, points, LSP)
    assert np.array_equal(picture, GREY)
    wild = person()
    wild.region.x_px = wild.predicted_loss = wild.keypoints[0].x_px = bad
    if math.isfinite(bad):
        assert draw_result(GREY, [wild], LSP).shape == GREY.shape


@pytest.mark.parametrize(("left", "top"), [(-900, -900), (900, 900), (380, 490)])
def test_labels_stay_inside(left: int, top: int) -> None:
    picture = GREY.copy()
    draw_label(picture, "predicted loss 0.123", left, top, FLAGGED)
    assert (picture == FLAGGED).all(axis=-1).sum() > 1000
