"""One thread, and a checkpoint that is trained once."""

from pathlib import Path

import pytest
import torch

from shared.once import run_folder
from shared.training import tiny_checkpoint


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained checkpoint; read it, never write into it."""
    return tiny_checkpoint(run_folder(tmp_path_factory))
