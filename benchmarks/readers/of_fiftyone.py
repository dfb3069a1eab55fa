"""Whom FiftyOne reads of a COCO export: python of_fiftyone.py FOLDER prints JSON.

Image → persons → x, y in px and visibility of each joint, as the tool has them.
"""

import json
import sys
from pathlib import Path

import fiftyone


def main(folder: Path) -> None:
    read = fiftyone.Dataset.from_dir(
        dataset_type=fiftyone.types.COCODetectionDataset,
        data_path=str(folder / "images"),
        labels_path=str(folder / "annotations.json"),
        label_types="keypoints",
        label_field="people",
    )
    found = {}
    for sample in read:
        sample.compute_metadata()
        width, height = sample.metadata.width, sample.metadata.height
        persons = sample["people"].keypoints if sample["people"] else []
        found[sample.filename] = [
            [
                [x * width, y * height, v]
                for (x, y), v in zip(one.points, one["visible"], strict=True)
            ]
            for one in persons
        ]
    read.delete()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
