"""Annotations in tools' own formats, and what of a pool goes out to them."""

from bad_input.case import Case

TOOLS = [
    Case(
        "nothing that was not exported before",
        "annotations export --store store --out new --new",
        "has no frame to export",
    ),
    Case(
        "a file of CVAT with another skeleton",
        "annotations import batch-other --out new",
        "batch-other/annotations.xml has keypoint 'tail'; expected",
    ),
    Case(
        "files of two formats",
        "annotations import batch-two --out new",
        "batch-two has annotations.json and annotations.xml; expected one",
    ),
    Case(
        "a format whose file is not there",
        "annotations import batch --out new --format yolo",
        "batch has none of data.yaml",
    ),
    Case(
        "a cosine distance that is none",
        "annotations import batch --out new --trust-untouched --near 3",
        "--near is 3; expected a cosine distance from 0 to 2",
    ),
    Case("a pool that is not there", "prelabel --data images:nowhere --out new", "nowhere"),
    Case("no data", "prelabel --data voc:empty --out new", "data spec is 'voc:empty'"),
    Case(
        "a batch that is there already",
        "prelabel --data synthetic:4,2 --out batch",
        "nothing is overwritten. Give another",
    ),
]
