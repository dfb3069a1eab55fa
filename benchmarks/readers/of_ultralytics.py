"""Whom Ultralytics reads of a YOLO-pose export: python of_ultralytics.py FOLDER prints JSON.

Image → persons → x, y in px and visibility of each joint, as the tool has them.
"""

import json
import os
import sys
from pathlib import Path

from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset


def main(folder: Path) -> None:
    os.chdir(folder)  # which data.yaml's path is relative to
    data = check_det_dataset(str(folder / "data.yaml"), autodownload=False)
    read = YOLODataset(img_path=data["train"], data=data, task="pose", augment=False)
    found = {}
    for label in read.labels:
        height, width = label["shape"]
        joints = label["keypoints"].astype(float) * [width, height, 1]
        found[Path(label["im_file"]).name] = joints.tolist()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
