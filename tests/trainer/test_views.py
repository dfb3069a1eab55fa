"""A person as a network saw them: everything drawn stands where the crop has it."""

import numpy as np

from misgiving.runtime.draw import CENTRE, RED, Drawn
from misgiving.runtime.geometry import CropRule, Region
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.data import Sample
from misgiving.trainer.views import as_labelled, views

RULE = CropRule(height=64, width=64, padding=1.25)
BOX = Region(100, 60, 80, 80)
"""Its crop is 100 px wide, from (90, 50) on."""


def sample() -> Sample:
    points = np.full((14, 2), np.nan, np.float32)
    points[13] = (140, 100)  # the head's top, in the middle
    image = np.full((200, 300, 3), 90, np.uint8)
    return Sample("a", image, points, np.arange(14) == 13, box=BOX)


def test_box_and_joints_stand_where_the_crop_has_them() -> None:
    one = sample()
    predicted = Drawn(as_labelled(one).points, region=BOX, flagged=True)
    picture = views(one, RULE, LSP, [predicted, as_labelled(one)], 200)
    assert picture.shape == (200, 404, 3)
    left, right = picture[:, :200], picture[:, 204:]
    red = np.argwhere((left == RED).all(axis=-1))
    assert np.abs(red.min(axis=0) - 20).max() <= 1
    assert np.abs(red.max(axis=0) - 179).max() <= 1
    assert all(tuple(view[100, 100]) == CENTRE for view in (left, right))
    assert not (right == RED).all(axis=-1).any()
    assert np.array_equal(np.unique(right[:80]), [90])  # no other joint is labelled
