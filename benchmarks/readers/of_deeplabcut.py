"""Whom DeepLabCut reads of its CSV: python of_deeplabcut.py FOLDER prints JSON.

Its own convertcsv2h5 makes the file that its trainings read; that file is read here.
Image → persons → x, y in px and visibility of each joint; an empty cell is not labelled.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from deeplabcut.utils.conversioncode import convertcsv2h5

CONFIG = """Task: readers
scorer: misgiving
date: Nov29
multianimalproject: true
project_path: {project}
video_sets:
  {project}/videos/batch.mp4:
    crop: 0, 100, 0, 100
"""


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        frames = project / "labeled-data" / "batch"
        frames.mkdir(parents=True)
        sheet = "CollectedData_misgiving.csv"
        (frames / sheet).write_bytes((folder / "images" / sheet).read_bytes())
        (project / "config.yaml").write_text(CONFIG.format(project=project))
        convertcsv2h5(str(project / "config.yaml"), userfeedback=False)
        table = pd.read_hdf((frames / sheet).with_suffix(".h5"))
    found = {}
    for (*_, image), row in table.iterrows():
        people = row.to_numpy(float).reshape(table.columns.levshape[1], -1, 2)
        seen = np.isfinite(people).all(axis=2)
        found[image] = [
            [[*(xy if v else (0, 0)), 2 * int(v)] for xy, v in zip(one.tolist(), of, strict=True)]
            for one, of in zip(people, seen, strict=True)
            if of.any()
        ]
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
