"""Persons of one image are never on both sides."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.images import decode, encode_jpeg
from misgiving.trainer.suspects.folds import fold_of, read_images
from shared.training import TINY_MODEL, people, pose_set


@pytest.mark.parametrize(
    ("images", "count"),
    [
        (["a", "b"], 2),
        (["a", "a", "a", "b"], 2),
        ([str(number // 2) for number in range(20)], 3),
        ([str(number) for number in range(9)], 9),
    ],
)
def test_folds(images: list[str], count: int) -> None:
    fold = fold_of(images, count, seed=3)
    assert set(fold) == set(range(count))
    assert len(set(zip(images, fold.tolist(), strict=True))) == len(set(images))
    largest = max(images.count(name) for name in images)
    assert np.ptp(np.bincount(fold)) <= largest


def test_folds_are_of_the_seed() -> None:
    images = [str(number) for number in range(30)]
    first, again, other = (fold_of(images, 3, seed).tolist() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("count", [-1, 0, 1, 3])
def test_no_folds_of_that_number(count: int) -> None:
    with pytest.raises(InvalidInput, match=f"folds are {count}; expected 2 to 2"):
        fold_of(["a", "b", "a"], count, seed=0)


def test_copies_of_an_image_look_alike_and_others_do_not() -> None:
    first, second = people(1, 48)[0], people(1, 48)[1]
    copy = replace(first, id="copy", image=decode(encode_jpeg(first.image, 90)))
    assert (copy.image != first.image).any()
    same = [replace(one, path=Path("a.png")) for one in (first, replace(second, id="beside"))]
    data, looks = read_images(pose_set([first, second, copy, *same]), TINY_MODEL.crop)
    assert len(data) == len(looks) == 5
    assert looks[0] == looks[2] != looks[1]
    assert looks[3] == looks[4]  # one file, two persons
