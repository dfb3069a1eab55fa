"""Files of annotated persons for the loaders' tests, with images that are told apart by colour."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from misgiving.runtime.images import encode_png

HEIGHT, WIDTH = 40, 60
NAMES = ["nose", "left_wrist", "right_wrist"]


def write_images(folder: Path, count: int) -> None:
    """``0.png``…, each of one colour: its number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = np.full((HEIGHT, WIDTH, 3), number, np.uint8)
        (folder / f"{number}.png").write_bytes(encode_png(image))


def annotation(number: int, image: int = 0, **changes: Any) -> dict[str, Any]:
    """A COCO annotation of three joints, the second hidden, the third not labelled."""
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "keypoints": [number, 2, 2, 3.5, 4, 1, 0, 0, 0],
        "bbox": [1, 2, 10, 20],
        "area": 150.5,
        "iscrowd": 0,
        **changes,
    }


def document(*annotations: Any, **changes: Any) -> dict[str, Any]:
    """A COCO document with two images, the later one listed first."""
    return {
        "images": [{"id": 7, "file_name": "1.png"}, {"id": 0, "file_name": "0.png"}],
        "annotations": list(annotations),
        "categories": [
            {"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}
        ],
        **changes,
    }


def coco(folder: Path, content: object) -> str:
    """Write a COCO file and its two images; gives the spec."""
    write_images(folder / "images", 2)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "a.json").write_text(text, encoding="utf-8")
    return f"coco:{folder}/a.json@{folder}/images"
