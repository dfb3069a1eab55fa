"""Every pose net as an ONNX file, written once in a test run."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from misgiving.export.graph import FusedGraph
from misgiving.export.onnx import write_onnx
from misgiving.export.precision import Quantiser, to_fp16
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.data.crops import evaluation_crop
from misgiving.trainer.models import Network
from shared.once import made_once
from shared.training import NETS, people

COUNT = 16


@cache
def exported(name: str, root: Path) -> tuple[FusedGraph, Path, NDArray[np.uint8]]:
    """A net of NETS, its file below ``root``, and COUNT crops to ask it about."""
    torch.manual_seed(0)
    model, data = NETS[name], people(3, 256, 0.0, 1.0)
    crops = np.stack([evaluation_crop(data[i], model.crop)[0] for i in range(COUNT)])
    seen = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    graph = FusedGraph(_decided(Network(model, LSP), seen))
    file = made_once(root / name / "model.onnx", lambda path: write_onnx(graph, path, {}))
    return graph, file, crops


def _decided(network: Network, crops: torch.Tensor) -> Network:
    """With statistics of real images and heatmaps that have one peak: a new net's are nearly
    empty, and rounding alone would say where their largest value is."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.out_channels == len(LSP):
            torch.nn.init.normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1  # after twenty passes a smaller one still has what was there
    with torch.no_grad():
        for _ in range(20):
            network.train()(crops)
    return network


def lowered(file: Path, images: NDArray[np.uint8], precision: str, folder: Path) -> Path:
    """A file in fp16, or quantised over some images."""
    model, target = onnx.load(file), folder / "lower.onnx"
    if precision == "fp16":
        onnx.save_model(to_fp16(model), target)
    else:
        Quantiser(model, precision, images, folder).quantise(target)
    return target
