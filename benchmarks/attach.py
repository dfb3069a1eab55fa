"""Is an attached head worth more than what a foreign net says of itself, and what does it cost?

Three nets of others (``attach/*.toml``) and a ResNet of ours that is treated alike, each kept as it
is, with five heads that differ in their random start. The best score of its own is the free one
with the highest mean AUROC on the very data of the table, which is in its favour.

Run: python benchmarks/attach.py DATA MODELS OUT > benchmarks/attach_cpu_<yyyymm>.md
DATA holds lsp/ and lspet/, MODELS the ONNX files; OUT takes checkpoints and bundles (not for
commits). What is there is not made again, and a killed training goes on; three hours on two cores.
"""

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from torch import Tensor, nn

from misgiving.export.bench.cases import with_outputs
from misgiving.export.bundling import export_bundle
from misgiving.export.config import ExportConfig
from misgiving.export.module import net_of_module
from misgiving.runtime.bundles.bundle import MODEL, Bundle
from misgiving.runtime.keypoints import LSP
from misgiving.trainer.answers.scoring import Scores, score
from misgiving.trainer.attaching import attach
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.config import AugmentConfig, FitConfig, HeadConfig, ModelConfig, Recipe
from misgiving.trainer.data import join, open_data
from misgiving.trainer.foreign.net_file import NetFile, read_net
from misgiving.trainer.foreign.pose import ForeignPose
from misgiving.trainer.measures.bootstrap import Estimate
from misgiving.trainer.measures.nested import compare, mean_over_seeds
from misgiving.trainer.net_config import ResnetConfig
from misgiving.trainer.pose import PoseNet
from misgiving.trainer.report import FailureReport, failure_report
from misgiving.trainer.training import Compute, train

HERE = Path(__file__).parent
NETS = ("hourglass", "cpm", "blazepose", "resnet")
TRAINING = ("lsp:{}/lsp#1-1000", "lspet:{}/lspet#1-8000")
VALIDATION = "lspet:{}/lspet#8001-9000"
REPORTS = {
    "LSP test": "lsp:{}/lsp#1001-2000",
    "LSPET, held out": "lspet:{}/lspet#9001-10000",
}
COMPUTE = Compute(device="cpu", threads=1)
HEADS = [HeadConfig(kind="evidence", objective="miss", replica=i) for i in range(1, 6)]
EPOCHS = {"hourglass": 4, "cpm": 4, "blazepose": 8, "resnet": 12}
"""Of the heads, as many as two cores did in an afternoon; the net alone takes most of the time."""
RESNET = Recipe(
    name="resnet-18",
    model=ModelConfig(
        input_size=128,
        net=ResnetConfig(layers=18, width=16),
        heads=(HeadConfig(kind="gap", objective="kl"),),
    ),
    fit=FitConfig(epochs=24, continued_epochs=24, sigma=1.5),
    augment=AugmentConfig(),
)
HEAD = "attached head"
NUMBERS = {"auroc": "AUROC ↑", "augrc": "AUGRC ↓", "picked_pck": "PCK of the 10 % picked ↓"}
ROUNDS = 200
WAYS = ("file", "pose", "pose + head", "all")


def main(data: Path, models: Path, out: Path) -> None:
    """Attach what is missing, and print the page."""
    for name in NETS:
        if not (out / name).exists():
            net = foreign(name, data, models, out)
            attach(
                net,
                join([open_data(spec.format(data), net.keypoints) for spec in TRAINING]),
                open_data(VALIDATION.format(data), net.keypoints),
                out / name,
                COMPUTE,
                heads=HEADS,
                epochs=EPOCHS[name],
            )
    print("\n".join(page(data, out)))


def foreign(name: str, data: Path, models: Path, out: Path) -> NetFile:
    """A net of others by its NET.toml, or ours as a torch module that nobody here knows."""
    if name == "resnet":
        return of_ours(data, out)
    folder = out / "nets"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "attach" / f"{name}.toml", folder)
    for file in models.glob("*.onnx"):
        shutil.copy(file, folder)
    return read_net(folder / f"{name}.toml")


