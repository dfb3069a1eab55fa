"""Open Inference Protocol v2: requests as frames, answers as tensors.

Only the server may load this module, see ``open_inference.proto``.
Axes: H W image, R regions or persons, K keypoints, S signals.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import images
from misgiving.runtime.errors import ImageError, InvalidInput, NotFound
from misgiving.runtime.geometry import Region, check_count
from misgiving.runtime.nouns import Answer, Frame, ModelInfo, Person
from misgiving.runtime.wire.frames import check_name
from misgiving.v1 import open_inference_pb2 as wire

PLATFORM = "misgiving_bundle"

_MAX_DIMS = 9
"""Of a shape that a message shows; ours have up to three."""
_INPUTS = {"image": ("UINT8", (-1, -1, 3)), "regions": ("FP32", (-1, 4))}
_VALUES: dict[str, Callable[[Person], Any]] = {
    "keypoints": lambda person: person.keypoints,
    "predicted_loss": lambda person: person.predicted_loss,
    "failure_probability": lambda person: _or_nan(person.failure_probability),
    "flagged": lambda person: person.flag.raised,
    "keypoint_loss": lambda person: person.keypoint_loss,
    "signals": lambda person: person.signals,
}
"""Output → what it says of a person. All are always there, some of them with nothing in them."""


def to_metadata(info: ModelInfo) -> wire.ModelMetadataResponse:
    """What goes in and comes out; JPEG and PNG, as BYTES, go in too."""
    return wire.ModelMetadataResponse(
        name=info.name,
        versions=[info.version],
        platform=PLATFORM,
        inputs=[
            wire.ModelMetadataResponse.TensorMetadata(name=name, datatype=datatype, shape=shape)
            for name, (datatype, shape) in _INPUTS.items()
        ],
        outputs=[
            wire.ModelMetadataResponse.TensorMetadata(
                name=name, datatype=_datatype(name), shape=shape
            )
            for name, shape in _shapes(info).items()
        ],
    )


def check_model(name: str, version: str, info: ModelInfo) -> None:
    """Raise NotFound unless a model that is asked for is the one that is loaded."""
    if name != info.name or version not in ("", info.version):
        asked = f"{name!r} {version}".rstrip()
        raise NotFound(
            f"model is {asked}; expected {info.name!r} {info.version}, which is loaded. "
            "Name it, and leave the version empty for whichever is there"
        )


def to_frame(request: wire.ModelInferRequest, info: ModelInfo) -> Frame:
    """What a request holds.

    Raises:
        NotFound: it asks another model.
        InvalidInput: its tensors are not those of the metadata, or do not hold what they say; its
            id is too long.
        ResourceExhausted: a raw image of too many pixels, or too many regions.
    """
    check_model(request.model_name, request.model_version, info)
    check_name("id", request.id)
    _check_names("output", request.outputs, _VALUES)
    _check_names("input", request.inputs, _INPUTS)
    tensors = {one.name: one for one in _tensors(request)}
    if "image" not in tensors:
        raise ImageError(
            f"frame {request.id!r} has no input 'image'; expected UINT8 [H, W, 3], "
            "or BYTES [1] with a JPEG or PNG. Add it"
        )
    return Frame(
        _image(tensors["image"], f"frame {request.id!r}"),
        _regions(tensors["regions"], request.id) if "regions" in tensors else (),
        request.id,
        _parameter(request, "stream_id", "string_param", ""),
        _parameter(request, "capture_time_unix_nano", "int64_param", 0),
    )


def to_response(
    answer: Answer, request: wire.ModelInferRequest, info: ModelInfo
) -> wire.ModelInferResponse:
    """An answer, with the outputs that the request asks for."""
    response = wire.ModelInferResponse(
        model_name=info.name, model_version=info.version, id=answer.frame_id
    )
    shapes = _shapes(info)
    for name in [one.name for one in request.outputs] or _VALUES:
        values = _array(name, answer.persons, shapes[name])
        response.outputs.add(name=name, datatype=_datatype(name), shape=values.shape)
        response.raw_output_contents.append(values.tobytes())
    said = response.parameters
    said["bundle_digest"].string_param = answer.bundle_digest
    said["collection"].string_param = answer.collection.value
    said["queue_nano"].int64_param = answer.queue_nano
    said["inference_nano"].int64_param = answer.inference_nano
    if answer.age_nano is not None:
        said["age_nano"].int64_param = answer.age_nano
    return response


def _shapes(info: ModelInfo) -> dict[str, tuple[int, ...]]:
    """Of the outputs; -1 where the size is not known beforehand."""
    points = len(info.keypoint_names)
    return {
        "keypoints": (-1, points, 3),
        "predicted_loss": (-1,),
        "failure_probability": (-1,),
        "flagged": (-1,),
        "keypoint_loss": (-1, -1),
        "signals": (-1, len(info.signals)),
    }


def _datatype(output: str) -> str:
    return "BOOL" if output == "flagged" else "FP32"


def _array(name: str, persons: Iterable[Person], shape: tuple[int, ...]) -> NDArray[Any]:
    rows = [_VALUES[name](person) for person in persons]
    kind = np.bool_ if _datatype(name) == "BOOL" else np.dtype("<f4")
    return np.array(rows, kind) if rows else np.empty([max(size, 0) for size in shape], kind)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    datatype: str
    shape: tuple[int, ...]
    contents: wire.InferTensorContents
    raw: bytes | None
    """In place of the contents."""

    def bad(self, expected: str) -> InvalidInput:
        return InvalidInput(
            f"input {self.name!r} is {self.datatype or 'of no datatype'} {list(self.shape)}; "
            f"expected {expected}"
        )

    def cut_short(self, count: int, unit: str, expected: int) -> InvalidInput:
        return InvalidInput(
            f"input {self.name!r} of shape {list(self.shape)} has {count} {unit}; "
            f"expected {expected}. Send all of them, typed or raw"
        )


def _tensors(request: wire.ModelInferRequest) -> list[_Tensor]:
    count = len(request.raw_input_contents)
    if count and count != len(request.inputs):
        raise InvalidInput(
            f"request has {len(request.inputs)} inputs and {count} raw_input_contents; "
            "expected one for each input, or none. Send all tensors raw, or all typed"
        )
    raws: list[bytes | None] = [None] * len(request.inputs)
    if count:
        raws = list(request.raw_input_contents)
    return [
        _Tensor(one.name, one.datatype, tuple(one.shape[:_MAX_DIMS]), one.contents, raw)
        for one, raw in zip(request.inputs, raws, strict=True)
    ]


def _check_names(kind: str, tensors: Sequence[Any], known: Mapping[str, Any]) -> None:
    """Of the first few: a message has room for millions, and one more than known is wrong."""
    names = [one.name for one in tensors[: len(known) + 1]]
    for name in names:
        if name not in known or names.count(name) > 1:
            many = f" is there {names.count(name)} times" if name in known else ""
            raise InvalidInput(
                f"{kind} {name!r}{many or ' is not known'}; expected {', '.join(known)}, "
                "each at most once. Ask for the model's metadata"
            )


def _image(tensor: _Tensor, name: str) -> "bytes | NDArray[np.uint8]":
    if tensor.datatype == "BYTES" and tensor.shape == (1,):
        return _encoded(tensor)
    expected = "UINT8 [H, W, 3], or BYTES [1] with a JPEG or PNG"
    if tensor.datatype != "UINT8" or len(tensor.shape) != 3 or min(tensor.shape) < 1:
        raise tensor.bad(expected)
    height, width, channels = tensor.shape
    if channels != 3:
        raise tensor.bad(expected + (". Drop the alpha channel" if channels == 4 else ""))
    images.check_size(height, width, name)
    if tensor.raw is not None:
        return images.from_raw(tensor.raw, height, width, name)
    values = np.array(tensor.contents.uint_contents, np.uint32)
    if values.size and values.max() > 255:
        raise ImageError(f"{name} has a pixel of {values.max()}; expected 0 to 255. Scale it")
    return images.from_raw(values.astype(np.uint8).tobytes(), height, width, name)


def _encoded(tensor: _Tensor) -> bytes:
    if tensor.raw is None:
        elements = tensor.contents.bytes_contents
        if len(elements) != 1:
            raise tensor.cut_short(len(elements), "elements", 1)
        return elements[0]
    size, encoded = int.from_bytes(tensor.raw[:4], "little"), tensor.raw[4:]
    if len(tensor.raw) < 4 or len(encoded) != size:
        raise tensor.cut_short(len(tensor.raw), "bytes, its length first", 4 + size)
    return encoded


def _regions(tensor: _Tensor, frame_id: str) -> tuple[Region, ...]:
    if tensor.datatype != "FP32" or len(tensor.shape) != 2 or tensor.shape[1] != 4:
        raise tensor.bad("FP32 [R, 4], each x, y, width, height in image px")
    if tensor.raw is not None and len(tensor.raw) != 16 * tensor.shape[0]:
        raise tensor.cut_short(len(tensor.raw), "bytes", 16 * tensor.shape[0])
    values = np.frombuffer(tensor.raw or np.array(tensor.contents.fp32_contents, "<f4"), "<f4")
    if values.size != 4 * tensor.shape[0]:
        raise tensor.cut_short(values.size, "values", 4 * tensor.shape[0])
    check_count(len(values) // 4, frame_id)
    return tuple(Region(*row) for row in values.reshape(-1, 4).tolist())


def _parameter(request: wire.ModelInferRequest, name: str, kind: str, absent: Any) -> Any:
    if name not in request.parameters:
        return absent
    value = request.parameters[name]
    if value.WhichOneof("parameter_choice") != kind:
        came = value.WhichOneof("parameter_choice") or "empty"
        raise InvalidInput(f"parameter {name!r} is {came}; expected {kind}. Send it as that")
    return getattr(value, kind)
