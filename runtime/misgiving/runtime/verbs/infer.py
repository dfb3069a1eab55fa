"""The verb ``infer``: answer images and videos here, without a server."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import draw, images
from misgiving.runtime.durable import write_durably
from misgiving.runtime.engines.loading import ModelOptions
from misgiving.runtime.errors import DataError, InvalidInput, MisgivingError
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.geometry import Region, check_area
from misgiving.runtime.nouns import Answer
from misgiving.runtime.sources.recordings import Source, images_in, open_source
from misgiving.runtime.wire.records import result_record


@dataclass(frozen=True, kw_only=True, slots=True)
class InferOptions(ModelOptions):
    """What is answered, and how it is shown."""

    paths: tuple[Path, ...]
    """Images, folders of images, videos."""
    regions: tuple[Region, ...] = ()
    """Persons' boxes, the same for every image; none means the whole image, see closer.py."""
    detector: Path | None = None
    """TOML of a person detector, for images without regions."""
    threshold: float | str | None = None
    """In units of predicted_loss, or the name of one of the bundle's; None for its default."""
    json: bool = False
    """One JSON line for each image instead of a table."""
    draw: Path | None = None
    """Folder that takes the drawn images."""

    def __post_init__(self) -> None:
        if self.regions and self.detector:
            raise InvalidInput(
                f"--detector is {self.detector} and there is a --region, which every image takes; "
                "expected one of them. Leave one out"
            )


@dataclass(frozen=True, slots=True)
class _Image:
    """One image before it is read."""

    name: str
    label: str
    """What its drawing is called by."""
    read: Callable[[], bytes | NDArray[np.uint8]]


def infer(options: InferOptions) -> int:
    """Answer, print, and return the exit code: 1 where an image failed."""
    estimator = Estimator.load(
        options.bundle,
        device=options.device,
        threads=options.threads,
        threshold=options.threshold,
        precision=options.precision,
        trust=options.trust,
        detector=options.detector,
    )
    if not options.json:
        print(_HEADER)
    work = _Work(estimator, options)
    for path in options.paths:
        work.take(path)
    if work.failed > 1:
        _say(f"{work.failed} failed, {work.answered} answered")
    return int(work.failed > 0)


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


def _images(path: Path) -> Iterable[_Image]:
    """What a path names; the frames of a video come as they are read.

    Raises:
        DataError: no folder or file that can be read, a folder without images, or no video.
    """
    try:
        if path.is_dir():
            return [_of_file(file) for file in images_in(path)]
        return [_of_file(path)] if images.is_image(path) else _of_video(path, open_source(path))
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; expected an image, a folder of images or a video that can "
            "be read"
        ) from error


def _of_file(path: Path) -> _Image:
    return _Image(images.name_of(path), path.stem, partial(images.read_bytes, path))


def _of_video(path: Path, video: Source) -> Iterator[_Image]:
    for frame in video:
        name, label = f"{images.name_of(path)}#{frame.name}", f"{path.stem}.{frame.name}"
        yield _Image(name, label, partial(lambda image: image, frame.image))
    if left_out := video.unreadable:
        raise DataError(
            f"{path}: {left_out} of its frames cannot be read; expected all. Copy it again"
        )


@dataclass(slots=True)
class _Work:
    """Answers what it is given, and counts what failed."""

    estimator: Estimator
    options: InferOptions
    answered: int = 0
    failed: int = 0
    _drawn: Counter[str] = field(default_factory=Counter)

    def take(self, path: Path) -> None:
        """Answer every image of a path; what cannot be opened counts as one."""
        with self._counting():
            for image in _images(path):
                with self._counting():
                    self._answer(image)
                    self.answered += 1

    @contextmanager
    def _counting(self) -> Iterator[None]:
        try:
            yield
        except MisgivingError as error:
            self.failed += 1
            _say(str(error))

    def _answer(self, image: _Image) -> None:
        data = image.read()
        result = self.estimator.infer(data, self.options.regions, image.name)
        manifest = self.estimator.bundle.manifest
        if self.options.json:
            signals = [signal.name for signal in manifest.signals]
            print(json.dumps(result_record(result, manifest.keypoints.names, signals)))
        else:
            print("\n".join(_rows(image.name, result)))
        if self.options.draw:
            pixels = images.decode(data) if isinstance(data, bytes) else data
            picture = draw.draw_result(pixels, result.persons, manifest.keypoints)
            _write(self._target(self.options.draw, image.label), picture)

    def _target(self, folder: Path, label: str) -> Path:
        """Where a drawing goes; images of the same name in different folders are numbered."""
        self._drawn[label] += 1
        number = f".{self._drawn[label]}" if self._drawn[label] > 1 else ""
        return folder / f"{label}.pose{number}.png"


_HEADER = f"{'predicted loss':>14}  {'P(failure)':>10}  {'flag':<4}  {'mean confidence':>15}  image"


def _rows(name: str, result: Answer) -> Iterator[str]:
    if not result.persons:
        yield f"{'-':>14}  {'-':>10}  {'-':<4}  {'-':>15}  {name}: nobody"
    for index, person in enumerate(result.persons):
        confidence = person.keypoints[:, 2].mean()
        known = person.failure_probability
        probability = "-" if known is None else f"{known:.3f}"
        flag = "FLAG" if person.flag.raised else "-"
        which = f" #{index}" if len(result.persons) > 1 else ""
        numbers = f"{person.predicted_loss:14.4f}  {probability:>10}"
        yield f"{numbers}  {flag:<4}  {confidence:15.3f}  {name}{which}"


def _write(target: Path, picture: NDArray[np.uint8]) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_durably(target, images.encode_png(picture))
    except OSError as error:
        raise DataError(f"{target}: {error.strerror}; expected a folder to write to") from error


def _say(text: str) -> None:
    print(f"misgiving: {text}", file=sys.stderr)
