"""What each recipe's net costs, and how far the small ones get on a CPU in the same time.

Run: python benchmarks/networks.py DATA OUT > benchmarks/networks_cpu_<yyyymm>.md
DATA holds lsp/; OUT takes a checkpoint a trained net (not for commits). What is there is not
trained again.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from misgiving.export.graph import FusedGraph
from misgiving.export.onnx import write_onnx
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.answers.scoring import Scores
from misgiving.trainer.config import Recipe
from misgiving.trainer.data import open_data
from misgiving.trainer.data.synthetic import open_synthetic
from misgiving.trainer.measures import metrics
from misgiving.trainer.models import Network
from misgiving.trainer.recipes import RECIPES
from misgiving.trainer.training import Compute, train

BASE = "lsp:{}/lsp#1-1000"
TEST = "lsp:{}/lsp#1001-2000"
COMPUTE = Compute(device="cpu", threads=1)
CPU_SECONDS = 120
"""Of each training, about: the epochs are whole."""
PROBE = 64
"""Persons of the short trainings whose difference is the time of an epoch."""
FREE = "-mean_peak"
TRAINED = {
    "cpu": RECIPES["cpu"],
    "edge": RECIPES["edge"],
    "edge at 128 px": replace(
        RECIPES["edge"], model=replace(RECIPES["edge"].model, input_size=128)
    ),
    "deeppose": RECIPES["deeppose"],
    "tompson": RECIPES["tompson"],
    "lite": RECIPES["lite"],
}
WARM, ROUNDS = 3, 15


def main(data: Path, out: Path) -> None:
    """Train what is missing, and print the page."""
    COMPUTE.prepare()
    for name, recipe in TRAINED.items():
        if not folder_of(out, name).exists():
            train_for(recipe, data, folder_of(out, name))
    print("\n".join(page(out)))


def folder_of(out: Path, name: str) -> Path:
    """Where a trained net lies."""
    return out / name.replace(" ", "-")


def train_for(recipe: Recipe, data: Path, folder: Path) -> None:
    """Train on CPU_SECONDS of one thread, and write beside it what it really took."""
    base, test = (open_data(spec.format(data)) for spec in (BASE, TEST))
    epochs = max(1, round(CPU_SECONDS / epoch_seconds(recipe, len(base))))
    fit = replace(recipe.fit, epochs=epochs, head_epochs=0)
    start = time.process_time()
    trained = train(replace(recipe, fit=fit), base, test, folder, COMPUTE, what=folder.name)
    used = time.process_time() - start
    measured = {"epochs": epochs, "cpu_s": used} | aurocs(trained.validation)
    folder.with_suffix(".json").write_text(json.dumps(measured))


def aurocs(scores: Scores) -> dict[str, float]:
    """PCK, and how well the first head and the free score find failures."""
    failed, defined = metrics.failed(scores.found)
    free = scores.risk_scores()[FREE]
    return {
        "pck": metrics.pck(scores.found),
        "failures": float(failed.mean()),
        "head": metrics.auroc(scores.predicted_loss[defined], failed),
        "free": metrics.auroc(free[defined], failed),
    }


def epoch_seconds(recipe: Recipe, count: int) -> float:
    """CPU time of an epoch over so many persons."""
    people = open_synthetic(1, PROBE, (0.0, 0.5))
    used = []
    for epochs in (1, 1, 3):  # the first one also pays for what a process does once
        fit = replace(recipe.fit, epochs=epochs, head_epochs=0)
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            train(
                replace(recipe, fit=fit), people, open_synthetic(2, 2, (0.0, 0.5)),
                Path(folder) / "probe", COMPUTE,
            )  # fmt: skip
            used.append(time.process_time() - start)
    return (used[2] - used[1]) / 2 * count / PROBE


def page(out: Path) -> Iterator[str]:
    """The Markdown page."""
    yield f"""# Pose nets, one CPU thread

`python benchmarks/networks.py DATA OUT`, {time.strftime("%Y-%m-%d")}, {platform.machine()},
{os.cpu_count()} cores shared with other work, CPython {platform.python_version()}, torch
{metadata.version("torch")}, onnxruntime {metadata.version("onnxruntime")}.

