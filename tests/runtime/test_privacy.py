"""What may be kept, and what nobody sees of it: decided without a server."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.answer.answerer import answer
from misgiving.runtime.errors import ImageError, InvalidInput
from misgiving.runtime.geometry import CropRule, Region, window_of
from misgiving.runtime.images import decode, encode_png
from misgiving.runtime.keypoints import COCO, LSP
from misgiving.runtime.nouns import Answer, Frame, Person, Position
from misgiving.runtime.privacy.fences import Circle, Fence, Polygon
from misgiving.runtime.privacy.heads import DOUBTFUL, SURE, UPPER, head_boxes, head_joints
from misgiving.runtime.privacy.keeping import Keeping
from misgiving.runtime.privacy.policy import Barred, Hook, PrivacyPolicy
from misgiving.runtime.privacy.redacting import GREY, redacted
from misgiving.runtime.wire.collected import Coding, KeptFrame, Redaction, read_kept, to_message
from shared import tiny

NOISE = np.random.default_rng(0).integers(0, 255, (120, 200, 3), np.uint8)
RULE = CropRule(height=56, width=42, padding=1.25)
SQUARE = CropRule(height=100, width=100, padding=1.25)
NOTHING = np.empty(0, np.float32)

MUNICH = Position(48.137, 11.575)
TOWN = Polygon((Position(48, 11), Position(48, 12), Position(49, 12), Position(49, 11)))
FIJI = Polygon((Position(-20, 177), Position(-20, -178), Position(-15, -178), Position(-15, 177)))


@pytest.mark.parametrize(
    ("fence", "place", "holds"),
    [
        (TOWN, MUNICH, True),
        (TOWN, Position(48, 11.5), True),  # on an edge
        (TOWN, Position(47.999, 11.5), False),
        (TOWN, Position(-48.5, 11.5), False),
        (TOWN, Position(48.5, -168.5), False),  # the other side of the Earth
        (FIJI, Position(-18, 179.9), True),  # both sides of the 180th meridian
        (FIJI, Position(-18, -179.9), True),
        (FIJI, Position(-18, 180), True),
        (FIJI, Position(-18, 176.9), False),
        (FIJI, Position(-18, 0), False),
        (Circle(MUNICH, 1_000), MUNICH, True),
        (Circle(MUNICH, 1_000), Position(48.1459, 11.575), True),  # 990 m to the north
        (Circle(MUNICH, 1_000), Position(48.1461, 11.575), False),  # 1012 m
        (Circle(MUNICH, 1_000), Position(48.137, 11.5883), True),  # 987 m to the east
        (Circle(MUNICH, 1_000), Position(48.137, 11.5887), False),  # 1017 m
        (Circle(Position(0, 180), 30_000), Position(0, -179.8), True),
        (Circle(Position(90, 0), 200_000), Position(89, 123), True),  # around the pole
        (Circle(MUNICH, 3e7), Position(-48.137, -168.425), True),  # all of the Earth
    ],
)
def test_fences(fence: Fence, place: Position, holds: bool) -> None:
    assert fence.holds(place) is holds


@pytest.mark.parametrize(
    ("corners", "said"),
    [
        (TOWN.corners[:2], "a polygon has 2 corners; expected 3 or more"),
        (
            (Position(0, -100), Position(0, 80), Position(9, 0)),
            "half the Earth wide; expected less",
        ),
    ],
)
def test_what_is_no_polygon(corners: tuple[Position, ...], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Polygon(corners)


@pytest.mark.parametrize("radius", [0, -1, float("nan"), float("inf")])
def test_what_is_no_circle(radius: float) -> None:
    with pytest.raises(InvalidInput, match="expected metres, above 0"):
        Circle(MUNICH, radius)


def person(
    keypoints: NDArray[np.float32] | None = None,
    failure: float | None = 0.1,
    region: Region = Region(50, 20, 60, 80),
) -> Person:
    points = np.full((14, 3), 60, np.float32) if keypoints is None else keypoints
    return Person(region, points, 1.0, failure, NOTHING, NOTHING)


def standing(failure: float | None = 0.1) -> Person:
    """Feet at the bottom of the region, the head from y = 40 up to y = 30."""
    points = np.stack([np.full(14, 80.0), np.linspace(95, 50, 14), np.ones(14)], axis=1)
    points[12:, 1] = 40, 30
    return person(points.astype(np.float32), failure)


SOMEBODY = (person(),)
HERE, THERE = Frame(NOISE, position=MUNICH), Frame(NOISE, position=Position(0, 0))
FENCED = PrivacyPolicy(fences=(TOWN, Circle(Position(10, 10), 5)))


@pytest.mark.parametrize(
    ("policy", "frame", "persons", "why"),
    [
        (PrivacyPolicy(), Frame(NOISE), (), None),
        (PrivacyPolicy(collect=False), Frame(NOISE), SOMEBODY, Barred.COLLECTION_OFF),
        (FENCED, HERE, SOMEBODY, Barred.GEOFENCE),
        (FENCED, THERE, SOMEBODY, None),
        (FENCED, Frame(NOISE), SOMEBODY, Barred.NO_POSITION),
        (replace(FENCED, keeps_inside=True), HERE, SOMEBODY, None),
        (replace(FENCED, keeps_inside=True), THERE, SOMEBODY, Barred.GEOFENCE),
        (replace(FENCED, keeps_inside=True), Frame(NOISE), SOMEBODY, Barred.NO_POSITION),
        (PrivacyPolicy(crop=True), Frame(NOISE), SOMEBODY, None),
        (PrivacyPolicy(crop=True), Frame(NOISE), (), Barred.NO_PERSON),
        (PrivacyPolicy(blur_heads=True), Frame(NOISE), (), Barred.NO_PERSON),
    ],
)
def test_what_may_be_kept(
    policy: PrivacyPolicy, frame: Frame, persons: tuple[Person, ...], why: Barred | None
) -> None:
    assert policy.bars(frame, persons) is why


def test_which_joints_make_a_head() -> None:
    assert [LSP.names[at] for at in head_joints(LSP.names)] == ["neck", "head_top"]
    assert head_joints(COCO.names) == [0, 1, 2, 3, 4]
    assert head_joints(["LKnee", "Nose", "right ear"]) == [1, 2]
    with pytest.raises(InvalidInput, match="of the joints a, b, c… none is a head's; expected"):
        head_joints(["a", "b", "c", "d"])


def test_the_box_grows_with_the_doubt() -> None:
    """The head of ``standing`` is 10 px long; a person of that size has one of 16.6."""
    length = 0.24 * np.sqrt(60 * 80)
    for failure in (0.0, 0.25, 0.49):
        (box,) = head_boxes(standing(failure), LSP.names, SQUARE, 120, 200)
        reach = length * (SURE + DOUBTFUL * failure)
        assert (box.x, box.y) == pytest.approx((80 - reach, 35 - reach))
        assert (box.width, box.height) == pytest.approx((2 * reach, 2 * reach))


@pytest.mark.parametrize("failure", [0.5, 1.0, None])
def test_where_failure_is_likely_the_upper_part_goes_too(failure: float | None) -> None:
    _, upper = head_boxes(standing(failure), LSP.names, SQUARE, 120, 200)
    window = window_of(standing().region, 120, 200, SQUARE)
    assert upper == Region(window.left, window.top, window.width, 20 + 80 * UPPER - window.top)


def test_a_long_head_is_covered_whole() -> None:
    points = standing().keypoints.copy()
    points[13, 1] = 0  # 40 px above the neck
    (box,) = head_boxes(person(points, 0.0), LSP.names, SQUARE, 120, 200)
    assert box.height == pytest.approx(2 * SURE * 40)


def test_a_face_stands_for_its_head() -> None:
    points = np.full((17, 3), 60, np.float32)
    points[3:5, 0] = 40, 80  # the ears
    (box,) = head_boxes(person(points, 0.0), COCO.names, SQUARE, 120, 200)
    assert box.width == pytest.approx(2 * SURE * 2 * 40)


def test_where_a_joint_is_no_number_the_whole_window_goes() -> None:
    points = standing().keypoints.copy()
    points[13] = np.nan
    (box,) = head_boxes(person(points), LSP.names, SQUARE, 120, 200)
    window = window_of(person().region, 120, 200, SQUARE)
    assert box == Region(window.left, window.top, window.width, window.height)


def kept_of(*persons: Person, image: NDArray[np.uint8] | bytes = NOISE) -> KeptFrame:
    return KeptFrame(
        Frame(image, frame_id="7", position=MUNICH),
        persons,
        "b" * 64,
        keypoint_names=LSP.names,
        coding=Coding.AS_SENT if isinstance(image, bytes) else None,
    )


def test_without_a_policy_only_the_place_goes() -> None:
    kept = kept_of(person())
    assert redacted(kept, PrivacyPolicy(), SQUARE) == replace(kept, frame=Frame(NOISE, (), "7"))
    assert redacted(kept, PrivacyPolicy(position=True), SQUARE) == kept


def test_of_a_crop_the_same_region_cuts_the_same_pixels() -> None:
    """Evaluated again, a frame that was kept so gives the answer that it was kept with."""
    rng = np.random.default_rng(1)
    image = tiny.spots(rng.integers(0, tiny.WIDTH, 14).tolist(), scale=3)
    model, regions = tiny.model(), (Region(5, 9, 60, 80), Region(70.5, 100, 50, 60))
    said = answer(model, Frame(image, regions))
    kept = replace(kept_of(*said.persons, image=encode_png(image)))
    rule = model.bundle.manifest.crop
    cropped = redacted(kept, PrivacyPolicy(crop=True), rule)
    again = answer(model, Frame(cropped.frame.image, regions))
    assert again.persons == said.persons
    grey = (cropped.frame.image == GREY).all(axis=-1)
    assert 0.1 < grey.mean() < 0.9
    assert not np.shares_memory(image, cropped.frame.image)
    assert (cropped.coding, cropped.redaction) == (None, Redaction(cropped=True))


def test_a_blurred_head_is_gone_and_marked() -> None:
    kept = kept_of(standing(0.0), person(standing().keypoints + [60, 0, 0], 0.0))
    done = redacted(kept, PrivacyPolicy(blur_heads=True), SQUARE)
    first, second = done.redaction.covered
    assert first == Region(68, 23, 24, 24)  # whole pixels around 80 ± 11.6, 35 ± 11.6
    image = done.frame.decoded()
    head = image[23:47, 68:92]
    # Noise of 576 pixels becomes a ramp between sixteen means.
    assert np.abs(np.diff(head.astype(int), axis=0)).max() < 40
    assert head.std() < NOISE[23:47, 68:92].std() / 2
    outside = np.ones((120, 200), bool)
    for box in (first, second):
        left, top, size = int(box.x), int(box.y), int(box.width)
        outside[top : top + size, left : left + size] = False
    assert (image[outside] == NOISE[outside]).all()
    assert (done.redaction.cropped, done.redaction.hook) == (False, "")
    assert done.redaction.hidden == ((12, 13), (12, 13))


def test_joints_that_lie_in_a_covered_part_are_hidden_too() -> None:
    """Also where it is another person's head."""
    kept = kept_of(standing(0.5), standing(0.0))
    done = redacted(kept, PrivacyPolicy(blur_heads=True), SQUARE)
    upper = standing().keypoints[:, 1] <= 20 + 80 * UPPER  # which is below the head's box
    assert upper.sum() == 10  # the head's two, and eight more
    assert done.redaction.hidden == (tuple(np.flatnonzero(upper).tolist()),) * 2


