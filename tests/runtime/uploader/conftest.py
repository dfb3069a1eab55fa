"""A spool and a store that tell what an uploader does between them."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.uploading import AskedSpool, RecordingStore


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[AskedSpool]:
    spool = AskedSpool(tmp_path / "spool")
    yield spool
    spool.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordingStore]:
    store = RecordingStore(tmp_path / "store")
    yield store
    store.close()


@pytest.fixture(autouse=True)
def _log_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "misgiving")