## What they cost

14 joints. Parameters in thousands. GMAC: multiplications of one image in pose net and first head
(`torch.utils.flop_counter`, halved). Milliseconds of CPU time for the whole graph, from uint8
image to keypoints, predicted loss, signals and embedding, at batch 1: median of {ROUNDS} rounds in
which every net runs once, random weights.

| recipe | input | pose net | heads | GMAC | torch ms | onnxruntime ms |
|---|---|---|---|---|---|---|"""
    yield from cost_rows()
    yield f"""
## The same time on LSP

Trained on `{BASE.format("DATA")}` for about {CPU_SECONDS} s of one thread's CPU time, one seed
({RECIPES["cpu"].fit.seed}), the recipe's own rates with the schedule shortened to the epochs that
fit; measured on `{TEST.format("DATA")}`, PCK at 0.2 torso lengths. Minutes of training say how
fast a net learns on a CPU, not how good it becomes. A person of whose joints less than half are
found is a failure; AUROC of finding those by the first head's predicted loss, and by the mean
heatmap peak, which `deeppose` draws and which says nothing there.

| net | epochs | CPU s | PCK@0.2 | failures | AUROC head | AUROC −mean peak |
|---|---|---|---|---|---|---|"""
    for name in TRAINED:
        yield training_row(name, folder_of(out, name))


def training_row(name: str, folder: Path) -> str:
    """What a training reached."""
    got = json.loads(folder.with_suffix(".json").read_text())
    numbers = " | ".join(f"{got[key]:.3f}" for key in ("pck", "failures", "head", "free"))
    return f"| {name} | {got['epochs']} | {got['cpu_s']:.0f} | {numbers} |"


def cost_rows() -> Iterator[str]:
    """A line a recipe."""
    graphs = {}
    for name, recipe in RECIPES.items():
        torch.manual_seed(0)
        graphs[name] = FusedGraph(Network(recipe.model, LSP))
    times = latencies(graphs)
    for name, graph in graphs.items():
        heads = ", ".join(
            f"{head} {thousands(module)}" for head, module in graph.network.heads.items()
        )
        size = graph.network.config.input_size
        yield (
            f"| {name} | {size} | {thousands(graph.network.pose)} | {heads} | {gmac(graph):.3f} "
            f"| {times[name, 'torch']:.1f} | {times[name, 'onnxruntime']:.1f} |"
        )


def thousands(module: nn.Module) -> str:
    """Parameters."""
    return f"{sum(p.numel() for p in module.parameters()) / 1e3:,.0f}"


def gmac(graph: FusedGraph) -> float:
    """Multiplications of one image, in 10⁹."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        graph(image_of(graph))
    return float(counter.get_total_flops()) / 2e9


def image_of(graph: FusedGraph) -> torch.Tensor:
    """Noise of the right size."""
    size = graph.network.config.input_size
    return torch.randint(0, 256, (1, size, size, 3), dtype=torch.uint8)


def latencies(graphs: dict[str, FusedGraph]) -> dict[tuple[str, str], float]:
    """(recipe, engine) → median ms of CPU time, every one in turn."""
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    for name, graph in graphs.items():
        image = image_of(graph)
        calls[name, "torch"] = torch_call(graph, image)
        calls[name, "onnxruntime"] = onnx_call(graph, image.numpy())
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(WARM + ROUNDS):
        for key, call in calls.items():
            start = time.process_time()
            call()
            taken[key].append(time.process_time() - start)
    return {key: 1e3 * statistics.median(values[WARM:]) for key, values in taken.items()}


def torch_call(graph: FusedGraph, image: torch.Tensor) -> Callable[[], object]:
    """One pass in torch, in the layout that it trains in."""
    graph.to(memory_format=torch.channels_last)

    def call() -> object:
        with torch.inference_mode():
            return graph(image)

    return call


def onnx_call(graph: FusedGraph, image: np.ndarray) -> Callable[[], object]:
    """One pass of the exported file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(graph, path, {})
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"image": image})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
