"""The verb ``infer``: answer images here, without a server."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np

from misgiving.runtime import draw, images
from misgiving.runtime.bundle import Bundle
from misgiving.runtime.durable import write_durably
from misgiving.runtime.errors import DataError, InvalidInput, MisgivingError
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Region, check_area
from misgiving.runtime.precisions import FP32
from misgiving.runtime.records import result_record
from misgiving.v1 import detector_pb2 as wire


@dataclass(frozen=True, kw_only=True, slots=True)
class InferOptions:
    """What is answered, and how it is shown."""

    paths: tuple[Path, ...]
    bundle: Path | None = None
    """None for the default bundle."""
    regions: tuple[Region, ...] = ()
    """Persons' boxes, the same for every image; none means the whole image, see framing.py."""
    threshold: float | str | None = None
    """In units of predicted_loss, or the name of one of the bundle's; None for its default."""
    device: str = "cpu"
    threads: int = 0
    precision: str = FP32
    json: bool = False
    """One JSON line for each image instead of a table."""
    draw: Path | None = None
    """Folder that takes the drawn images."""
    trust: Path | None = None
    """Whose bundles are taken, see ``loading.load``."""


def infer(options: InferOptions) -> int:
    """Answer, print, and return the exit code: 1 where an image failed."""
    estimator = Estimator.load(
        options.bundle,
        device=options.device,
        threads=options.threads,
        threshold=options.threshold,
        precision=options.precision,
        trust=options.trust,
    )
    targets = _targets(options.paths, options.draw) if options.draw else repeat(None)
    if not options.json:
        print(_HEADER)
    failed = 0
    for path, target in zip(options.paths, targets, strict=False):
        try:
            _one(path, target, estimator, options)
        except MisgivingError as error:
            failed += 1
            print(f"misgiving: {error}", file=sys.stderr)
    return int(failed > 0)


def parse_region(text: str) -> Region:
    """A region from ``X,Y,W,H``.

    Raises:
        InvalidInput: not four numbers, or no area.
    """
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidInput(
            f"region is {text!r}; expected X,Y,W,H in image pixels, for example 10,20,80,160"
        ) from error
    region = Region(x, y, width, height)
    check_area(region)
    return region


def _one(path: Path, target: Path | None, estimator: Estimator, options: InferOptions) -> None:
    data = images.read_bytes(path)
    result = estimator.infer(data, options.regions, images.name_of(path))
    manifest = estimator.bundle.manifest
    if options.json:
        signals = [signal.name for signal in manifest.signals]
        print(json.dumps(result_record(result, manifest.keypoints.names, signals)))
    else:
        print("\n".join(_rows(path, result)))
    if target:
        _draw(path, data, result, estimator.bundle, target)


_HEADER = f"{'predicted loss':>14}  {'P(failure)':>10}  {'flag':<4}  {'mean confidence':>15}  image"


def _rows(path: Path, result: wire.FrameResult) -> Iterator[str]:
    for index, person in enumerate(result.persons):
        confidence = np.mean([point.confidence for point in person.keypoints])
        known = person.HasField("failure_probability")
        probability = f"{person.failure_probability:.3f}" if known else "-"
        flag = "FLAG" if person.flag.raised else "-"
        name = images.name_of(path) + (f" #{index}" if len(result.persons) > 1 else "")
        numbers = f"{person.predicted_loss:14.4f}  {probability:>10}"
        yield f"{numbers}  {flag:<4}  {confidence:15.3f}  {name}"


def _draw(path: Path, data: bytes, result: wire.FrameResult, bundle: Bundle, target: Path) -> None:
    picture = draw.draw_result(images.decode(data), result.persons, bundle.manifest.keypoints)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_durably(target, images.encode_png(picture))
    except OSError as error:
        raise DataError(f"{target}: {error.strerror}; expected a folder to write to") from error


def _targets(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Where each drawn image goes; images of the same name in different folders are numbered."""
    seen: Counter[str] = Counter()
    targets = []
    for path in paths:
        seen[path.stem] += 1
        number = f".{seen[path.stem]}" if seen[path.stem] > 1 else ""
        targets.append(folder / f"{path.stem}.pose{number}.png")
    return targets
