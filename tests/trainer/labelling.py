"""Label sets as the collector writes them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from misgiving.runtime.images import encode_png
from misgiving.runtime.keypoints import LSP
from shared.training import JOINTS, standing

IMAGE = np.arange(30 * 20 * 3, dtype=np.uint8).reshape(30, 20, 3)


def person(name: str, image: str, visibility: list[int] | None = None) -> dict[str, Any]:
    return {
        "id": name,
        "image": image,
        "region": [1.0, 2.0, 10.0, 20.0],
        "points": standing().tolist(),
        "visibility": visibility or [2] * JOINTS,
        "sampling_probability": 0.5,
        "predicted_loss": 1.5,
        "bundle_digest": "d",
        "device_id": "car",
        "stream_id": "front",
    }


def label_set(folder: Path, *persons: dict[str, Any], **changes: object) -> Path:
    """A label set as the collector writes it, with one PNG for each image it names."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name in {p["image"] for p in persons}:
        (folder / "images" / name).write_bytes(encode_png(IMAGE))
    content = {
        "schema_version": 3,
        "version": "v3",
        "keypoints": LSP.model_dump(),
        "persons": list(persons),
        **changes,
    }
    (folder / "labels.json").write_text(json.dumps(content), encoding="utf-8")
    return folder
