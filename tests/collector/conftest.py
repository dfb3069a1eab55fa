"""An export for the tests of what comes back."""

from pathlib import Path

import pytest

from misgiving.collector.annotations import export_coco
from shared.annotating import FRAMES, stored


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """An export of FRAMES, as the annotator finds it."""
    with stored(tmp_path / "store", *FRAMES) as store:
        export_coco(store, tmp_path / "export")
    return tmp_path / "export"
