"""``pytest tests/bad_input --write-page`` renews docs/errors.md."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-page", action="store_true", help="write docs/errors.md anew")
