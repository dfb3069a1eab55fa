"""From a frame to a result in image pixels, without a server."""

import math
from dataclasses import replace

import numpy as np
import pytest

from misgiving.runtime.answer.answerer import MAX_REGIONS, Detector
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.client import make_frame
from misgiving.runtime.engines.base import Prediction
from misgiving.runtime.errors import ImageError, MisgivingError, RegionError, ResourceExhausted
from misgiving.runtime.flags.policy import FlagPolicy
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_png
from misgiving.runtime.wire.decisions import is_flagged, is_kept
from misgiving.runtime.wire.records import result_record
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import pose_pb2 as pose
from shared.tiny import BUNDLE, HEIGHT, JOINTS, WIDTH, detector, engine, spot_points, spots

COLUMNS = [3 * i for i in range(JOINTS)]


def points(person: pose.Person) -> np.ndarray:
    return np.array([(point.x_px, point.y_px) for point in person.keypoints])


@pytest.mark.parametrize("encoded", [False, True])
def test_keypoints_come_back_in_image_pixels(encoded: bool) -> None:
    image = spots(COLUMNS, scale=3)
    frame = make_frame(encode_png(image) if encoded else image, frame_id="f")
    result = detector().detect(frame, engine())
    (person,) = result.persons
    assert points(person) == pytest.approx(spot_points(COLUMNS, scale=3))
    assert [point.confidence for point in person.keypoints] == [1.0] * JOINTS
    assert person.predicted_loss == pytest.approx(1 - JOINTS / (HEIGHT * WIDTH))
    dark = person.predicted_loss
    assert person.signals == pytest.approx([1, 1, 1 - dark, dark], abs=1e-6)
    assert list(person.keypoint_loss) == []
    assert person.failure_probability == pytest.approx(dark)  # as the tiny bundle has it
    assert person.region == pose.Region(width_px=WIDTH * 3, height_px=HEIGHT * 3)
    assert result.frame_id == "f"
    assert result.bundle_digest == detector().bundle.digest
    assert result.collection == wire.COLLECTION_NONE


class Telling:
    """The tiny engine, with a loss for each joint of each person."""

    provider = "telling"

    def infer(self, images: np.ndarray) -> Prediction:
        losses = np.arange(len(images) * JOINTS, dtype=np.float32).reshape(len(images), JOINTS)
        return replace(engine().infer(images), keypoint_loss=losses)


def test_a_loss_for_each_joint() -> None:
    """In the joints' order, person by person, and by name in a record."""
    regions = [Region(0, 0, WIDTH, HEIGHT), Region(1, 1, WIDTH, HEIGHT)]
    result = detector().detect(make_frame(spots(COLUMNS), regions), Telling())
    assert [list(person.keypoint_loss) for person in result.persons] == [
        list(range(JOINTS)), list(range(JOINTS, 2 * JOINTS)),
    ]  # fmt: skip
    manifest = detector().bundle.manifest
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
    result = detector().detect(make_frame(picture, inner), engine())
    for person, place, region in zip(result.persons, places, inner, strict=True):
        assert points(person) == pytest.approx(spot_points(COLUMNS) + place)
        assert person.region.x_px == pytest.approx(region.x)


def test_a_batch_answers_as_one_by_one() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8)
    regions = [Region(5 * i, 7 * i, 30, 40) for i in range(10)]
    together = detector().detect(make_frame(picture, regions), engine())
    for region, person in zip(regions, together.persons, strict=True):
        alone = detector().detect(make_frame(picture, [region]), engine()).persons[0]
        assert points(alone) == pytest.approx(points(person))
        assert alone.predicted_loss == pytest.approx(person.predicted_loss)


