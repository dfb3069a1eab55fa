"""A torch module as a foreign net: traced once, and from then on an ONNX file like any other.

So one way trains, checks and serves both, and a checkpoint can be read without the module's code.
"""

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from typing import Any, Literal

import onnx
import torch
from torch import Tensor, nn

from misgiving.export.tracing import stripped, traced
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.foreign.net_file import NetFile
from misgiving.trainer.foreign_config import ForeignConfig, ForeignInput, Tap

Three = tuple[float, float, float]


def net_of_module(
    module: nn.Module,
    *,
    name: str,
    taps: Sequence[str],
    output: Mapping[str, Any],
    keypoints: KeypointSet,
    height: int,
    width: int,
    mean: Three,
    std: Three,
    colour: Literal["RGB", "BGR"] = "RGB",
    padding: float = 1.25,
    licence: str = "not stated",
) -> NetFile:
    """What ``attach`` takes, of a module (B, 3, H, W) float32 → tensor, or a tuple or dict of some.

    The module itself stays as it is: a copy in evaluation mode is traced, without gradients.

    >>> from torch import nn
    >>> net = net_of_module(
    ...     nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 14, 1)),
    ...     name="mine",
    ...     taps=["1"],
    ...     output={"family": "heatmaps", "heatmaps": "output0"},
    ...     keypoints=keypoints_named("lsp14"),
    ...     height=128,
    ...     width=96,
    ...     mean=(123.7, 116.3, 103.5),
    ...     std=(58.4, 57.1, 57.4),
    ... )
    >>> net.config.taps
    (Tap(name='1', layout='NCHW', channels=8, height=32, width=24),)

    Args:
        module: the pose net.
        name: of the file that stands for it.
        taps: submodules by name, finest first, whose output (B, C, h, w) the heads read.
        output: the family and its options as NET.toml has them. Outputs are called output0,
            output1, …, those of a dict by their keys.
        keypoints: that it answers with, in its order.
        height: H, px.
        width: W, px.
        mean: in the order of ``colour``, in 0–255; ``std`` divides what is left.
        colour: that it was trained on.
        padding: window over the person's box.
        licence: of its weights.

    Raises:
        InvalidInput: it has no such submodule, gives something else, or cannot be traced.
    """
    copied = copy.deepcopy(module).cpu().eval()
    known = dict(copied.named_modules())
    if wrong := [tap for tap in taps if tap not in known] or ([""] if not taps else []):
        raise InvalidInput(
            f"taps has {wrong[0]!r}; expected names of submodules, for example "
            f"{', '.join([one for one in known if one][:5])}"
        )
    image = torch.zeros(2, 3, height, width)
    tapped = _Tapped(copied, taps).eval()
    with torch.no_grad():
        names, tensors = tapped.said(image)
        pairs = zip(taps, tensors[len(names) :], strict=True)
        inner = tuple(_tap(one, tensor) for one, tensor in pairs)
        model = _model(tapped, name, image, [*names, *taps])
    content = stripped(model).SerializeToString()
    family = dict(output)
    config = ForeignConfig(
        file=f"{name}.onnx",
        sha256=sha256(content).hexdigest(),
        licence=licence,
        input=ForeignInput(name="image", layout="NCHW", colour=colour, mean=mean, std=std),
        family=family.pop("family"),
        output=family,
        taps=inner,
    )
    return NetFile(
        config=config,
        keypoints=keypoints,
        padding=padding,
        height=height,
        width=width,
        content=content,
    )


def _model(tapped: "_Tapped", name: str, image: Tensor, outputs: list[str]) -> onnx.ModelProto:
    try:
        return traced(tapped, {"image": image}, outputs)
    except torch.onnx.OnnxExporterError as error:
        raise InvalidInput(
            f"{name} cannot be traced: {' '.join(str(error.__cause__ or error).split())[:200]}; "
            "expected a module that torch.onnx.export takes. Mend it, or make an ONNX file of it"
        ) from error


class _Tapped(nn.Module):
    """A module that gives what hooks saw inside it, too."""

    def __init__(self, module: nn.Module, taps: Sequence[str]) -> None:
        super().__init__()
        self.module, self.taps = module, taps

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.said(image)[1]

    def said(self, image: Tensor) -> tuple[list[str], tuple[Tensor, ...]]:
        """Names of the outputs; the outputs, and the taps after them."""
        seen: dict[str, Tensor] = {}  # an attribute would be part of what is traced
        with ExitStack() as hooks:
            for tap in self.taps:
                hook = partial(_keep, seen, tap)
                hooks.enter_context(self.module.get_submodule(tap).register_forward_hook(hook))
            named = _named(self.module(image))
        if unseen := [tap for tap in self.taps if tap not in seen]:
            raise InvalidInput(f"tap {unseen[0]!r} is never run; expected a submodule that is")
        return list(named), (*named.values(), *(seen[tap] for tap in self.taps))


def _keep(
    seen: dict[str, Tensor], name: str, module: nn.Module, inputs: object, output: Tensor
) -> None:
    seen[name] = output


def _named(output: object) -> dict[str, Tensor]:
    parts = [output] if isinstance(output, Tensor) else output
    if isinstance(parts, list | tuple):
        parts = {f"output{i}": one for i, one in enumerate(parts)}
    if not isinstance(parts, Mapping) or not all(isinstance(t, Tensor) for t in parts.values()):
        raise InvalidInput(
            f"the module gives {type(output).__name__}; expected a tensor, or several as a tuple, "
            "list or dict"
        )
    return dict(parts)


def _tap(name: str, tensor: Tensor) -> Tap:
    if not isinstance(tensor, Tensor) or tensor.dim() != 4:
        raise InvalidInput(f"tap {name!r} gives no (B, C, h, w); expected one. Take another module")
    _, channels, height, width = tensor.shape
    return Tap(name=name, layout="NCHW", channels=channels, height=height, width=width)
