"""A bundle and an engine in one object: images in, answers out, in this process."""

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.answer.answerer import Model, answer
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.precisions import FP32
from misgiving.runtime.engines.base import Engine
from misgiving.runtime.engines.loading import ModelOptions, load
from misgiving.runtime.flags.policy import FlagPolicy, FlagState, decide
from misgiving.runtime.geometry import Region
from misgiving.runtime.nouns import Answer, make_frame
from misgiving.runtime.persons.detector import Detector
from misgiving.runtime.persons.finding import Finder


class Estimator:
    """Answers images here, without a server. Not thread-safe: its engine takes one call at a time.

    >>> estimator = Estimator.load()
    >>> result = estimator.infer(Path("runner.jpg").read_bytes(), [Region(40, 10, 120, 200)])
    >>> person = result.persons[0]
    >>> person.flag.raised == (person.predicted_loss >= person.flag.threshold)
    True
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        threshold: float | str | None = None,
        finder: Finder | None = None,
    ) -> None:
        """Join a bundle and an engine that runs it; ``load`` does so for a path.

        Args:
            bundle: whose crop rule, names and threshold count.
            engine: of that bundle's graph.
            threshold: of ``predicted_loss``, from which on a person is flagged, or the name of one
                of the bundle's; None for the first of those.
            finder: finds persons in images without regions; None looks at the whole image.
        """
        self.bundle = bundle
        self.engine = engine
        self._find = finder.find if finder else None
        policy = FlagPolicy(threshold=bundle.threshold(threshold), audit_rate=0.0)
        self._flagging = FlagState(policy)

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        device: str = "cpu",
        threads: int = 0,
        threshold: float | str | None = None,
        precision: str = FP32,
        trust: Path | str | None = None,
        detector: Path | str | None = None,
    ) -> "Estimator":
        """Load a bundle, start its engine and let it check itself.

        Args:
            path: None for MISGIVING_BUNDLE, else the package's own.
            device: ``cpu``, ``cuda`` or ``tensorrt``.
            threads: CPU threads within one inference; 0 for half of the usable cores.
            threshold: see the constructor.
            precision: one that the bundle has.
            trust: folder of the public keys whose bundles are taken, or one such key; None for
                MISGIVING_TRUST, else everybody's.
            detector: TOML of a person detector, which finds the persons of images without
                regions; None looks at the whole image.

        Raises:
            BundleError, EngineError: it does not load, or computes something else here.
            FailedPrecondition: the trusted keys cannot be read.
            InvalidInput: the detector's TOML cannot be read, or does not fit its graph.
        """
        trust = Path(trust) if trust else None
        detector = Path(detector) if detector else None
        named = None if path is None else Path(path)
        options = ModelOptions(
            bundle=named, device=device, threads=threads, precision=precision, trust=trust
        )
        bundle, engine = load(options)
        finder = Detector.load(detector, device) if detector else None
        return cls(bundle, engine, threshold, finder)

    def infer(
        self,
        image: bytes | NDArray[np.uint8],
        regions: Iterable[Region] = (),
        frame_id: str = "",
        *,
        bgr: bool = False,
    ) -> Answer:
        """Answer one image, as ``Client.infer`` does.

        JPEG or PNG bytes, or an array (H, W, 3), RGB unless ``bgr``. OpenCV's arrays are BGR, and
        nothing in the pixels tells: ``estimator.infer(cv2.imread("runner.jpg"), bgr=True)``.

        Without regions, the detector finds the persons, perhaps none. Where there is no detector,
        one person is looked for in the whole image. The reply's region says which part of it the
        answer is of.

        Raises:
            ImageError, RegionError: the image or a region cannot be answered.
            ResourceExhausted: too many pixels or regions.
        """
        frame = make_frame(image, regions, frame_id, bgr=bgr)
        answered = answer(Model(self.bundle, self.engine), frame, find=self._find)
        never = [1.0] * max(1, len(answered.persons))  # nobody is kept here
        _, decisions = decide(self._flagging, frame, answered, time.monotonic(), never)
        return answered.decided(decisions)
