"""From a frame to a result in image pixels, without a server."""

import math
from dataclasses import replace

import numpy as np
import pytest

from misgiving.runtime.answer.answerer import Look, answering, cut_out
from misgiving.runtime.answer.describing import describe
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.errors import ImageError, MisgivingError, RegionError, ResourceExhausted
from misgiving.runtime.geometry import MAX_REGIONS, Region
from misgiving.runtime.images import encode_png
from misgiving.runtime.nouns import Person, Reason, make_frame
from misgiving.runtime.wire.frames import to_frame
from misgiving.runtime.wire.records import result_record
from misgiving.v1 import pose_pb2 as pose
from shared.tiny import (
    BUNDLE,
    HEIGHT,
    JOINTS,
    WIDTH,
    answered,
    engine,
    model,
    policy,
    spot_points,
    spots,
)

COLUMNS = [3 * i for i in range(JOINTS)]


def points(person: Person) -> np.ndarray:
    return person.keypoints[:, :2]


@pytest.mark.parametrize("encoded", [False, True])
def test_keypoints_come_back_in_image_pixels(encoded: bool) -> None:
    image = spots(COLUMNS, scale=3)
    frame = make_frame(encode_png(image) if encoded else image, frame_id="f")
    result = answered(frame)
    (person,) = result.persons
    assert points(person) == pytest.approx(spot_points(COLUMNS, scale=3))
    assert person.keypoints[:, 2].tolist() == [1.0] * JOINTS
    assert person.predicted_loss == pytest.approx(1 - JOINTS / (HEIGHT * WIDTH))
    dark = person.predicted_loss
    assert person.signals == pytest.approx([1, 1, 1 - dark, dark], abs=1e-6)
    assert list(person.keypoint_loss) == []
    assert person.failure_probability == pytest.approx(dark)  # as the tiny bundle has it
    assert person.region == Region(0, 0, WIDTH * 3, HEIGHT * 3)
    assert result.frame_id == "f"
    assert result.bundle_digest == model().bundle.digest


class Telling:
    """The tiny engine, with a loss for each joint of each person."""

    provider = "telling"

    def infer(self, images: np.ndarray) -> Prediction:
        losses = np.arange(len(images) * JOINTS, dtype=np.float32).reshape(len(images), JOINTS)
        return replace(engine().infer(images), keypoint_loss=losses)


def test_a_loss_for_each_joint() -> None:
    """In the joints' order, person by person, and by name in a record."""
    regions = [Region(0, 0, WIDTH, HEIGHT), Region(1, 1, WIDTH, HEIGHT)]
    result = answered(make_frame(spots(COLUMNS), regions), Telling())
    assert [list(person.keypoint_loss) for person in result.persons] == [
        list(range(JOINTS)), list(range(JOINTS, 2 * JOINTS)),
    ]  # fmt: skip
    manifest = model().bundle.manifest
    names = manifest.keypoints.names
    record = result_record(result, names, [signal.name for signal in manifest.signals])
    assert record["persons"][0]["keypoint_loss"] == dict(zip(names, range(JOINTS), strict=True))


def test_each_region_is_answered_in_its_own_place() -> None:
    """Two people in one picture; the padding of 1.25 makes each window the whole person."""
    picture = np.zeros((200, 300, 3), np.uint8)
    places = [(10, 20), (150, 100)]
    for x, y in places:
        picture[y : y + HEIGHT, x : x + WIDTH] = spots(COLUMNS)
    inner = [
        Region(x + WIDTH * 0.1, y + HEIGHT * 0.1, WIDTH * 0.8, HEIGHT * 0.8) for x, y in places
    ]
    result = answered(make_frame(picture, inner))
    for person, place, region in zip(result.persons, places, inner, strict=True):
        assert points(person) == pytest.approx(spot_points(COLUMNS) + place)
        assert person.region.x == pytest.approx(region.x)


def test_a_batch_answers_as_one_by_one() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8)
    regions = [Region(5 * i, 7 * i, 30, 40) for i in range(10)]
    together = answered(make_frame(picture, regions))
    for region, person in zip(regions, together.persons, strict=True):
        alone = answered(make_frame(picture, [region])).persons[0]
        assert points(alone) == pytest.approx(points(person))
        assert alone.predicted_loss == pytest.approx(person.predicted_loss)


@pytest.mark.parametrize(
    ("image", "threshold", "rate", "draw", "raised", "kept"),
    [
        # dark: above the threshold
        (0, 0.75, 0.0, 0.5, True, Reason.PREDICTED_LOSS),
        # bright: below it
        (255, 0.75, 0.1, 0.5, False, None),
        # bright, and drawn for the audit: kept, and no flag
        (255, 0.75, 0.1, 0.05, False, Reason.AUDIT),
    ],
)
def test_flags(
    image: int, threshold: float, rate: float, draw: float, raised: bool, kept: Reason | None
) -> None:
    frame = make_frame(np.full((HEIGHT, WIDTH, 3), image, np.uint8))
    result = answered(frame, flagging=policy(threshold, rate), draw=draw)
    flag = result.persons[0].flag
    assert result.flagged == flag.raised == raised
    assert result.kept == (kept is not None)
    assert flag.kept is kept
    assert flag.threshold == threshold
    assert flag.sampling_probability == (1.0 if image == 0 else rate)


