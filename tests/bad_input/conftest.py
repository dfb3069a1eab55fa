"""The folder that commands run in; ``pytest tests/bad_input --write-page`` renews the page."""

from pathlib import Path

import pytest

from bad_input.world import build
from shared.once import run_folder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-page", action="store_true", help="write docs/errors.md anew")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    build(folder, run_folder(tmp_path_factory))
    return folder
