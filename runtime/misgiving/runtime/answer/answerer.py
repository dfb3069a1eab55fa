"""A frame in, a result out, whatever the transport: cut the regions, ask an engine, flag.

Axes: R regions of a frame, K keypoints, S signals, D embedding.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import images
from misgiving.runtime.answer import closer as framing
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.base import Engine, Prediction, joined, rows
from misgiving.runtime.errors import ImageError, ResourceExhausted
from misgiving.runtime.flags.policy import FlagPolicy
from misgiving.runtime.geometry import Region, Window, cut, input_to_image, window_of
from misgiving.runtime.wire.decisions import to_flag
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import fleet_pb2 as fleet
from misgiving.v1 import pose_pb2 as pose

MAX_REGIONS = 64
"""Persons of one frame; more is refused."""
MAX_WINDOW_PIXELS = 128_000_000
"""What a region's window may measure; a whole frame of images.MAX_PIXELS needs about this."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A frame, decoded and cut: one region, window and crop for each person."""

    regions: list[Region]
    windows: list[Window]
    crops: list[NDArray[np.uint8]]
    whole: Region | None
    """The frame itself where it was asked about and may be looked at again, else None."""


class Detector:
    """Everything about a bundle but the running of its graph. Safe to use from many threads."""

    def __init__(
        self,
        bundle: Bundle,
        policy: FlagPolicy,
        draw: Callable[[], float] = random.random,
        *,
        rounds: int = framing.ROUNDS,
    ) -> None:
        """Join a bundle and a flagging policy.

        Args:
            bundle: whose crop rule, names and digest go into the results.
            policy: decides about each person.
            draw: uniform random numbers in [0, 1) for the audit sample.
            rounds: closer looks that a whole frame may get; 0 answers it as it is.
        """
        self.bundle = bundle
        self.policy = policy
        self.rounds = rounds
        self._draw = draw

    def prepare(self, frame: pose.Frame, closer: Sequence[Region] = ()) -> Prepared:
        """Decode a frame and cut its regions; takes milliseconds of CPU.

        Args:
            frame: as the client sent it.
            closer: regions to look at instead of its own.

        Raises:
            ImageError, RegionError: the frame cannot be answered.
            ResourceExhausted: too many pixels or regions.
        """
        regions = [*closer] or regions_of(frame)
        image = decode(frame)
        height, width = image.shape[:2]
        rule = self.bundle.manifest.crop
        wanted: list[Region | None] = [*regions] or [None]
        windows = [_check_window(window_of(one, height, width, rule)) for one in wanted]
        crops = [cut(image, window, rule.height, rule.width) for window in windows]
        whole = Region(0, 0, width, height)
        return Prepared(regions or [whole], windows, crops, None if regions else whole)

    def closer(self, seen: Prepared, said: Prediction) -> list[Region]:
        """The regions to look at before an answer is given; none where it stands as it is."""
        if seen.whole is None:
            return []
        rule, (window,) = self.bundle.manifest.crop, seen.windows
        points, confidence = said.keypoints[0, :, :2], said.keypoints[0, :, 2]
        points = input_to_image(points, window, rule.height, rule.width)
        failure = self.bundle.manifest.calibration.probability(float(said.predicted_loss[0]))
        if not framing.asks(points, confidence, window, rule, failure):
            return []
        return framing.closer(points, confidence, window, rule, seen.whole)

    def kept(
        self, seen: Prepared, said: Prediction, closer: Prepared, answer: Prediction
    ) -> tuple[Prepared, Prediction]:
        """The best of a look and the closer ones that it asked for; where none of those is
        better, it asks no more."""
        every = joined([said, answer])
        at = framing.best(every.predicted_loss)
        best = Prepared(
            [(seen.regions + closer.regions)[at]],
            [(seen.windows + closer.windows)[at]],
            [(seen.crops + closer.crops)[at]],
            seen.whole if at else None,
        )
        return best, rows(every, slice(at, at + 1))

    def detect(self, frame: pose.Frame, engine: Engine) -> wire.FrameResult:
        """Answer one frame here and now, without a server."""
        prepared = self.prepare(frame)
        started = time.monotonic_ns()
        prediction = engine.infer(np.stack(prepared.crops))
        taken = time.monotonic_ns() - started
        for _ in range(self.rounds):
            if not (regions := self.closer(prepared, prediction)):
                break
            closer = self.prepare(frame, regions)
            started = time.monotonic_ns()
            answer = engine.infer(np.stack(closer.crops))
            taken += time.monotonic_ns() - started
            prepared, prediction = self.kept(prepared, prediction, closer, answer)
        result = self.result(frame, prepared, prediction)
        result.inference_nano = taken
        return result

    def result(
        self, frame: pose.Frame, prepared: Prepared, prediction: Prediction
    ) -> wire.FrameResult:
        """What the engine said of a frame's R crops, in image pixels and with flags."""
        return wire.FrameResult(
            frame_id=frame.frame_id,
            persons=[self._person(prepared, prediction, i) for i in range(len(prediction))],
            bundle_digest=self.bundle.digest,
            collection=wire.COLLECTION_NONE,
        )

    def collected(
        self,
        frame: pose.Frame,
        result: wire.FrameResult,
        embedding: NDArray[np.float32],
        device_id: str = "",
    ) -> fleet.CollectedFrame:
        """A kept frame on its way to the fleet side, with everything said about it.

        Args:
            frame: as the client sent it; the spool encodes what is raw.
            result: its answer.
            embedding: shape (R, D).
            device_id: which device says so.
        """
        manifest = self.bundle.manifest
        return fleet.CollectedFrame(
            frame=frame,
            persons=result.persons,
            embeddings=[fleet.Embedding(values=row.tolist()) for row in embedding],
            bundle_digest=self.bundle.digest,
            signal_names=[signal.name for signal in manifest.signals],
            keypoint_names=manifest.keypoints.names,
            skeleton=[index for bone in manifest.keypoints.skeleton for index in bone],
            device_id=device_id,
        )

    def model(self, engine: Engine) -> wire.Model:
        """What is loaded, for a client."""
        manifest = self.bundle.manifest
        return wire.Model(
            name=manifest.name,
            version=manifest.version,
            bundle_digest=self.bundle.digest,
            engine=str(engine.provider),
            input_height_px=manifest.crop.height,
            input_width_px=manifest.crop.width,
            keypoint_names=manifest.keypoints.names,
            skeleton=[wire.Bone(from_index=a, to_index=b) for a, b in manifest.keypoints.skeleton],
            signals=[signal.name for signal in manifest.signals],
            threshold=self.policy.threshold,
            audit_rate=self.policy.audit_rate,
            failure_definition=str(manifest.failure),
            thresholds=[
                wire.Threshold(name=name, predicted_loss=value, statement=self._stated(name))
                for name, value in manifest.calibration.by_name().items()
            ],
        )

    def _stated(self, name: str) -> str:
        calibration = self.bundle.manifest.calibration
        promises = {one.name: str(one) for one in calibration.thresholds}
        if name in promises:
            return promises[name]
        return f"failure is more likely than not: {calibration.said(calibration.by_name()[name])}"

    def _person(self, prepared: Prepared, prediction: Prediction, index: int) -> pose.Person:
        rule = self.bundle.manifest.crop
        points, confidence = np.split(prediction.keypoints[index], [2], axis=-1)
        points = input_to_image(points, prepared.windows[index], rule.height, rule.width)
        score = float(prediction.predicted_loss[index])
        return pose.Person(
            region=_wire_region(prepared.regions[index]),
            keypoints=[
                pose.Keypoint(x_px=x, y_px=y, confidence=c)
                for (x, y), (c,) in zip(points.tolist(), confidence.tolist(), strict=True)
            ],
            predicted_loss=score,
            failure_probability=self.bundle.manifest.calibration.probability(score),
            keypoint_loss=prediction.keypoint_loss[index].tolist(),
            signals=prediction.signals[index].tolist(),
            flag=to_flag(self.policy.decide(score, self._draw())),
        )


