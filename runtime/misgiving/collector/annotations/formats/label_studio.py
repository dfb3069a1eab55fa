"""Label Studio's tasks: rectangles, keypoints below them (``parentID``), hidden ones with a choice.

Pre-labels are predictions. What annotators submit are annotations, and only these come back: a
task without one was not looked at. ``labelling.xml`` is the project's labelling interface.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from misgiving.collector.annotations.coco import Annotation, Category, Document, Image
from misgiving.collector.annotations.exported import Exported
from misgiving.collector.annotations.formats.base import (
    AnnotationFormat,
    Joint,
    JointPlaces,
    Returned,
    Sheet,
    size_of,
)
from misgiving.collector.annotations.returned import match_images
from misgiving.runtime.errors import DataError
from misgiving.runtime.labelset import IMAGES

_FILE = "tasks.json"
_CONFIG = "labelling.xml"
_HIDDEN = "hidden"
_POINT_WIDTH = 0.5
"""Drawn width of a joint, in % of the image's."""
_EXPECTED = "expected Label Studio's JSON export, a list of tasks; export again as JSON"


def write(folder: Path, document: Document, batch: str) -> None:
    """Write ``tasks.json`` and ``labelling.xml``."""
    category = document.categories[0]
    tasks = [_task(batch, category, image, persons) for image, persons in document.by_image()]
    (folder / _FILE).write_text(json.dumps(tasks, indent=1) + "\n")
    (folder / _CONFIG).write_bytes(_config(category) + b"\n")


def _config(category: Category) -> bytes:
    view = ET.Element("View")
    ET.SubElement(view, "Image", name="image", value="$image", zoom="true", zoomControl="true")
    person = ET.SubElement(view, "RectangleLabels", name="person", toName="image")
    ET.SubElement(person, "Label", value=category.name)
    joints = ET.SubElement(view, "KeyPointLabels", name="joint", toName="image")
    for name in category.keypoints:
        ET.SubElement(joints, "Label", value=name)
    choices = {"perRegion": "true", "whenTagName": "joint", "choice": "multiple"}
    named = {"name": "visibility", "toName": "image"}
    visibility = ET.SubElement(view, "Choices", named | choices)
    ET.SubElement(visibility, "Choice", value=_HIDDEN)
    ET.indent(view)
    return ET.tostring(view)


def _task(
    batch: str, category: Category, image: Image, persons: list[Annotation]
) -> dict[str, Any]:
    """A task whose image Label Studio serves from local files, the batch's parent its root."""
    results = [part for one in persons for part in _results(category, image, one)]
    scores = [one.score for one in persons if one.score is not None]
    prediction = {"model_version": "misgiving", "result": results, "score": min(scores, default=0)}
    data = {"image": f"/data/local-files/?d={batch}/{IMAGES}/{image.file_name}"}
    return {"data": data, "predictions": [prediction] if results else []}


def _results(category: Category, image: Image, person: Annotation) -> Iterator[dict[str, Any]]:
    across, down = 100 / image.width, 100 / image.height
    x, y, width, height = person.bbox or (0, 0, 0, 0)
    own = f"person-{person.id}"
    base = {"to_name": "image", "original_width": image.width, "original_height": image.height}
    base["image_rotation"] = 0
    box = {"x": x * across, "y": y * down, "width": width * across, "height": height * down}
    named = {"rotation": 0, "rectanglelabels": [category.name]}
    yield base | {"id": own, "from_name": "person", "type": "rectanglelabels", "value": box | named}
    for place, (name, joint) in enumerate(zip(category.keypoints, person.joints, strict=True)):
        if joint[2]:
            point = {"x": joint[0] * across, "y": joint[1] * down, "width": _POINT_WIDTH}
            part = base | {"id": f"{own}-{place}", "parentID": own}
            value = point | {"keypointlabels": [name]}
            yield part | {"from_name": "joint", "type": "keypointlabels", "value": value}
            if joint[2] == 1:
                value = point | {"choices": [_HIDDEN]}
                yield part | {"from_name": "visibility", "type": "choices", "value": value}


def read(path: Path, exported: Exported) -> Returned:
    """Read ``tasks.json`` as Label Studio exports it, in its own JSON.

    Persons of exported images that nobody has submitted come back as they were exported.
    """
    sheet = Sheet(exported.category, exported.keypoints.names)
    places = JointPlaces(path, exported.keypoints.names)
    submitted, said = set(), []
    tasks = _tasks(path)
    names = [_image_of(path, number, task) for number, task in enumerate(tasks, 1)]
    images = match_images(names, exported.images.names)
    for number, (task, name, place) in enumerate(zip(tasks, names, images, strict=True), 1):
        where = f"task {task.get('id', number)}"
        annotation, others = _submitted(task)
        if annotation is None:
            continue
        if others:
            said.append(f"{path}: {where} has {others + 1} annotations; the newest is taken")
        results = _parts(path, where, annotation)
        image = sheet.image(name, _size(results) or size_of(exported, place))
        if place >= 0:
            submitted.add(exported.images.names[place])
        for whose, joints, box in _people(path, where, results, exported.category):
            row = f"{where} {whose}"
            sheet.person(_id(whose, row), image, places.person(row, joints), box)
    _add_untouched(sheet, exported, submitted)
    return Returned(
        path=path,
        content=sheet.content(),
        relative=True,
        submitted=frozenset(submitted),
        said=tuple(said),
    )


