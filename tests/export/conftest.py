"""One thread; a checkpoint that is trained once, and its bundle that is exported once."""

from pathlib import Path

import pytest
import torch

from export.cycling import Fleet, fill
from misgiving.export.bundling import export_bundle
from misgiving.export.config import ExportConfig
from misgiving.export.graph import FusedGraph
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.data import PoseSet
from shared.once import made_once, run_folder
from shared.training import CPU, people, tiny_checkpoint


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained checkpoint; read it, never write into it."""
    return tiny_checkpoint(run_folder(tmp_path_factory))


@pytest.fixture
def graph(checkpoint: Path) -> FusedGraph:
    return FusedGraph(load_checkpoint(checkpoint)[0])


@pytest.fixture(scope="session")
def validation() -> PoseSet:
    """As many as the gates ask for, and not one more."""
    return people(3, 256, 0.0, 1.0)


@pytest.fixture(scope="session")
def bundle(
    checkpoint: Path, validation: PoseSet, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """The whole export; read it, never write into it."""
    config = ExportConfig(name="tiny", version="1.2.3", licence="CC0-1.0")
    others = [people(4, 40, 0.0, 1.0)]
    out = made_once(
        run_folder(tmp_path_factory) / "exported" / "bundle",
        lambda path: export_bundle(checkpoint, validation, path, config, CPU, others),
    )
    return Bundle.load(out)


@pytest.fixture
def fleet(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Fleet:
    """A store of its own, with a cycle that has not begun."""
    filled = made_once(run_folder(tmp_path_factory) / "streamed" / "store", fill)
    return Fleet.made(tmp_path, filled, checkpoint)
