"""CVAT's own file, "CVAT for images 1.1": skeletons of points, visible, occluded or outside.

``labels.json`` is what CVAT's *Raw* tab takes, so that the task has the skeleton that the file has.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

from misgiving.collector.annotations.coco import Annotation, Category, Document
from misgiving.collector.annotations.exported import Exported
from misgiving.collector.annotations.formats.base import (
    AnnotationFormat,
    Joint,
    JointPlaces,
    Returned,
    Sheet,
)
from misgiving.runtime.errors import DataError

_FILE = "annotations.xml"
_LABELS = "labels.json"


def write(folder: Path, document: Document, batch: str) -> None:
    """Write ``annotations.xml`` and ``labels.json``."""
    category = document.categories[0]
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    _add_meta(root, category, document, batch)
    for number, (image, persons) in enumerate(document.by_image()):
        size = {"width": str(image.width), "height": str(image.height)}
        named = {"id": str(number), "name": image.file_name}
        part = ET.SubElement(root, "image", named | size)
        for person in persons:
            _add_skeleton(part, category, person)
    ET.indent(root)
    (folder / _FILE).write_bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))
    (folder / _LABELS).write_text(json.dumps([_label(category, document)], indent=1) + "\n")


def _add_meta(root: ET.Element, category: Category, document: Document, batch: str) -> None:
    """The task and its labels, as CVAT's exports have them: other readers insist on it."""
    task = ET.SubElement(ET.SubElement(root, "meta"), "task")
    ET.SubElement(task, "name").text = batch
    ET.SubElement(task, "size").text = str(len(document.images))
    labels = ET.SubElement(task, "labels")
    kinds = [(category.name, "skeleton"), *((name, "points") for name in category.keypoints)]
    for name, kind in kinds:
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = name
        ET.SubElement(label, "type").text = kind
        ET.SubElement(label, "attributes")
        if kind == "points":
            ET.SubElement(label, "parent").text = category.name


def _add_skeleton(image: ET.Element, category: Category, person: Annotation) -> None:
    skeleton = ET.SubElement(
        image, "skeleton", label=category.name, source="auto", occluded="0", z_order="0"
    )
    for name, (x, y, visibility) in zip(category.keypoints, person.joints, strict=True):
        ET.SubElement(
            skeleton,
            "points",
            label=name,
            source="auto",
            outside=str(int(visibility == 0)),
            occluded=str(int(visibility == 1)),
            points=f"{round(x, 3)},{round(y, 3)}",
        )


def _label(category: Category, document: Document) -> dict[str, Any]:
    """The skeleton as CVAT's constructor has it."""
    places = _template(category, document)
    bones = "".join(
        f'<line x1="{places[a - 1][0]}" y1="{places[a - 1][1]}" x2="{places[b - 1][0]}" '
        f'y2="{places[b - 1][1]}" stroke="black" data-type="edge" data-node-from="{a}" '
        f'stroke-width="0.5" data-node-to="{b}"></line>'
        for a, b in category.skeleton
    )
    joints = "".join(
        f'<circle r="1.5" stroke="black" fill="#b3b3b3" cx="{x}" cy="{y}" stroke-width="0.1" '
        f'data-type="element node" data-element-id="{number}" data-node-id="{number}" '
        f"data-label-name={quoteattr(name)}></circle>"
        for number, (name, (x, y)) in enumerate(zip(category.keypoints, places, strict=True), 1)
    )
    sublabels = [{"name": name, "type": "points", "attributes": []} for name in category.keypoints]
    return {
        "name": category.name,
        "type": "skeleton",
        "attributes": [],
        "sublabels": sublabels,
        "svg": bones + joints,
    }


def _template(category: Category, document: Document) -> list[tuple[float, float]]:
    """Where the joints of a new skeleton are, from 10 to 90: as those of the first whole person,
    else on a circle."""
    whole = (one.joints for one in document.annotations if all(v for *_, v in one.joints))
    count = len(category.keypoints)
    circle = [
        (math.cos(2 * math.pi * place / count), math.sin(2 * math.pi * place / count), 2)
        for place in range(count)
    ]
    points = [joint[:2] for joint in next((one for one in whole if one), circle)]
    low = [min(axis) for axis in zip(*points, strict=True)]
    extent = max(max(axis) - min(axis) for axis in zip(*points, strict=True)) or 1.0
    return [
        (round(10 + 80 * (x - low[0]) / extent, 2), round(10 + 80 * (y - low[1]) / extent, 2))
        for x, y in points
    ]


def read(path: Path, exported: Exported) -> Returned:
    """Read ``annotations.xml`` as CVAT exports it."""
    root = _parse(path)
    if root.find("track") is not None:
        raise DataError(f"{path} has tracks; expected shapes. Export as 'CVAT for images 1.1'")
    names = exported.keypoints.names
    sheet = Sheet(exported.category, names)
    places = JointPlaces(path, names)
    for part in root.iter("image"):
        name = part.get("name", "")
        number = sheet.image(name, [_number(path, part, key) for key in ("width", "height")])
        for place, shape in enumerate(part, 1):
            whose = f"{name} shape {place}"
            if shape.tag != "skeleton" or shape.get("label") != exported.category:
                sheet.other(whose, number)
                continue
            joints = _joints(path, shape)
            sheet.person(whose, number, places.person(f"skeleton {place} of {name}", joints))
    return Returned(path=path, content=sheet.content())


def _joints(path: Path, skeleton: ET.Element) -> Iterator[tuple[str, Joint]]:
    for part in skeleton.findall("points"):
        numbers = part.get("points", "").split(",")
        try:
            x, y = map(float, numbers)
        except ValueError as error:
            raise DataError(
                f"{path}: point {part.get('label')!r} is at {part.get('points')!r}; expected x,y. "
                "Export again from CVAT"
            ) from error
        visible = 1 if part.get("occluded") == "1" else 2
        yield part.get("label", ""), (x, y, 0 if part.get("outside") == "1" else visible)


def _number(path: Path, part: ET.Element, key: str) -> float:
    try:
        return float(part.get(key, "0"))
    except ValueError as error:
        raise DataError(
            f"{path}: image {part.get('name')!r} has {key} {part.get(key)!r}; expected a number. "
            "Export again from CVAT"
        ) from error


class _Plain(ET.TreeBuilder):
    """No entities are expanded, because no document type is taken."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise DataError("has a document type (<!DOCTYPE>)")


def _parse(path: Path) -> ET.Element:
    expected = "expected the XML of 'CVAT for images 1.1'; export again from CVAT"
    try:
        parser = ET.XMLParser(target=_Plain())
        parser.feed(path.read_bytes())
        root: ET.Element = parser.close()
    except DataError as error:
        raise DataError(f"{path} {error}; {expected}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; {expected}") from error
    except (ET.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path} is no XML ({error}); {expected}") from error
    if root.tag != "annotations":
        raise DataError(f"{path} begins with <{root.tag}>; {expected}")
    return root


CVAT = AnnotationFormat(name="cvat", pattern=_FILE, write=write, read=read)