def test_a_head_beyond_the_picture_covers_nothing() -> None:
    points = standing().keypoints - np.float32([0, 300, 0])
    done = redacted(kept_of(person(points, 0.0)), PrivacyPolicy(blur_heads=True), SQUARE)
    assert done.redaction == Redaction(hidden=((12, 13),))
    assert (done.frame.image == NOISE).all()


def test_a_hook_sees_the_image_and_the_answer() -> None:
    seen: list[Answer] = []

    def black(image: NDArray[np.uint8], answer: Answer) -> NDArray[np.uint8]:
        seen.append(answer)
        image[:60] = 0
        return image

    kept = kept_of(person(), image=encode_png(NOISE))
    done = redacted(kept, PrivacyPolicy(hook=Hook("ours:black", black)), SQUARE)
    assert [one.persons for one in seen] == [kept.persons]
    assert not done.frame.image[:60].any()
    assert (done.frame.image[60:] == NOISE[60:]).all()
    assert (done.redaction, done.coding) == (Redaction(hook="ours:black"), None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (NOISE[:50], r"ours:cut gave an image \(50, 200, 3\); expected \(120, 200, 3\)"),
        (NOISE / 255, "what ours:cut gave is float64; expected"),
        (None, "what ours:cut gave is a NoneType"),
    ],
)
def test_a_hook_that_gives_no_such_image(given: object, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        redacted(kept_of(), PrivacyPolicy(hook=Hook("ours:cut", lambda *_: given)), SQUARE)


def test_a_frame_is_finished_when_it_is_serialised() -> None:
    """By the policy of when it was taken, whatever holds since."""
    keeping = Keeping(PrivacyPolicy(blur_heads=True), jpeg_quality=92)
    kept = replace(kept_of(standing(0.0)), finish=keeping.finishing(SQUARE))
    keeping.policy = PrivacyPolicy()
    done = read_kept(to_message(kept).SerializeToString())
    assert (done.coding, done.jpeg_quality) == (Coding.JPEG, 92)
    assert done.redaction.covered == (Region(68, 23, 24, 24),)
    assert decode(done.frame.image)[23:47, 68:92].std() < NOISE.std() / 2
    assert done.frame.position is None


def test_what_a_hook_fails_on_is_counted_and_not_serialised() -> None:
    def failing(image: NDArray[np.uint8], answer: Answer) -> NDArray[np.uint8]:
        raise RuntimeError("no face model")

    keeping = Keeping(PrivacyPolicy(hook=Hook("ours:failing", failing)))
    with pytest.raises(RuntimeError, match="no face model"):
        to_message(replace(kept_of(person()), finish=keeping.finishing(SQUARE)))
    assert {why: n for why, n in keeping.counts.items() if n} == {Barred.REDACTION_FAILED: 1}


def test_the_first_frame_that_may_not_be_kept_is_told(caplog: pytest.LogCaptureFixture) -> None:
    keeping = Keeping(FENCED)
    with caplog.at_level(logging.WARNING, "misgiving"):
        for _ in range(3):
            keeping.count(Barred.NO_POSITION)
    assert [record.message for record in caplog.records] == [
        "a frame is not kept: privacy.geofence wants to know where it was taken, and it has no "
        "position; misgiving_frames_barred_total counts the next ones"
    ]
