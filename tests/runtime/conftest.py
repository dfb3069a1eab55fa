"""One server for the tests of a module that do not stop it."""

from collections.abc import Iterator

import pytest

from shared.serving import Running, serving


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving() as server:
        yield server
