"""A person detector: a foreign ONNX file, and the TOML that says what it does not tell itself.

Axes: H W of the input, h w of the picture as it lies in the input.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.errors import EngineError, InvalidInput
from misgiving.runtime.geometry import Region, Window, cut, input_to_image, whole_pixels
from misgiving.runtime.persons.detector_toml import DetectorTable, InputTable, PersonTable, parsed
from misgiving.runtime.persons.families import Candidates, Outputs
from misgiving.runtime.persons.finding import Picture, distinct

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}

_LAYOUTS = {(True, False): "NCHW", (False, True): "NHWC"}
"""By whether the second and the last axis have three."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a picture lies in the input, px of the input."""

    left: int
    top: int
    height: int
    width: int


class Detector:
    """Finds persons with a foreign net. Several threads may ask it at once.

    >>> detector = Detector.load(Path("detector.toml"))
    >>> regions = detector.find(images.read(Path("runner.jpg")))
    """

    def __init__(self, table: DetectorTable, session: Any, name: str) -> None:
        """Join a description and an open session; ``load`` does so for a path.

        Args:
            table: what the outputs mean.
            session: of ONNX Runtime.
            name: of the file, for messages.

        Raises:
            InvalidInput: the description does not fit the graph.
        """
        self._table, self._session = table, session
        self._input = _image_input(table.input, session, name)
        self._layout, self._height, self._width = _size(table.input, self._input.shape, name)
        self._type = _type_of(table.input, self._input, name)
        _check_outputs(table, session, name)
        self.find(np.full((self._height, self._width, 3), table.input.pad, np.uint8))  # warm, too

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "Detector":
        """Read a detector's TOML, and open the ONNX file that it names.

        Args:
            path: of the TOML.
            device: the pose net's; the detector runs on CUDA beside it, else on the CPU.

        Raises:
            InvalidInput: either cannot be read, or what the TOML says does not fit the graph.
            EngineError: the graph does not run here.
        """
        from misgiving.runtime.engines.onnx import PROVIDERS, open_session

        table = parsed(path)
        provider = PROVIDERS["cuda" if device == "cuda" else "cpu"]
        session = open_session(_content(path, table), provider, threads=1)
        try:
            return cls(table, session, table.file)
        except InvalidInput as error:
            raise InvalidInput(f"{path}: {error}") from error

    @property
    def most(self) -> int:
        """Persons whom it names at most."""
        return self._table.person.most

    def find(self, image: Picture) -> tuple[Region, ...]:
        """Boxes of whole image px within the image, the surest first; none where nobody is."""
        height, width = image.shape[:2]
        place = self._place(height, width)
        table = self._table
        found = table.output.read(
            self._run(self._prepared(image, place)), self._height, self._width, table.person.index
        )
        shift = np.array([place.left, place.top])
        corners = found.boxes.reshape(-1, 2, 2).astype(np.float64) - shift
        frame = Window(0, 0, width, height)
        points = input_to_image(corners, frame, place.height, place.width)
        return persons_of(Candidates(points, found.scores), table.person, height, width)

    def _place(self, height: int, width: int) -> _Place:
        """Where a picture of this size lies in the input."""
        fit = self._table.input.fit
        if fit == "stretch":
            return _Place(0, 0, self._height, self._width)
        scale = min(self._height / height, self._width / width)
        high, wide = max(1, round(height * scale)), max(1, round(width * scale))
        if fit == "letterbox-top-left":
            return _Place(0, 0, high, wide)
        return _Place((self._width - wide) // 2, (self._height - high) // 2, high, wide)

    def _prepared(self, image: Picture, place: _Place) -> NDArray[Any]:
        """The input of a picture."""
        said = self._table.input
        whole = Window(0, 0, image.shape[1], image.shape[0])
        canvas = np.full((self._height, self._width, 3), said.pad, np.uint8)
        bottom, right = place.top + place.height, place.left + place.width
        canvas[place.top : bottom, place.left : right] = cut(
            image, whole, place.height, place.width
        )
        pixels = canvas[..., ::-1] if said.colour == "BGR" else canvas
        planes = (3, 1, 1) if self._layout == "NCHW" else (1, 1, 3)
        if self._layout == "NCHW":
            pixels = pixels.transpose(2, 0, 1)
        pixels = np.ascontiguousarray(pixels)
        if self._type is np.uint8:
            return pixels[None]
        scaled = pixels.astype(np.float32)
        scaled -= np.reshape(said.mean, planes).astype(np.float32)
        scaled /= np.reshape(said.std, planes).astype(np.float32)
        return scaled[None].astype(self._type, copy=False)

    def _run(self, pixels: NDArray[Any]) -> Outputs:
        names = list(self._table.output.outputs)
        try:
            said = self._session.run(names, {self._input.name: pixels})
        except Exception as error:  # onnxruntime's own exceptions share no public base class
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise EngineError(f"person detector failed: {first_line}") from error
        return {name: one.astype(np.float32) for name, one in zip(names, said, strict=True)}


def persons_of(
    found: Candidates, table: PersonTable, height: int, width: int
) -> tuple[Region, ...]:
    """Who of some candidates is a person in a picture of this size, the surest first.

    Args:
        found: corners in image px, (N, 2, 2), and scores, (N,).
        table: what counts as one.
        height, width: of the picture, px.
    """
    corners, scores = found
    sane = np.isfinite(corners).all(axis=(1, 2)) & (scores >= table.score)
    corners = np.clip(corners[sane], 0, [width, height])
    scores, sides = scores[sane], corners[:, 1] - corners[:, 0]
    kept = (sides > 0).all(axis=1) & (sides.max(axis=1, initial=0) >= table.smallest_px)
    corners, scores, sides = corners[kept], scores[kept], sides[kept]
    boxes = np.hstack([corners[:, 0], sides]).tolist()
    surest = distinct(boxes, scores.tolist(), table.iou)[: table.most]
    frame = Region(0, 0, width, height)
    return tuple(whole_pixels(corners[index], frame) for index in surest)


def _content(path: Path, table: DetectorTable) -> bytes:
    try:
        content = (path.parent / table.file).read_bytes()
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        why = getattr(error, "strerror", error)
        raise InvalidInput(
            f"{path}: file {table.file!r}: {why}; expected an ONNX file, relative to the TOML"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if table.sha256 not in (None, digest):
        raise InvalidInput(
            f"{path}: {table.file} has sha256 {digest}; expected {table.sha256}. Take the file "
            "that the TOML was written for"
        )
    return content


def _image_input(said: InputTable, session: Any, name: str) -> Any:
    inputs = {one.name: one for one in session.get_inputs()}
    if said.name is None and len(inputs) == 1:
        return next(iter(inputs.values()))
    if said.name not in inputs:
        raise InvalidInput(
            f"input.name is {said.name or 'missing'} and {name} has {', '.join(inputs)}; expected "
            "one of them"
        )
    return inputs[said.name]


def _size(said: InputTable, shape: list[Any], name: str) -> tuple[str, int, int]:
    """Layout, height and width of the input, where they are told."""
    layout = said.layout or _LAYOUTS.get(tuple(side == 3 for side in shape[1::2]))
    if layout is None or len(shape) != 4 or (isinstance(shape[0], int) and shape[0] != 1):
        raise InvalidInput(
            f"{name} takes {shape}; expected one image, (1, 3, H, W) or (1, H, W, 3), and "
            "input.layout where that does not tell which"
        )
    own = dict(zip(layout, shape, strict=True))
    asked = {"C": 3, "H": said.height or own["H"], "W": said.width or own["W"]}
    if any(isinstance(own[axis], int) and own[axis] != side for axis, side in asked.items()):
        raise InvalidInput(
            f"{name} takes {shape}; expected {layout} of 3 channels and input.height and width as "
            "they stand there. Correct the TOML"
        )
    if not (isinstance(asked["H"], int) and isinstance(asked["W"], int)):
        raise InvalidInput(
            f"{name} leaves its input's size free; expected input.height and input.width"
        )
    return layout, asked["H"], asked["W"]


def _type_of(said: InputTable, image_input: Any, name: str) -> Any:
    if image_input.type not in _TYPES:
        raise InvalidInput(f"{name} takes {image_input.type}; expected {', '.join(_TYPES)}")
    kind = _TYPES[image_input.type]
    if kind is np.uint8 and (any(said.mean) or said.std != [1, 1, 1]):
        raise InvalidInput(f"{name} takes whole numbers; expected input.mean 0 and input.std 1")
    return kind


def _check_outputs(table: DetectorTable, session: Any, name: str) -> None:
    known = [one.name for one in session.get_outputs()]
    for output in table.output.outputs:
        if output not in known:
            raise InvalidInput(
                f"output {output!r} is unknown and {name} has {', '.join(known)}; expected one "
                "of them"
            )
