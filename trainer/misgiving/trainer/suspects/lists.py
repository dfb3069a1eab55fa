"""What other verbs take: everybody's suspicion, whom to keep, and labels with sides exchanged back.

Nothing of the data is changed. A mended label is a proposal that nobody has looked at.

Axes: K joints.
"""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.durable import write_durably
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.data.base import PoseSet, Sample
from misgiving.trainer.data.spec import without_span
from misgiving.trainer.suspects.judging import Judgement, Suspicion

Ways = Mapping[str, NDArray[np.int64]]
CSV, KEEP, MENDED = "suspects.csv", "keep", "mended"
COLUMNS = ("id", "score", "suspect", "sides_exchanged", "joints_contradicted")


def write_csv(path: Path, ordered: Sequence[Suspicion]) -> None:
    """Everybody, the most suspect first."""
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(COLUMNS)
    for one in ordered:
        joints = " ".join(one.joints)
        rows.writerow((one.id, f"{one.score:.4f}", int(one.suspect), one.exchanged, joints))
    write_durably(path, buffer.getvalue().encode())


def write_lists(out: Path, parts: Sequence[PoseSet], judged: Judgement) -> list[str]:
    """Write whom to keep of each part and whose sides to exchange, and give the specs of both.

    Args:
        out: where to.
        parts: of the data, as they were given.
        judged: all of them.
    """
    known = {name: judged.of(at) for at, name in enumerate(judged.answers.ids)}
    specs = []
    for number, part in enumerate(parts, 1):
        tail = f"-{number}" if len(parts) > 1 else ""
        held = [known[name] for name in part.ids if name in known]  # the others cannot be read
        specs += _keep(out / f"{KEEP}{tail}.txt", part, held)
        specs += _mended(out / f"{MENDED}{tail}.json", part, held, judged.ways)
    return specs


def _keep(path: Path, part: PoseSet, held: Sequence[Suspicion]) -> list[str]:
    ids = [one.id for one in held if not one.suspect]
    write_durably(path, "".join(f"{name}\n" for name in ids).encode())
    return [f"{without_span(part.spec)}#@{path}"] if ids else []


def _mended(path: Path, part: PoseSet, held: Sequence[Suspicion], ways: Ways) -> list[str]:
    """None where nobody is mended, or where there are no files that a COCO file could name."""
    way = {one.id: ways[one.exchanged] for one in held if one.exchanged}
    places = [at for at, name in enumerate(part.ids) if name in way]
    samples = [exchanged(part[at], way[part.ids[at]], part.keypoints) for at in places]
    files = {sample.id: str(sample.path) for sample in samples if sample.path}
    if not files:
        return []
    folder = Path(os.path.commonpath([Path(file).parent for file in files.values()]))
    documents = [_coco(n, one, folder) for n, one in enumerate(samples, 1) if one.path]
    content = {
        "info": {"description": f"proposals: sides exchanged by misgiving suspects, {part.spec}"},
        "categories": [_category(part.keypoints)],
        "images": [image for image, _ in documents],
        "annotations": [person for _, person in documents],
    }
    write_durably(path, json.dumps(content).encode())
    return [f"coco:{path}@{folder}"]


def exchanged(sample: Sample, joints: NDArray[np.int64], keypoints: KeypointSet) -> Sample:
    """A person whose label has left and right exchanged at some joints."""
    places = np.arange(len(keypoints))
    places[joints] = keypoints.mirror[joints]
    hidden = None if sample.hidden is None else sample.hidden[places]
    return replace(
        sample,
        points=sample.points[places],
        labelled=sample.labelled[places],
        hidden=hidden,
        box=sample.region,
    )


def _coco(number: int, sample: Sample, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A person's image and annotation, as a COCO file has them."""
    assert sample.path is not None
    assert sample.region is not None  # a suspect has labelled joints
    height, width = sample.image.shape[:2]
    hidden = np.zeros(len(sample.labelled), bool) if sample.hidden is None else sample.hidden
    seen = np.where(sample.labelled, 2 - hidden, 0)
    points = np.where(sample.labelled[:, None], sample.points, 0)
    box = sample.region
    name = str(sample.path.relative_to(folder))
    image = {"id": number, "file_name": name, "width": width, "height": height}
    return image, {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "keypoints": [v for row in np.column_stack([points, seen]).tolist() for v in row],
        "bbox": [box.x, box.y, box.width, box.height],
        "area": sample.area or box.width * box.height,
    }


def _category(keypoints: KeypointSet) -> dict[str, Any]:
    bones = [[a + 1, b + 1] for a, b in keypoints.skeleton]
    return {"id": 1, "name": "person", "keypoints": keypoints.names, "skeleton": bones}
