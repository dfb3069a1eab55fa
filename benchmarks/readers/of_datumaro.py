"""Whom datumaro reads of an export: python of_datumaro.py FOLDER prints JSON.

Of CVAT's XML it knows the points, but no skeleton around them: a person begins where the first
joint comes again, and joints outside of the image are not told.
Image → persons → x, y in px and visibility of each joint, as the tool has them.
"""

import json
import sys
from pathlib import Path

import datumaro


def main(folder: Path) -> None:
    read = datumaro.Dataset.import_from(str(folder), "cvat")
    labels = [one.name for one in read.categories()[datumaro.AnnotationType.label]]
    joints = len(labels) - 1
    found = {}
    for item in read:
        points = [[*one.points, 1 if one.attributes["occluded"] else 2] for one in item.annotations]
        places = [one.label - 1 for one in item.annotations]
        assert places == list(range(joints)) * (len(points) // joints)
        persons = [points[at : at + joints] for at in range(0, len(points), joints)]
        found[Path(item.media.path).name] = persons
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
