"""The detector that docs/persons.md describes, with the real file of its authors."""

import shutil
from pathlib import Path

import numpy as np

from docs.helpers import ROOT, blocks_of
from misgiving.runtime import images
from misgiving.runtime.persons.detector import Detector
from shared.training import real_data


def test_the_detector_of_the_page_finds_the_motorcyclist(tmp_path: Path, models: Path) -> None:
    page = (ROOT / "docs" / "persons.md").read_text(encoding="utf-8")
    said = next(block for block in blocks_of(page) if block.language == "toml")
    (tmp_path / "detector.toml").write_text(said.text, "utf-8")
    shutil.copy(models / "fastestdet_352.onnx", tmp_path / "fastestdet.onnx")
    picture = images.read(real_data("coco_ccby") / "images" / "000000165518.jpg")
    (found,) = Detector.load(tmp_path / "detector.toml").find(picture)
    annotated = np.array([248, 174, 248 + 175, 174 + 287])
    corners = np.array([found.x, found.y, found.x + found.width, found.y + found.height])
    assert abs(corners - annotated).max() < 40
