"""An export for the tests of what comes back; a vehicle's spool; stores of either kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from misgiving.collector.annotations import export_annotations
from misgiving.runtime.outbox.spool import Spool
from shared.annotating import FRAMES, stored
from shared.services import Place


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """An export of FRAMES, as the annotator finds it."""
    with stored(tmp_path / "store", *FRAMES) as store:
        export_annotations(store, tmp_path / "export")
    return tmp_path / "export"


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool")
    yield spool
    spool.close()


@pytest.fixture(params=["sqlite+folder", "postgresql+s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where an empty store of either kind will be."""
    if request.param == "sqlite+folder":
        return Place(tmp_path / "deep" / "store")
    postgres, s3 = map(request.getfixturevalue, ("postgres", "s3"))
    return Place(tmp_path / "store", postgres.emptied(), s3.make(), s3)
