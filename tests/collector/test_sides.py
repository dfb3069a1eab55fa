"""Near-duplicates are on one side of training and validation, however label sets grow."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.collector import Store, export_annotations, read_corrected, record_labels
from misgiving.collector.annotations.coco import FrameOrigin
from misgiving.collector.annotations.sides import NEAR, sides_of
from misgiving.collector.annotations.splits import MOMENT_S, PIECE_S, split_of
from misgiving.runtime import Estimator
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import decode, encode_png
from misgiving.runtime.labelset import Split
from misgiving.runtime.nouns import Decision, Frame, Reason
from misgiving.runtime.wire.collected import KeptFrame, to_message
from shared.annotating import edit, stored, touch
from shared.collecting import collected, serialise

NANO, SIZE = 10**9, 8


class Fleet:
    """A store, to which frames come and in which they are labelled."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._frames: dict[str, FrameOrigin] = {}

    def frame(
        self, embedding: NDArray[np.floating], stream: str, time_s: float = 0, bundle: str = "b"
    ) -> str:
        """Collect one; its digest."""
        made = collected(f"{stream}-{time_s}-{len(self._frames)}")
        made.bundle_digest, made.frame.stream_id = bundle * 64, stream
        made.frame.capture_time_unix_nano = round(time_s * NANO)
        made.embeddings[0].values[:] = embedding.tolist()
        digest = self._store.put(serialise(made))
        self._frames[digest] = FrameOrigin(
            frame_digest=digest,
            sampling_probability=1,
            bundle_digest=made.bundle_digest,
            device_id=made.device_id,
            stream_id=stream,
            capture_time_unix_nano=made.frame.capture_time_unix_nano,
        )
        return digest

    def own(self, digest: str) -> Split:
        """Where its time alone puts it."""
        return split_of(self._frames[digest])

    def sides(self, *digests: str, near: float = NEAR) -> tuple[list[Split], int]:
        """Of an import of some frames."""
        sides = sides_of({one: self._frames[one] for one in digests}, self._store, near)
        return [sides.of[one] for one in digests], sides.between

    def label(self, *digests: str) -> list[Split]:
        sides, _ = self.sides(*digests)
        version = f"labels-{'-'.join(one[:8] for one in digests)}"
        labels = dict(zip(digests, sides, strict=True))
        record_labels(self._store, version, Path(version), labels)
        return sides


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Store(tmp_path / "store") as store:
        yield Fleet(store)


def streams(side: Split) -> Iterator[str]:
    """Names of streams whose frames without a time are on a side."""
    for number in range(10_000):
        origin = {"frame_digest": "", "sampling_probability": 1, "bundle_digest": ""}
        name = f"stream-{number}"
        if split_of(FrameOrigin(**origin, device_id="car-7", stream_id=name)) == side:
            yield name


TRAIN, VAL = streams("train"), streams("val")


def embedding(seed: int, angle: float = 0.0) -> NDArray[np.float64]:
    """One of some direction and length, turned by an angle in radians."""
    rng = np.random.default_rng(seed)
    one, other = np.linalg.qr(rng.normal(size=(SIZE, 2)))[0].T
    return (np.cos(angle) * one + np.sin(angle) * other) * rng.uniform(0.5, 50)


NEARLY = 0.07
"""Radians; a cosine distance of 0.0025."""


def test_a_near_duplicate_follows_what_is_labelled(fleet: Fleet) -> None:
    first = fleet.frame(embedding(0), next(VAL))
    assert fleet.label(first) == ["val"]
    near = fleet.frame(embedding(0, NEARLY), next(TRAIN))
    far = fleet.frame(embedding(0, 3 * NEARLY), next(TRAIN))
    theirs = fleet.frame(embedding(0), next(TRAIN), bundle="c")
    assert {fleet.own(one) for one in (near, far, theirs)} == {"train"}
    assert fleet.label(near, far, theirs) == ["val", "train", "train"]
    assert fleet.label(fleet.frame(embedding(1), next(VAL))) == ["val"]


def test_near_duplicates_of_one_import(fleet: Fleet) -> None:
    frames = [fleet.frame(embedding(0, n / 1000), next(s)) for n in range(5) for s in (TRAIN, VAL)]
    sides, between = fleet.sides(*frames)
    assert len(set(sides)) == 1
    assert between == 0


def test_near_to_both_is_neither(fleet: Fleet) -> None:
    fleet.label(fleet.frame(embedding(0), next(TRAIN)), fleet.frame(embedding(0, 0.15), next(VAL)))
    middle = fleet.frame(embedding(0, 0.075), next(TRAIN))
    assert fleet.sides(middle) == (["neither"], 1)
    fleet.label(middle)
    # and nobody keeps away from it
    beside = fleet.frame(embedding(0, -NEARLY / 2), next(VAL))
    assert fleet.label(beside) == ["train"]


def test_a_side_is_for_good(fleet: Fleet) -> None:
    """Whatever comes later, and if the same frame comes back in another batch."""
    train = fleet.frame(embedding(0), next(TRAIN))
    val = fleet.frame(embedding(0, 0.3), next(VAL))
    moved = fleet.frame(embedding(0, 0.02), next(VAL))
    assert fleet.label(train) + fleet.label(val) + fleet.label(moved) == ["train", "val", "train"]
    between = [fleet.frame(embedding(0, n / 50), next(VAL)) for n in range(16)]
    fleet.label(*between)
    for near in (0.0, 0.003, 2.0):
        assert fleet.sides(train, val, moved, near=near) == (["train", "val", "train"], 0)


