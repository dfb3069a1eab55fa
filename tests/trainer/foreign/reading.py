"""A family in the hand: an answer by torch, and the same by ONNX Runtime from an exported graph."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.foreign.families import FAMILIES
from misgiving.trainer.foreign.families.base import Answer, Family, Shapes


class _Read(nn.Module):
    """A family's ``read`` as a module; without a presence a graph has one output less."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family = family

    def forward(self, *raw: Tensor) -> tuple[Tensor, ...]:
        return tuple(part for part in self.family.read(raw) if part is not None)


def made(
    name: str, options: Mapping[str, Any], raw: Mapping[str, Tensor], keypoints: int, size: int
) -> Family:
    """The family for outputs like these of a square input; the batch is free."""
    outputs: dict[str, tuple[int | None, ...]] = {
        key: (None, *tensor.shape[1:]) for key, tensor in raw.items()
    }
    return FAMILIES[name](options, Shapes(outputs, keypoints, size, size))


def read(family: Family, raw: Mapping[str, Tensor]) -> Answer:
    """The answer, checked for what every family promises."""
    answer = family.read([raw[name] for name in family.outputs])
    batch = len(answer.points)
    assert answer.points.shape == (batch, answer.confidence.shape[1], 2)
    assert answer.evidence.shape == (batch, family.evidence)
    assert (answer.presence is not None) == family.has_presence
    for part in answer:
        assert part is None or bool(part.isfinite().all())
    assert 0 <= float(answer.confidence.min()) <= float(answer.confidence.max()) <= 1
    return answer


def check_export(family: Family, raw: Mapping[str, Tensor], path: Path) -> None:
    """ONNX Runtime says what torch says, at batch 1 and 3, and hides no NaN."""
    given = [raw[name][:1].repeat_interleave(3, 0) * 1.0 for name in family.outputs]
    for tensor in given:  # three different images
        tensor.mul_(torch.tensor([1.0, 0.9, 0.8]).reshape(-1, *[1] * (tensor.ndim - 1)))
    session = _exported(family, given, path)
    for batch in (1, 3):
        part = [tensor[:batch] for tensor in given]
        for ours, its in zip(_Read(family)(*part), _run(session, part), strict=True):
            np.testing.assert_allclose(its, ours.numpy(), rtol=1e-4, atol=1e-4)
    given[0][1] = torch.nan
    _, _, evidence, *_ = _run(session, given)
    assert np.isnan(evidence).any(axis=1).tolist() == [False, True, False]


def _exported(family: Family, raw: Sequence[Tensor], path: Path) -> onnxruntime.InferenceSession:
    batch = torch.export.Dim("batch", min=1, max=64)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "# The axis name: batch will not be used")
        program = torch.onnx.export(
            _Read(family).eval(),
            tuple(raw),
            dynamo=True,
            opset_version=18,
            dynamic_shapes={"raw": tuple({0: batch} for _ in raw)},
            verbose=False,
        )
    assert program is not None
    program.save(path / "read.onnx")
    return onnxruntime.InferenceSession(path / "read.onnx", providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, raw: Sequence[Tensor]) -> list[Any]:
    names = [entry.name for entry in session.get_inputs()]
    feed = zip(names, (tensor.numpy() for tensor in raw), strict=True)
    return list(session.run(None, dict(feed)))


def refused(
    name: str, options: Mapping[str, Any], raw: Mapping[str, Tensor], keypoints: int, size: int
) -> str:
    """What a family says, in one line, of options or outputs that do not fit."""
    with pytest.raises(InvalidInput) as caught:
        made(name, options, raw, keypoints, size)
    text = str(caught.value)
    assert "\n" not in text
    return text


def looks(keypoints: int, size: int, **outputs: tuple[int | None, ...]) -> Any:
    """The name and the options of the family that outputs look like; None where of none."""
    shapes = Shapes(outputs, keypoints, size, size)
    guesses = ((name, family.guess(shapes)) for name, family in FAMILIES.items())
    return next(((name, guess) for name, guess in guesses if guess is not None), None)