def of_ours(data: Path, out: Path) -> NetFile:
    """A small ResNet, trained on what the heads are trained on."""
    folder = out / "resnet-own"
    if not folder.exists():
        sets = join([open_data(spec.format(data)) for spec in TRAINING])
        train(RESNET, sets, open_data(VALIDATION.format(data)), folder, COMPUTE)
    network, recipe, _ = load_checkpoint(folder)
    size = recipe.model.crop
    return net_of_module(
        _Plain(network.pose),
        name="resnet",
        taps=tuple(f"pose.backbone.stages.{stage}" for stage in (1, 2, 3)),
        output={"family": "heatmaps", "heatmaps": "output0", "subpixel": "parabola"},
        keypoints=LSP,
        height=size.height,
        width=size.width,
        mean=network.pose.mean,
        std=network.pose.std,
    )


class _Plain(nn.Module):
    """Only the heatmaps, as a net of others would give them."""

    def __init__(self, pose: PoseNet) -> None:
        super().__init__()
        self.pose = pose

    def forward(self, image: Tensor) -> Tensor:
        heatmaps: Tensor = self.pose(image).heatmaps[:, -1]
        return heatmaps


def page(data: Path, out: Path) -> Iterator[str]:
    """The Markdown page."""
    recipe, record = load_checkpoint(out / NETS[0])[1:]
    trained = " + ".join(spec.format("DATA") for spec in TRAINING)
    yield f"""# Heads on pose nets of others, CPU

`python benchmarks/attach.py DATA MODELS OUT`, {time.strftime("%Y-%m-%d")}, {platform.machine()},
{os.cpu_count()} cores, CPython {platform.python_version()}, torch {metadata.version("torch")},
onnxruntime {ort.__version__}, one thread; code at {record.commit[:12]}. Heads trained on
`{trained}`, {", ".join(f"{name} {count} epochs" for name, count in EPOCHS.items())}: {recipe.fit};
{recipe.augment}; {len(HEADS)} heads evidence-miss on one pass, which differ in their random start
alone. The nets are frozen. The ResNet learnt from the persons that its heads learn from, the others
from other data.

A failure is a person of whose labelled joints that the net has less than half are found at PCK@0.2;
persons without a labelled torso are left out. Upright: the middle of the shoulders stands above
that of the hips by more than it is beside it. Means over the heads with 95 % intervals: resamples
of the heads and of the images. The best own score has the highest AUROC on the very data of the
row, which is in its favour."""
    for title, spec in REPORTS.items():
        yield from section(title, spec, data, out)
    yield from costs(data, out)


def section(title: str, spec: str, data: Path, out: Path) -> Iterator[str]:
    """All nets on one data set."""
    yield f"""
## {title}

`{spec.format("DATA")}`

| net | persons | failures | PCK@0.2 | score | {" | ".join(NUMBERS.values())} |
|---|---|---:|---:|---|{"---:|" * len(NUMBERS)}"""
    for name in NETS:
        network, recipe, record = load_checkpoint(out / name)
        persons = open_data(spec.format(data), record.keypoints)
        scores = score(network, recipe, persons, COMPUTE.prepare())
        for who, chosen in {"all": None, "upright": upright(scores)}.items():
            yield from rows(name, who, reports_of(scores, chosen))


def upright(scores: Scores) -> NDArray[np.bool_]:
    """(N,): whose labelled trunk stands more than it lies."""
    names = scores.keypoints.names
    at = [names.index(f"{side}_{j}") for j in ("shoulder", "hip") for side in ("left", "right")]
    known = scores.labelled[:, at].all(1)
    points = np.where(known[:, None, None], scores.true_points[:, at], 0)
    along = points[:, 2:].mean(1) - points[:, :2].mean(1)
    standing: NDArray[np.bool_] = known & (along[:, 1] > np.abs(along[:, 0]))
    return standing


def reports_of(scores: Scores, chosen: NDArray[np.bool_] | None) -> list[FailureReport]:
    """One for each head, of all persons or of some."""
    rows = np.arange(len(scores.ids)) if chosen is None else np.flatnonzero(chosen)
    risks = scores.risk_scores()
    free = {name: risks[name][rows] for name in risks if name not in scores.predicted_losses}
    ids = [scores.ids[row] for row in rows]
    found, loss = scores.found[rows], scores.true_loss[rows]
    return [
        failure_report({HEAD: risk[rows], **free}, found, loss, ids)
        for risk in scores.predicted_losses.values()
    ]