BLACK = np.zeros((48, 64, 3), np.uint8)
BAD_FRAMES = {
    "empty bytes": (make_frame(b""), ImageError, "empty"),
    "region outside": (make_frame(BLACK, [Region(64, 0, 5, 5)]), RegionError, "outside"),
    "region of nothing": (make_frame(BLACK, [Region(0, 0, 0, 5)]), RegionError, "above 0"),
    "region of nan": (make_frame(BLACK, [Region(math.nan, 0, 5, 5)]), RegionError, "finite"),
    "one bad region of two": (
        make_frame(BLACK, [Region(0, 0, 5, 5), Region(99, 99, 5, 5)]),
        RegionError,
        "outside",
    ),
    "too many regions": (
        make_frame(BLACK, [Region(0, 0, 5, 5)] * (MAX_REGIONS + 1)),
        ResourceExhausted,
        "65 regions; at most 64",
    ),
    # a strip of 40 000 × 1 px would be cut as 40 000 × 53 333: gigabytes of black
    "a strip": (make_frame(np.zeros((1, 40_000, 3), np.uint8)), ResourceExhausted, "window of"),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_bad_frames(name: str) -> None:
    frame, kind, said = BAD_FRAMES[name]
    with pytest.raises(kind) as caught:
        answered(frame)
    assert isinstance(caught.value, MisgivingError)
    assert said in str(caught.value)


def test_as_many_regions_as_allowed() -> None:
    frame = make_frame(BLACK, [Region(0, 0, 5, 5)] * MAX_REGIONS)
    assert len(answered(frame).persons) == MAX_REGIONS


def test_too_many_regions_are_refused_before_they_are_made() -> None:
    """A message has room for millions, and they would be made where all streams are served."""
    message = pose.Frame(frame_id="7", regions=[pose.Region()] * (MAX_REGIONS + 1))
    message.image.encoded = encode_png(BLACK)
    with pytest.raises(ResourceExhausted, match="frame '7' has 65 regions; at most 64"):
        to_frame(message)


RGBA = pose.RawImage(pixels=bytes(64 * 48 * 4), height_px=48, width_px=64)
BAD_MESSAGES = {
    "no image": (pose.Frame(), "no image"),
    "RGBA": (pose.Frame(image=pose.Image(raw=RGBA)), "alpha"),
}


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_bad_messages(name: str) -> None:
    message, said = BAD_MESSAGES[name]
    with pytest.raises(ImageError, match=said):
        to_frame(message)


def test_a_raw_image_is_read_without_another_copy() -> None:
    message = pose.Frame(image=pose.Image(raw=pose.RawImage(pixels=BLACK.tobytes())))
    message.image.raw.height_px, message.image.raw.width_px = BLACK.shape[:2]
    image = to_frame(message).image
    assert isinstance(image, np.ndarray)
    assert not image.flags.owndata
    np.testing.assert_array_equal(image, BLACK)


def test_the_model_describes_itself() -> None:
    info = describe(model(), policy(audit_rate=0.25))
    assert (info.name, info.version) == ("bright-spots", "1")
    assert info.engine == "onnxruntime CPUExecutionProvider fp32"
    assert (info.input_height_px, info.input_width_px) == (HEIGHT, WIDTH)
    assert (info.threshold, info.audit_rate) == (0.75, 0.25)
    assert info.failure_definition == "PCK@0.2 (torso) of the person < 0.5"
    assert len(info.skeleton) == 14
    assert [one.name for one in info.thresholds] == ["likely", "flag_rate=0.1", "miss_rate=0.2"]
    likely, budget, _ = info.thresholds
    assert likely.statement.startswith("failure is more likely than not: of persons like those")
    assert budget.predicted_loss == 0.75
    assert "flags at most 10 % of the frames with 90 % confidence" in budget.statement


@pytest.mark.parametrize(
    ("fitted", "score", "said"),
    [
        (True, 0.25, 0.25),
        (True, -1.0, 0.0),  # beyond the knots the nearest one counts; 0 is a probability
        (True, math.inf, 1.0),
        (True, math.nan, None),
        (False, 0.25, None),  # a bundle without a fit
    ],
)
def test_failure_probability(fitted: bool, score: float, said: float | None) -> None:
    bundle = Bundle.load(BUNDLE)
    known = bundle.manifest.calibration
    calibration = known if fitted else known.model_copy(update={"failure_probability": None})
    manifest = bundle.manifest.model_copy(update={"calibration": calibration})
    frame = make_frame(BLACK)
    steps = answering(replace(bundle, manifest=manifest), frame, rounds=0)
    cuts = cut_out(frame, next(steps), manifest.crop)
    prediction = replace(
        engine().infer(np.stack(cuts.crops)), predicted_loss=np.array([score], np.float32)
    )
    with pytest.raises(StopIteration) as end:
        steps.send(Look(cuts, prediction, 0, 0))
    (person,) = end.value.value.persons
    assert person.failure_probability == said