@pytest.mark.parametrize(
    ("image", "threshold", "rate", "draw", "raised", "kept"),
    [
        # dark: above the threshold
        (0, 0.75, 0.0, 0.5, True, pose.KEEP_REASON_PREDICTED_LOSS),
        # bright: below it
        (255, 0.75, 0.1, 0.5, False, pose.KEEP_REASON_NONE),
        # bright, and drawn for the audit: kept, and no flag
        (255, 0.75, 0.1, 0.05, False, pose.KEEP_REASON_AUDIT),
    ],
)
def test_flags(
    image: int, threshold: float, rate: float, draw: float, raised: bool, kept: int
) -> None:
    frame = make_frame(np.full((HEIGHT, WIDTH, 3), image, np.uint8))
    result = detector(threshold, rate, draw).detect(frame, engine())
    flag = result.persons[0].flag
    assert is_flagged(result) == flag.raised == raised
    assert is_kept(result) == (kept != pose.KEEP_REASON_NONE)
    assert flag.kept == kept
    assert flag.reason == (pose.FLAG_REASON_PREDICTED_LOSS if raised else 0)
    assert flag.threshold == threshold
    assert flag.sampling_probability == (1.0 if image == 0 else rate)


BLACK = np.zeros((48, 64, 3), np.uint8)
RGBA = pose.Image(raw=pose.RawImage(pixels=bytes(64 * 48 * 4), height_px=48, width_px=64))
BAD_FRAMES = {
    "no image": (pose.Frame(), ImageError, "no image"),
    "empty bytes": (pose.Frame(image=pose.Image(encoded=b"")), ImageError, "empty"),
    "RGBA": (pose.Frame(image=RGBA), ImageError, "alpha"),
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
        detector().prepare(frame)
    assert isinstance(caught.value, MisgivingError)
    assert said in str(caught.value)


def test_as_many_regions_as_allowed() -> None:
    frame = make_frame(BLACK, [Region(0, 0, 5, 5)] * MAX_REGIONS)
    assert len(detector().detect(frame, engine()).persons) == MAX_REGIONS


def test_a_collected_frame_explains_itself() -> None:
    one = detector()
    frame = make_frame(BLACK, [Region(0, 0, 30, 40), Region(20, 5, 20, 20)], "f", 123, "front")
    result = one.detect(frame, engine())
    embedding = np.arange(16, dtype=np.float32).reshape(2, 8)
    collected = one.collected(frame, result, embedding, "car 7")
    assert collected.frame == frame
    assert list(collected.persons) == list(result.persons)
    assert [list(e.values) for e in collected.embeddings] == embedding.tolist()
    assert collected.bundle_digest == one.bundle.digest
    assert list(collected.signal_names) == ["mean_peak", "min_peak", "brightness", "darkness"]
    assert len(collected.keypoint_names) == JOINTS
    assert list(collected.skeleton[:4]) == [0, 1, 1, 2]
    assert collected.device_id == "car 7"


def test_the_model_describes_itself() -> None:
    model = detector(audit_rate=0.25).model(engine())
    assert (model.name, model.version) == ("bright-spots", "1")
    assert model.engine == "onnxruntime CPUExecutionProvider fp32"
    assert (model.input_height_px, model.input_width_px) == (HEIGHT, WIDTH)
    assert (model.threshold, model.audit_rate) == (0.75, 0.25)
    assert model.failure_definition == "PCK@0.2 (torso) of the person < 0.5"
    assert len(model.skeleton) == 14
    assert [one.name for one in model.thresholds] == ["likely", "flag_rate=0.1", "miss_rate=0.2"]
    likely, budget, _ = model.thresholds
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
    one = Detector(replace(bundle, manifest=manifest), FlagPolicy(threshold=0.75, audit_rate=0.0))
    frame = make_frame(BLACK)
    prediction = replace(
        engine().infer(np.stack(one.prepare(frame).crops)),
        predicted_loss=np.array([score], np.float32),
    )
    (person,) = one.result(frame, one.prepare(frame), prediction).persons
    assert person.HasField("failure_probability") == (said is not None)
    assert person.failure_probability == (said or 0.0)
