"""A foreign net as a pose net of ours: ONNX Runtime runs its graph, torch reads what it says.

Axes: B batch, K keypoints, H W input.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from misgiving.runtime.geometry import CropRule
from misgiving.trainer import heatmaps
from misgiving.trainer.foreign.families import FAMILIES
from misgiving.trainer.foreign.families.base import Shapes
from misgiving.trainer.foreign_config import ForeignConfig, Tap
from misgiving.trainer.pose import Level, PoseNet, PoseOutput
from misgiving.trainer.progress import print_line

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

_SIGMA = 1.75
"""Cells, of the Gaussian that stands for a point: what a net without heatmaps is measured by."""

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
}
"""What a graph may take; whole numbers are pixels as they are."""


class ForeignPose(PoseNet):
    """Frozen: it has no weights that torch knows. Its ``features`` are the coarsest tap.

    ``heatmaps`` are Gaussians drawn at its points, in cells of ``stride`` input px, so that the
    loss of every family is measured alike. Confidences, evidence and presence are its own.
    """

    def __init__(
        self, config: ForeignConfig, keypoints: int, rule: CropRule, content: bytes
    ) -> None:
        """
        Args:
            config: what its NET.toml says.
            keypoints: K.
            rule: gives H and W.
            content: of the ONNX file.

        Raises:
            InvalidInput: the file is none that can be run, or does not fit what is said of it.
        """
        from misgiving.trainer.foreign.batches import free_batch
        from misgiving.trainer.foreign.cutting import with_outputs
        from misgiving.trainer.foreign.reading import read_graph
        from misgiving.trainer.foreign.shapes import sized

        taps = config.taps
        super().__init__(taps[-1].channels, [Level(tap.channels, tap.height) for tap in taps])
        self.config, self.content, self.rule = config, content, rule
        graph = read_graph(content, config.file)
        graph = sized(graph, config.input, rule.height, rule.width)
        self.converted = graph.converted
        """Whether the file has an older opset than the bundle's graph."""
        shapes = Shapes(graph.outputs, keypoints, rule.height, rule.width)
        self.family = FAMILIES[config.family](config.output, shapes)
        self.signals = ("mean_confidence", "min_confidence")
        if self.family.has_presence:
            self.signals += ("presence",)
        self.mean = _as_rgb(config, config.input.mean)
        self.std = _as_rgb(config, config.input.std)
        self.size = -(-max(rule.height, rule.width) // config.stride)
        own = with_outputs(graph, (*self.family.outputs, *(tap.name for tap in taps)))
        free = free_batch(own)
        self.one_by_one = free is None
        """Whether the graph takes a single crop at a time."""
        self.model: ModelProto = free or own
        """Image as the net wants it → the family's outputs, and then the taps."""
        self._session: InferenceSession | None = None

    def evidence_size(self, keypoints: int) -> int:
        return self.family.evidence

    @torch.no_grad()
    def forward(self, image: Tensor) -> PoseOutput:
        """(B, 3, H, W) normalised, RGB → PoseOutput."""
        return self.read(self.run(image))

    def run(self, image: Tensor) -> list[Tensor]:
        """What the graph says of images as ``forward`` takes them: outputs, and then taps."""
        session = self._open(image.device)
        (into,) = session.get_inputs()
        array = self.fed(image, into.type)
        rows = np.split(array, len(array)) if self.one_by_one else [array]
        parts = [session.run(None, {into.name: row}) for row in rows]
        columns = (torch.from_numpy(np.concatenate(one)) for one in zip(*parts, strict=True))
        return [column.to(image.device) for column in columns]

    def fed(self, image: Tensor, kind: str) -> NDArray[Any]:
        """Images as ``forward`` takes them → as the graph does; ``kind`` is ONNX Runtime's."""
        fed = image.float().flip(1) if self.config.input.colour == "BGR" else image.float()
        fed = fed.permute(0, 2, 3, 1) if self.config.input.layout == "NHWC" else fed
        into = np.dtype(_TYPES[kind])
        fed = fed if into.kind == "f" else fed.round()
        return np.ascontiguousarray(fed.cpu().numpy().astype(into, copy=False))

    def read(self, outputs: Sequence[Tensor]) -> PoseOutput:
        """What ``run`` gave, as ours would say it; traces into the exported graph."""
        count = len(self.family.outputs)
        floats = [output.float() for output in outputs]
        said = self.family.read(floats[:count])
        pairs = zip(floats[count:], self.config.taps, strict=True)
        pyramid = tuple(_channels_first(tensor, tap) for tensor, tap in pairs)
        cells = said.points / self.config.stride
        everywhere = torch.ones_like(said.confidence, dtype=torch.bool)
        drawn = heatmaps.encode(cells.clamp(0, self.size), everywhere, self.size, _SIGMA)
        own = [said.confidence.mean(1), said.confidence.amin(1)]
        return PoseOutput(
            heatmaps=drawn[:, None],
            features=pyramid[-1],
            pyramid=pyramid,
            found=(cells, said.confidence),
            evidence=said.evidence,
            signals=torch.stack(own if said.presence is None else [*own, said.presence], 1),
        )

    def _open(self, device: torch.device) -> "InferenceSession":
        """Once, with as many threads as torch has, on torch's device where ONNX Runtime has it."""
        import onnxruntime

        from misgiving.runtime.engines.onnx import PROVIDERS, open_session

        if self._session is None:
            provider = PROVIDERS["cuda" if device.type == "cuda" else "cpu"]
            if provider not in onnxruntime.get_available_providers():
                print_line(
                    f"{self.config.file} runs on the CPU: this onnxruntime has no {provider}. "
                    "misgiving[gpu] brings it"
                )
                provider = PROVIDERS["cpu"]
            content = self.model.SerializeToString()
            self._session = open_session(content, provider, torch.get_num_threads())
        return self._session


def _as_rgb(config: ForeignConfig, each: tuple[float, float, float]) -> tuple[float, float, float]:
    a, b, c = each
    return (a, b, c) if config.input.colour == "RGB" else (c, b, a)


def _channels_first(tensor: Tensor, tap: Tap) -> Tensor:
    return tensor.permute(0, 3, 1, 2) if tap.layout == "NHWC" else tensor