def decode(frame: pose.Frame) -> NDArray[np.uint8]:
    """The RGB image (H, W, 3) of a frame; errors as ``images.decode`` and ``images.from_raw``."""
    name = f"frame {frame.frame_id!r}"
    match frame.image.WhichOneof("data"):
        case "encoded":
            return images.decode(frame.image.encoded, name)
        case "raw":
            raw = frame.image.raw
            return images.from_raw(raw.pixels, raw.height_px, raw.width_px, name)
    raise ImageError(f"{name} has no image; expected 'encoded' or 'raw'. Set one of them")


def regions_of(frame: pose.Frame) -> list[Region]:
    """The regions that the client sent, none for the whole frame.

    Raises:
        ResourceExhausted: more than MAX_REGIONS.
    """
    if len(frame.regions) > MAX_REGIONS:
        raise ResourceExhausted(
            f"frame {frame.frame_id!r} has {len(frame.regions)} regions; at most {MAX_REGIONS} "
            "are answered. Send the rest in another frame"
        )
    return [Region(r.x_px, r.y_px, r.width_px, r.height_px) for r in frame.regions]


def _check_window(window: Window) -> Window:
    if window.width * window.height > MAX_WINDOW_PIXELS:
        raise ResourceExhausted(
            f"region needs a window of {window.width} × {window.height} px; at most "
            f"{MAX_WINDOW_PIXELS:,} pixels are cut. Send a smaller region, or a smaller image"
        )
    return window


def _wire_region(region: Region) -> pose.Region:
    return pose.Region(x_px=region.x, y_px=region.y, width_px=region.width, height_px=region.height)