def _add_untouched(sheet: Sheet, exported: Exported, submitted: set[str]) -> None:
    for place, name in enumerate(exported.images.names):
        persons = exported.persons(place)
        if name not in submitted and len(persons):
            image = sheet.image(name, size_of(exported, place))
            for one, box in enumerate(persons.boxes.tolist()):
                rows = np.column_stack([persons.points[one], persons.visibility[one]]).tolist()
                sheet.person(f"exported {persons.ids[one]}", image, rows, box)


def _tasks(path: Path) -> list[dict[str, Any]]:
    try:
        document: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; {_EXPECTED}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error}); {_EXPECTED}") from error
    if not isinstance(document, list) or not all(isinstance(task, dict) for task in document):
        raise DataError(f"{path} is no list of tasks; {_EXPECTED}")
    return document


def _image_of(path: Path, number: int, task: Mapping[str, Any]) -> str:
    data = task.get("data")
    image = data.get("image") if isinstance(data, dict) else None
    if not isinstance(image, str):
        raise DataError(f"{path}: task {number} has no data.image; {_EXPECTED}")
    return image


def _submitted(task: Mapping[str, Any]) -> tuple[dict[str, Any] | None, int]:
    """The newest annotation that somebody submitted, and how many others there are."""
    annotations = task.get("annotations") or []
    done = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
    done.sort(key=lambda one: str(one.get("updated_at", "")))
    return (done[-1], len(done) - 1) if done else (None, 0)


def _parts(path: Path, where: str, annotation: Mapping[str, Any]) -> list[dict[str, Any]]:
    results = annotation.get("result")
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise DataError(f"{path}: {where} has no list of results; {_EXPECTED}")
    for one in results:
        if one.get("image_rotation"):
            raise DataError(
                f"{path}: {where} is turned by {one['image_rotation']}°; expected the image as it "
                "was exported. Turn it back in Label Studio, and its labels with it"
            )
    return results


def _size(results: list[dict[str, Any]]) -> tuple[Any, Any] | None:
    sizes = [(one.get("original_width"), one.get("original_height")) for one in results]
    return next((size for size in sizes if all(isinstance(side, int) for side in size)), None)


_Person = tuple[str, list[tuple[str, Joint]], list[float]]


def _people(
    path: Path, where: str, results: list[dict[str, Any]], category: str
) -> Iterator[_Person]:
    """Rectangles of the category, with the joints below each."""
    hidden = {
        one.get("id")
        for one in results
        if one.get("type") == "choices" and _HIDDEN in (_value(one).get("choices") or [])
    }
    boxes = {
        str(one.get("id")): _box(path, where, one)
        for one in results
        if one.get("type") == "rectanglelabels"
        and category in (_value(one).get("rectanglelabels") or [])
    }
    joints: dict[str, list[tuple[str, Joint]]] = {name: [] for name in boxes}
    for one in results:
        if one.get("type") == "keypointlabels":
            x, y = _pixels(path, where, one, ("x", "y"))
            (name, *_) = _value(one).get("keypointlabels") or [""]
            parent = _parent(path, where, str(name), one.get("parentID"), list(boxes))
            joints[parent].append((str(name), (x, y, 1 if one.get("id") in hidden else 2)))
    for name, box in boxes.items():
        yield name, joints[name], box


def _parent(path: Path, where: str, joint: str, parent: Any, boxes: list[str]) -> str:
    if str(parent) in boxes:
        return str(parent)
    if len(boxes) == 1 and not parent:
        return boxes[0]
    raise DataError(
        f"{path}: {where} has {joint} below none of its {len(boxes)} persons; expected each joint "
        "below a rectangle. Drag it there in Label Studio's list of regions, or delete it"
    )


def _value(result: Mapping[str, Any]) -> dict[str, Any]:
    value = result.get("value")
    return value if isinstance(value, dict) else {}


def _box(path: Path, where: str, result: Mapping[str, Any]) -> list[float]:
    return _pixels(path, where, result, ("x", "y", "width", "height"))


def _pixels(
    path: Path, where: str, result: Mapping[str, Any], keys: tuple[str, ...]
) -> list[float]:
    """Percentages of a result in px of the image as the task has its size."""
    value = _value(result)
    size: list[Any] = [result.get("original_width"), result.get("original_height")]
    numbers: list[Any] = [value.get(key) for key in keys]
    try:
        return [float(one) * float(size[at % 2]) / 100 for at, one in enumerate(numbers)]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path}: {where} has region {result.get('id')} at {numbers} of {size[0]} x {size[1]} "
            f"px; {_EXPECTED}"
        ) from error


def _id(region: str, otherwise: str) -> int | str:
    """The exported annotation's id, where Label Studio kept its region."""
    prefix, _, number = region.partition("-")
    return int(number) if prefix == "person" and number.isdecimal() else otherwise


LABEL_STUDIO = AnnotationFormat(name="label-studio", pattern=_FILE, write=write, read=read)
