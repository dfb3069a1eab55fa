"""The verb ``recipes``: what there is to train, and what each costs."""

from collections.abc import Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from misgiving.runtime.keypoints import LSP
from misgiving.trainer.config import FitConfig, ModelConfig
from misgiving.trainer.models.network import make_pose_net
from misgiving.trainer.recipes import RECIPES

MEASURED_MS = {
    "demo": 1.1,
    "cpu": 2.7,
    "paper": 161.1,
    "hrnet-w32": 190.4,
    "hrnet-w48": 384.0,
    "resnet-50": 149.3,
    "edge": 5.9,
    "lite": 3.8,
    "deeppose": 4.8,
    "tompson": 6.8,
}
"""CPU time of the exported graph for an image: benchmarks/networks_cpu_202611.md."""

_USES = {
    "demo": "trying out, on a CPU",
    "cpu": "real images, on a CPU",
    "paper": "the paper; wants a GPU",
    "hrnet-w32": "accuracy; wants a GPU",
    "hrnet-w48": "accuracy; wants a GPU",
    "resnet-50": "accuracy; wants a GPU",
    "edge": "Jetson and CPU",
    "lite": "Jetson, CPU; pretrained",
    "deeppose": "comparison: regression",
    "tompson": "comparison: spatial model",
}


def lines() -> Iterator[str]:
    """The table, and what its columns mean."""
    titles = f"{'input px':>8}  {'params M':>8}  {'GMAC':>6}  {'CPU ms':>6}  {'epochs':>6}"
    yield f"{'recipe':<9}  {titles}  for"
    for name, recipe in RECIPES.items():
        parameters, multiplications = cost(recipe.model)
        measured = f"{MEASURED_MS[name]:.1f}" if name in MEASURED_MS else "-"
        yield (
            f"{name:<9}  {recipe.model.input_size:8}  {parameters / 1e6:8.3f}  "
            f"{multiplications / 1e9:6.3f}  {measured:>6}  {_epochs(recipe.fit):>6}  "
            f"{_USES.get(name, '')}".rstrip()
        )
    yield ""
    yield "params, GMAC: of the pose net, for 14 joints. CPU ms: of the exported graph for"
    yield "one image on one thread, from benchmarks/networks_cpu_202611.md. epochs: of the"
    yield "pose net + of the loss heads behind it."


def cost(model: ModelConfig) -> tuple[int, float]:
    """Parameters of a pose net for 14 joints, and its multiplications for one image.

    Nothing is computed: tensors of the device ``meta`` have a shape only.
    """
    with torch.device("meta"):
        net = make_pose_net(model, len(LSP)).eval()
        image = torch.empty(1, 3, model.crop.height, model.crop.width)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(image)
    return sum(p.numel() for p in net.parameters()), counter.get_total_flops() / 2


def _epochs(fit: FitConfig) -> str:
    return f"{fit.epochs}+{fit.head_epochs}" if fit.head_epochs else str(fit.epochs)