def rows(net: str, who: str, reports: Sequence[FailureReport]) -> Iterator[str]:
    """The head, the best own score, and their difference."""
    own = [row.name for row in reports[0].rows if row.name.startswith("-")]
    best = max(own, key=lambda name: reports[0].row(name).auroc.value)
    first = reports[0]
    accuracy = mean_over_seeds([report.pck for report in reports], same_images=True)
    about = f"{net} | {who}, {first.measured} | {first.failures} | {accuracy}"
    for name in (HEAD, best):
        cells = [str(mean(reports, name, number)) for number in NUMBERS]
        shown = name if name == HEAD else f"best own: {best[1:]}"
        yield f"| {about} | {shown} | {' | '.join(cells)} |"
        about = " | | | "
    cells = [str(compared(reports, best, number)) for number in NUMBERS]
    yield f"| | | | | difference | {' | '.join(cells)} |"


def mean(reports: Sequence[FailureReport], name: str, number: str) -> Estimate:
    """One number of one score, over the heads."""
    seeds = [report.row(name).numbers()[number] for report in reports]
    return mean_over_seeds(seeds, same_images=True)


def compared(reports: Sequence[FailureReport], best: str, number: str) -> Estimate:
    """The head less the best own score."""
    pairs = [[r.row(name).numbers()[number] for r in reports] for name in (HEAD, best)]
    return compare(*pairs, same_images=True).difference


def costs(data: Path, out: Path) -> Iterator[str]:
    """Time of the foreign file, of the poses and of the whole graph, and what its gate measured."""
    yield f"""
## What it costs

A crop through ONNX Runtime, one thread, batch 1, medians of {ROUNDS} interleaved rounds, in ms.
File: the foreign file alone, its float pixels ready, its outputs as they come, with all that it
computes beside those that its family reads. Pose: bytes in, keypoints out, of the bundle's graph
cut down to that. Pose + head: keypoints and predicted_loss. All: with free scores and embedding.
Drift is the bundle's parity over `{VALIDATION.format("DATA")}`; that the foreign net's outputs are
bit-equal is a gate of every export.

| net | {" | ".join(WAYS)} | pose + head / pose | all / file | keypoints, px | predicted_loss, sd |
|---|{"---:|" * (len(WAYS) + 4)}"""
    for name in NETS:
        bundle = exported(name, data, out)
        network = load_checkpoint(out / name)[0]
        assert isinstance(network.pose, ForeignPose)
        times = interleaved(network.pose, bundle)
        file, pose, head, whole = times
        said = bundle.manifest.parity
        cells = [f"{each:.2f}" for each in times]
        yield (
            f"| {name} | {' | '.join(cells)} | {head / pose:.3f} | {whole / file:.3f} | "
            f"{said.keypoint_drift_px_p999:.1e} | {said.predicted_loss_drift:.1e} |"
        )


def exported(name: str, data: Path, out: Path) -> Bundle:
    """The bundle of a net's first head."""
    folder = out / f"{name}-bundle"
    if not folder.exists():
        record = load_checkpoint(out / name)[2]
        validation = open_data(VALIDATION.format(data), record.keypoints)
        export_bundle(out / name, validation, folder, ExportConfig(name=name, version="1"), COMPUTE)
    return Bundle.load(folder)


def interleaved(pose: ForeignPose, bundle: Bundle) -> list[float]:
    """Median ms of each of WAYS."""
    rule, graph = bundle.manifest.crop, bundle.read(MODEL)
    crop = np.random.default_rng(0).integers(0, 256, (1, rule.height, rule.width, 3), np.uint8)
    pixels = crop.astype(np.float32) / 255
    fed = pixels if pose.config.input.layout == "NHWC" else pixels.transpose(0, 3, 1, 2)
    inputs = [{pose.config.input.name: np.ascontiguousarray(fed)}, *[{"image": crop}] * 3]
    cut = (with_outputs(graph, names) for names in (["keypoints"], ["keypoints", "predicted_loss"]))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for model in (pose.content, *cut, graph)
    ]
    times: list[list[float]] = [[] for _ in WAYS]
    for _ in range(ROUNDS):
        for session, given, taken in zip(sessions, inputs, times, strict=True):
            start = time.perf_counter()
            session.run(None, given)
            taken.append(time.perf_counter() - start)
    return [float(np.median(taken[10:])) * 1e3 for taken in times]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