def train_time() -> float:
    """Seconds of the middle of a piece of the stream front that is for training."""
    origin = {"frame_digest": "", "sampling_probability": 1, "bundle_digest": ""}
    for piece in range(2_000_000, 2_001_000):
        time_s = (piece + 0.5) * PIECE_S
        place = {"device_id": "car-7", "stream_id": "front"}
        named = FrameOrigin(**origin, **place, capture_time_unix_nano=round(time_s * NANO))
        if split_of(named) == "train":
            return time_s
    raise AssertionError


def test_frames_within_a_moment_of_one_that_moved(fleet: Fleet) -> None:
    fleet.label(fleet.frame(embedding(0), next(VAL)))
    time_s = train_time()
    moved = fleet.frame(embedding(0, NEARLY / 2), "front", time_s)
    seconds = (1 - MOMENT_S, MOMENT_S - 1, -MOMENT_S, MOMENT_S)
    beside = [fleet.frame(embedding(99 + s), "front", time_s + s) for s in seconds]
    assert fleet.label(moved) == ["val"]
    assert fleet.sides(*beside) == (["neither", "neither", "train", "train"], 2)
    elsewhere = fleet.frame(embedding(8), "rear", time_s + 1)
    assert fleet.sides(elsewhere)[0] == [fleet.own(elsewhere)]


def test_label_sets_of_before(fleet: Fleet) -> None:
    """They have noted no side: it was that of the time alone."""
    val = fleet.frame(embedding(0), next(VAL))
    record_labels(fleet._store, "before", Path("before"), {val: ""})
    assert fleet.label(fleet.frame(embedding(0, NEARLY), next(TRAIN))) == ["val"]


def test_the_import_says_and_notes_it(tmp_path: Path) -> None:
    frames = []
    for stream, angle in ((next(TRAIN), 0.0), (next(VAL), 0.15), (next(TRAIN), 0.075)):
        made = collected(stream)
        made.frame.stream_id, made.frame.capture_time_unix_nano = stream, 0
        made.embeddings[0].values[:] = embedding(0, angle).tolist()
        frames.append(made)
    with stored(tmp_path / "store", *frames[:2]) as store:
        export_annotations(store, tmp_path / "batch")
        edit(tmp_path / "batch", touch)
        before = read_corrected(tmp_path / "batch", store=store)
        record_labels(store, before.labels.version, tmp_path, before.frames)
        store.put(serialise(frames[2]))
        export_annotations(store, tmp_path / "all")
        edit(tmp_path / "all", touch)
        corrected = read_corrected(tmp_path / "all", store=store)
        assert "1 frames are nearly the same as some for training and some" in corrected.said[-1]
        assert sorted(corrected.frames.values()) == ["neither", "train", "val"]
        sides = {person.stream_id: person.split for person in corrected.labels.persons}
        assert sides == dict(
            zip([f.frame.stream_id for f in frames], ["train", "val", "neither"], strict=True)
        )
        wide = read_corrected(tmp_path / "all", store=store, near=0.0)
        assert sorted(wide.frames.values()) == ["train", "train", "val"]
        with pytest.raises(InvalidInput, match="--near is 3; expected a cosine distance"):
            read_corrected(tmp_path / "all", store=store, near=3)


def lspet() -> list[Path]:
    """Some pictures of people; skips the test where there are none."""
    data = os.environ.get("MISGIVING_DATA")
    pictures = sorted(Path(data or "nowhere").glob("lspet/images/*.jpg"))[:12]
    if not pictures:
        pytest.skip("MISGIVING_DATA has no lspet/")
    return pictures


def later(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture as a still scene has it again: a little brighter, and coded once more."""
    brighter = np.clip(image.astype(int) + 4, 0, 255).astype(np.uint8)
    coded = cv2.imencode(".jpg", brighter[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    return decode(coded.tobytes())


def kept(estimator: Estimator, image: NDArray[np.uint8], stream: str) -> bytes:
    encoded, (height, width) = encode_png(image), image.shape[:2]
    whole = Region(0, 0, width, height)
    flag = Decision(True, Reason.PREDICTED_LOSS, 1.0, 1.0)
    names = estimator.bundle.manifest.keypoints.names
    frame = KeptFrame(
        Frame(image=encoded, frame_id=stream, stream_id=stream),
        tuple(person.flagged_as(flag) for person in estimator.infer(encoded, [whole]).persons),
        estimator.bundle.digest,
        keypoint_names=names,
        device_id="car-7",
    )
    return to_message(frame).SerializeToString(deterministic=True)


def test_pictures_and_what_is_nearly_the_same(tmp_path: Path) -> None:
    """Real pictures and the bundle in the package: a label set, and a later one of the same scenes
    seen by other streams."""
    images = [decode(path.read_bytes()) for path in lspet()]
    estimator = Estimator.load()

    def imported(store: Store, name: str) -> Mapping[str, Split]:
        export_annotations(store, tmp_path / name)
        edit(tmp_path / name, touch)
        corrected = read_corrected(tmp_path / name, store=store)
        record_labels(store, name, tmp_path / name, corrected.frames)
        return corrected.frames

    with Store(tmp_path / "store") as store:
        sides = [TRAIN, VAL] * 6
        first = [
            store.put(kept(estimator, one, next(s))) for one, s in zip(images, sides, strict=True)
        ]
        before = imported(store, "first")
        assert [before[one] for one in first] == ["train", "val"] * 6
        again = [
            store.put(kept(estimator, later(one), next(s)))
            for one, s in zip(images, reversed(sides), strict=True)
        ]
        after = imported(store, "second")
    assert [after[one] for one in first] == ["train", "val"] * 6
    assert [after[one] for one in again] == ["train", "val"] * 6
