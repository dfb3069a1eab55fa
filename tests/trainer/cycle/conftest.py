"""One whole cycle for the tests that only look at it."""

import pytest

from trainer.cycle.whole import Run


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("cycle") / "learned", "learned_loss")
