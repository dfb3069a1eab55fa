"""A folder with the files that examples and pages name, and a server with the shipped bundle."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch

from docs.helpers import ROOT, blocks_of
from misgiving.collector import Store, export_annotations
from misgiving.export.demo.processes import service
from misgiving.runtime.bundles.locate import BUNDLE_VARIABLE, DEFAULT_BUNDLE
from misgiving.runtime.images import encode_jpeg
from misgiving.trainer import open_data
from shared.annotating import edit, touch
from shared.collecting import collected
from shared.make_tiny_detector import red_cells
from shared.once import run_folder
from shared.tiny import write_video
from shared.training import tiny_checkpoint


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files, made once; read them, never write among them."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "runner.jpg").write_bytes(encode_jpeg(open_data("synthetic:7,1")[0].image))
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs/photo.jpg", folder / "docs")
    write_video(folder / "drive.mp4", 3)
    shutil.copytree(DEFAULT_BUNDLE, folder / "bundle")
    graph, outputs = folder / "bundle/model.onnx", ["select"]
    onnx.utils.extract_model(graph, folder / "people.onnx", ["image"], outputs)
    said = (ROOT / "docs/attach.md").read_text(encoding="utf-8")
    toml = next(block for block in blocks_of(said) if block.language == "toml")
    (folder / "people.toml").write_text(toml.text, encoding="utf-8")
    onnx.save(red_cells(output="758"), folder / "fastestdet.onnx")  # stands for it on a page
    shutil.copytree(tiny_checkpoint(run_folder(tmp_path_factory)), folder / "runs/first")
    with Store(folder / "collected") as store:
        for name in ("first", "second"):
            store.put(collected(name).SerializeToString(deterministic=True))
        export_annotations(store, folder / "batch")
    edit(folder / "batch", touch)
    return folder


@pytest.fixture
def desk(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of one test, with copies of the prepared files."""
    folder = tmp_path / "desk"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv(BUNDLE_VARIABLE, raising=False)
    yield folder
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of ``misgiving serve``."""
    arguments = ["serve", "--bundle", str(DEFAULT_BUNDLE), "--listen", "127.0.0.1:0"]
    with service(arguments, tmp_path_factory.mktemp("server") / "log") as address:
        yield address
