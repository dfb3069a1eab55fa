"""Heads on a pose net of somebody else: what ``misgiving attach`` does."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from misgiving.runtime.durable import check_new
from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.trainer import progress
from misgiving.trainer.config import AugmentConfig, FitConfig, HeadConfig, ModelConfig, Recipe
from misgiving.trainer.data import PoseSet
from misgiving.trainer.foreign.net_file import NetFile
from misgiving.trainer.training import Compute, Trained, train

HEADS = (HeadConfig(kind="evidence", objective="miss"),)

_FIT = FitConfig(
    epochs=0,
    continued_epochs=0,
    head_epochs=8,
    batch_size=16,
    head_learning_rate=1e-3,
)
_LOOKED_AT = 64
_ASTRAY = AugmentConfig(astray=1 / 8)


def attach(
    net: NetFile,
    data: PoseSet,
    validation: PoseSet,
    out: Path | str,
    compute: Compute,
    *,
    heads: Sequence[HeadConfig] = HEADS,
    epochs: int | None = None,
    seed: int = 0,
) -> Trained:
    """Train heads on a frozen net, and write a checkpoint like any other.

    A run that was killed goes on, as :func:`train` does.

    >>> trained = attach(
    ...     read_net(Path("people.toml")),
    ...     open_data("synthetic:1,32,0-0.4"),
    ...     open_data("synthetic:2,16"),
    ...     Path("runs/people"),
    ...     Compute(device="cpu", threads=1),
    ...     epochs=1,
    ... )
    >>> trained.record.metrics["persons"]
    16.0

    Args:
        net: what its NET.toml says, and its file.
        data: persons with the net's keypoints; those that no label of theirs has are not learnt.
        validation: persons that are not in ``data``.
        out: the checkpoint's folder, which must be new.
        compute: where the heads are trained; ONNX Runtime runs the net on the same device.
        heads: the first is exported unless another is asked for.
        epochs: how often each person is seen, each time changed by chance.
        seed: of the heads' start and of chance.

    Raises:
        DataError: as :func:`train`; or no label is of a joint that the net has.
        InvalidInput: a head cannot read the taps.
    """
    out = Path(out)
    check_new(out)
    _check_heads(heads, net)
    taught = _taught(net, data)
    if not net.keypoints.torso:
        progress.print_line(
            f"the keypoints of {net.config.file} have no torso, by which PCK tells who failed: the "
            'heads learn, and nothing measures them. Give keypoints = "FILE.toml" with a torso'
        )
    recipe = Recipe(
        name=f"attached-{Path(net.config.file).stem}",
        model=ModelConfig(
            input_size=(net.height, net.width),
            net=replace(net.config, taught=taught),
            heads=tuple(heads),
            padding=net.padding,
        ),
        fit=replace(_FIT, head_epochs=epochs or _FIT.head_epochs, seed=seed),
        augment=_ASTRAY,
    )
    return train(recipe, data, validation, out, compute, foreign=net.content)


def _taught(net: NetFile, data: PoseSet) -> tuple[str, ...]:
    """The joints that the labels teach; says which they are where they are not all."""
    known = data.labelled
    if known is None:  # then all are labelled alike
        known = np.stack([data[index].labelled for index in range(min(len(data), _LOOKED_AT))])
    seen = known.any(axis=0)
    names = net.keypoints.names
    taught = tuple(names[place] for place in np.flatnonzero(seen))
    if not taught:
        raise DataError(
            f"{data.spec} labels none of the joints of {net.config.file} ({', '.join(names[:5])} "
            "…); expected some with the same names. Name them alike in NET.toml"
        )
    if len(taught) < len(names):
        progress.print_line(
            f"{len(taught)} of {len(names)} joints are labelled and learnt: {', '.join(taught)}"
        )
    return taught


def _check_heads(heads: Sequence[HeadConfig], net: NetFile) -> None:
    """Raise InvalidInput where the multi-scale head finds no pyramid of squares."""
    sizes = [(tap.height, tap.width) for tap in net.config.taps]
    square = all(height == width for height, width in sizes)
    falling = all(a > b for (a, _), (b, _) in pairwise(sizes))
    if any(head.kind == "conv" for head in heads) and not (square and falling):
        shown = ", ".join(f"{height} × {width}" for height, width in sizes)
        raise InvalidInput(
            f"head conv needs square taps, each smaller than the one before; {net.config.file} "
            f"has {shown}. Choose evidence, levels or gap, or other taps"
        )
