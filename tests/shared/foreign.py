"""Tiny foreign nets of every output family, with their NET.toml; and heads on them."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from misgiving.runtime.keypoints import LSP
from misgiving.trainer.attaching import attach
from misgiving.trainer.config import head_named
from misgiving.trainer.data import PoseSet
from misgiving.trainer.foreign.net_file import NetFile, read_net
from misgiving.trainer.training import Trained
from shared.small_graphs import model, node, value, weights
from shared.training import CPU, people

Nodes = list[onnx.NodeProto]
Constants = dict[str, NDArray[Any]]
Sizes = tuple[int, int]
"""Height and width of an input, px."""

WIDE = {"r4": 4, "r8": 8, "r16": 8}
"""Channels of the tensors at each stride."""


def _linear(source: str, name: str, shape: Sequence[int], features: int) -> tuple[Nodes, Constants]:
    """``name`` (B, *shape), from all numbers of a tensor."""
    flat, product = f"{name}/flat", f"{name}/product"
    nodes = [
        node("Flatten", source, flat),
        node("MatMul", f"{flat} {name}/w", product),
        node("Reshape", f"{product} {name}/shape", name),
    ]
    count = int(np.prod(shape))
    return nodes, {
        f"{name}/w": weights(count, features, seed=7).T.copy(),
        f"{name}/shape": np.array([-1, *shape], np.int64),
    }


def _maps(
    source: str, name: str, count: int, size: Sizes, seed: int = 3
) -> tuple[Nodes, Constants]:
    """``name`` (B, count, h, w), each as high as 1; no two cells of a flat picture are alike."""
    nodes = [
        node("Conv", f"{source} {name}/w", f"{name}/drawn"),
        node("Add", f"{name}/drawn {name}/where", f"{name}/raw"),
        node("Sigmoid", f"{name}/raw", name),
    ]
    height, width = (length // int(source[1:]) for length in size)
    return nodes, {
        f"{name}/w": weights(count, WIDE[source], 1, 1, seed=seed),
        f"{name}/where": np.random.default_rng(seed)
        .normal(size=(count, height, width))
        .astype("f"),
    }


def _heatmaps(size: Sizes, joints: int) -> tuple[Nodes, Constants]:
    return _maps("r4", "maps", joints, size)


def _offsets(size: Sizes, joints: int) -> tuple[Nodes, Constants]:
    maps, its = _maps("r8", "maps", joints, size)
    moves, their = _maps("r8", "moves", 2 * joints, size, seed=4)
    return maps + moves, its | their


def _simcc(size: Sizes, joints: int) -> tuple[Nodes, Constants]:
    height, width = size
    features = height * width // 8**2 * WIDE["r8"]
    (x, its), (y, their) = (
        _linear("r8", name, (joints, 2 * length), features)
        for name, length in (("x", width), ("y", height))
    )
    return x + y, its | their


def _regression(size: Sizes, joints: int) -> tuple[Nodes, Constants]:
    features = size[0] * size[1] // 16**2 * WIDE["r16"]
    points, its = _linear("r16", "points/raw", (joints, 3), features)
    there, their = _linear("r16", "there", (1,), features)
    nodes = [*points, node("Sigmoid", "points/raw", "points"), *there]
    return nodes, its | their


def _yolo(size: Sizes, joints: int) -> tuple[Nodes, Constants]:
    """A row for each cell; the first map is where a middle lies, as all others are."""
    nodes, constants = _maps("r8", "rows/maps", 5 + 3 * joints, size)
    nodes += [
        node("Reshape", "rows/maps rows/shape", "rows/shares"),
        node("Mul", "rows/shares rows/scale", "rows"),
    ]
    height, width = size
    scale = [width, height, width, height, 1, *[width, height, 1] * joints]
    return nodes, constants | {
        "rows/shape": np.array([0, 5 + 3 * joints, -1], np.int64),
        "rows/scale": np.array(scale, np.float32)[:, None],
    }


def _yolo_nms(size: Sizes, joints: int) -> tuple[Nodes, Constants]:
    """As rows after suppression, with the class in front of the keypoints."""
    nodes, constants = _yolo(size, joints)
    nodes += [
        node("Transpose", "rows", "rows/last", perm=[0, 2, 1]),
        node("Split", "rows/last rows/parts", "rows/box rows/joints", axis=2),
        node("Slice", "rows/box rows/from rows/to rows/axis", "rows/class"),
        node("Concat", "rows/box rows/class rows/joints", "people", axis=2),
    ]
    parts = {"from": [4], "to": [5], "axis": [2], "parts": [5, 3 * joints]}
    return nodes, constants | {f"rows/{k}": np.array(v, np.int64) for k, v in parts.items()}


FAMILIES: dict[str, tuple[Callable[[Sizes, int], tuple[Nodes, Constants]], dict[str, Any]]] = {
    "heatmaps": (_heatmaps, {"heatmaps": "maps"}),
    "offsets": (_offsets, {"heatmaps": "maps", "offsets": "moves"}),
    "simcc": (_simcc, {"x": "x", "y": "y"}),
    "regression": (
        _regression,
        {
            "points": "points",
            "columns": ["x", "y", "score"],
            "unit": "share",
            "presence": "there",
            "presence_logit": True,
        },
    ),
    "yolo": (_yolo, {"people": "rows"}),
    "yolo_nms": (_yolo_nms, {"people": "people"}),
}
"""How each is made, and its options of NET.toml."""


def net_model(
    family: str = "heatmaps", size: Sizes = (32, 32), joints: int = 14, batch: int | str = "batch"
) -> onnx.ModelProto:
    """A net (B, 3, H, W) with strides 4, 8 and 16."""
    make, options = FAMILIES[family]
    nodes, constants = make(size, joints)
    made = [out for each in nodes for out in each.output]
    outputs = [one for one in options.values() if one in made]
    strided = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    before, trunk, channels = "image", [], 3
    for name, wide in {"r2": 4, **WIDE}.items():
        trunk += [node("Conv", f"{before} {name}/w", f"{name}/raw", **strided)]
        trunk += [node("Relu", f"{name}/raw", name)]
        constants[f"{name}/w"] = weights(wide, channels, 3, 3, seed=len(constants)) * 2
        before, channels = name, wide
    # What the family does not use still has a reader.
    end = node("GlobalAveragePool", "r16", "end")
    image = value("image", [batch, 3, *size])
    return model(
        [*trunk, *nodes, end], image, [value(o, None) for o in [*outputs, "end"]], constants
    )


def write_net(
    folder: Path,
    family: str = "heatmaps",
    size: Sizes = (32, 32),
    joints: Sequence[str] = LSP.names,
    graph: onnx.ModelProto | None = None,
    keys: Mapping[str, Any] | None = None,
) -> Path:
    """NET.toml beside net.onnx; ``keys`` of the first table are set beside the usual ones."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(graph or net_model(family, size, len(joints)), folder / "net.onnx")
    first = {
        "file": "net.onnx",
        "licence": "CC0-1.0",
        "keypoints": list(joints),
        "padding": 1.25,
        **(keys or {}),
    }
    image = {"colour": "RGB", "mean": 127.5, "std": 64.0}
    lines = _lines(first)
    lines += ["[input]", *_lines(image), "[output]"]
    lines += _lines({"family": family, **FAMILIES[family][1]})
    path = folder / "net.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _lines(table: Mapping[str, Any]) -> list[str]:
    """Of TOML, which writes these values as JSON does."""
    return [f"{key} = {json.dumps(each)}" for key, each in table.items()]


def attached(
    out: Path,
    net: NetFile | Path,
    heads: Sequence[str] = ("evidence-miss",),
    data: PoseSet | None = None,
    epochs: int = 1,
) -> Trained:
    """Heads on a net, trained on 24 synthetic persons."""
    what = read_net(net) if isinstance(net, Path) else net
    chosen = [head_named(name) for name in heads]
    data = people(1, 24) if data is None else data
    return attach(what, data, people(2, 8), out, CPU, heads=chosen, epochs=epochs)
