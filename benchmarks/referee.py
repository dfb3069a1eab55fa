"""Do the scores that a referee of 2026 asks for find more failures than ours, on LSP → LSPET?

Five pose nets, trained on LSP 1–1000 with our head, as its recipe says. What each says of augmented
training persons and of both reports is kept; the methods of ``referee_methods`` are fitted on that,
and judge the same poses as our head does. The splits are ``failure_detection``'s, because distance
and energy are meant for a shift: where LSPET trains, too, it is none.

Run: python benchmarks/referee.py DATA OUT > benchmarks/referee_cpu_<yyyymm>.md
DATA holds lsp/ and lspet/; OUT takes a checkpoint and a file of answers a seed (not for commits).
What is there is not made again, and a killed training goes on.
"""

import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from failure_detection import BASE, COMPUTE, POOL, TEST
from learned_score import FREE, gain, mean
from numpy.typing import NDArray
from referee_facts import OURS, Facts, Listener, Views
from referee_methods import EPOCHS, risks

from misgiving.runtime.keypoints import LSP
from misgiving.trainer.answers.scoring import Scores, score
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.config import Recipe
from misgiving.trainer.data import open_data
from misgiving.trainer.data.augmentation import batches
from misgiving.trainer.data.crops import load_crops
from misgiving.trainer.measures.nested import compare, mean_over_seeds
from misgiving.trainer.models import Network
from misgiving.trainer.recipes import recipe_named
from misgiving.trainer.report import FailureReport, failure_report
from misgiving.trainer.training import train

SEEDS = range(5)
VIEWS = 8
"""Augmented views of each training person that the methods are fitted on."""
REPORTS = {"LSPET, the shifted set": POOL, "LSP test": TEST}
CONTROL = "miss on the same views"
NAMES = {
    OURS.name: "evidence, miss (ours)",
    CONTROL: "evidence, miss, fitted as the next three (control)",
    "CCNet": "CCNet's re-scoring",
    "ProbPose": "ProbPose's presence × expected similarity",
    "TIC": "TIC covariance",
    "Mahalanobis": "Mahalanobis distance of the embedding",
    "energy": "energy of the heatmaps (free)",
    "expected similarity": "expected similarity (free)",
    "-mean_peak": "−mean peak (free)",
    "-min_peak": "−min peak (free)",
    "entropy": "entropy (free)",
    "multi_peak_entropy": "multi-peak entropy (free)",
    "true loss (oracle)": "true loss (oracle)",
}
ASKED = [name for name in NAMES if name not in (OURS.name, *FREE, "true loss (oracle)")]
NUMBERS = {"auroc": "AUROC ↑", "augrc": "AUGRC ↓"}

Arrays = dict[str, NDArray[Any]]


def main(data: Path, out: Path) -> None:
    """Make what is missing, and print the page."""
    COMPUTE.prepare()
    for seed in SEEDS:
        folder = out / f"seed-{seed}"
        if not folder.exists():
            base, test = (open_data(spec.format(data)) for spec in (BASE, TEST))
            train(recipe_of(seed), base, test, folder, COMPUTE, what=folder.name)
        if not answers_of(folder).exists():
            keep(answers_of(folder), ask(folder, data))
    print("\n".join(page(out)))


def recipe_of(seed: int) -> Recipe:
    """The edge net at 128 px, which one core trains in minutes, and our head as it ships."""
    recipe = recipe_named("edge", seed=seed)
    model = replace(recipe.model, input_size=128, heads=(OURS,))
    fit = replace(recipe.fit, epochs=24, continued_epochs=24)
    return replace(recipe, name="edge-128", model=model, fit=fit)


def answers_of(checkpoint: Path) -> Path:
    """The file of what a net says."""
    return checkpoint.with_name(checkpoint.name + "-answers.npz")


def keep(path: Path, arrays: Arrays) -> None:
    """Write the whole file, or none."""
    part = path.with_name("part-" + path.name)
    np.savez(part, allow_pickle=False, **arrays)
    part.replace(path)


def ask(checkpoint: Path, data: Path) -> Arrays:
    """What a net says of the training views and of each report, by "part/name"."""
    network, recipe, _ = load_checkpoint(checkpoint)
    listener = Listener(network.eval())
    arrays = under("views", views_of(network, recipe, data, listener))
    for title, spec in REPORTS.items():
        scores = score(network, recipe, open_data(spec.format(data)), COMPUTE.prepare())
        arrays |= under(title, columns(listener.taken()) | judged(scores))
    return arrays


@torch.no_grad()
def views_of(network: Network, recipe: Recipe, data: Path, listener: Listener) -> Arrays:
    """Ask about VIEWS augmented views of each training person, and some that go astray."""
    base = open_data(BASE.format(data))
    crops = load_crops(base, recipe.model.crop, COMPUTE.prepare(), range(len(base)))
    generator = torch.Generator().manual_seed(recipe.fit.seed)
    truths = []
    for _ in range(VIEWS):
        for batch in batches(crops, recipe.fit.batch_size, recipe.augment, generator):
            network(batch.images)
            count = len(batch.images)
            astray = torch.arange(count) >= count - batch.astray
            truths.append((batch.points / recipe.model.stride, batch.labelled, astray))
    columns_of_truth = (torch.cat(column).numpy() for column in zip(*truths, strict=True))
    truth: Arrays = dict(zip(("points", "labelled", "astray"), columns_of_truth, strict=True))
    return columns(listener.taken()) | truth | {"size": np.array(recipe.model.heatmap_size)}


def judged(scores: Scores) -> Arrays:
    """What a report needs of the poses, and the scores that are there already."""
    known = {f"risk {name}": risk for name, risk in scores.risk_scores().items()}
    ids = np.array(scores.ids)
    return {"ids": ids, "found": scores.found, "true_loss": scores.true_loss, **known}


def columns(facts: Facts) -> Arrays:
    """As arrays, by field."""
    return {field.name: getattr(facts, field.name).numpy() for field in fields(facts)}


def under(part: str, arrays: Arrays) -> Arrays:
    """The same with longer names."""
    return {f"{part}/{name}": array for name, array in arrays.items()}


def reports_of(checkpoint: Path, seed: int) -> dict[str, FailureReport]:
    """Fit the methods on one net's answers, and measure them and its own scores."""
    with np.load(answers_of(checkpoint)) as file:
        parts = {part: part_of(file, part) for part in ("views", *REPORTS)}
    truth = {name: torch.from_numpy(parts["views"][name]) for name in ("points", "labelled")}
    astray, size = torch.from_numpy(parts["views"]["astray"]), int(parts["views"]["size"])
    views = Views(facts_of(parts["views"]), **truth, astray=astray, size=size)
    asked = risks(views, {title: facts_of(parts[title]) for title in REPORTS}, LSP, seed)
    return {title: report(parts[title], asked[title]) for title in REPORTS}


def part_of(file: Any, part: str) -> Arrays:
    """What ``under`` put there."""
    names = [name for name in file if name.startswith(f"{part}/")]
    return {name.removeprefix(f"{part}/"): file[name] for name in names}


def facts_of(arrays: Arrays) -> Facts:
    """The inverse of ``columns``."""
    return Facts(*(torch.from_numpy(arrays[field.name]) for field in fields(Facts)))


def report(arrays: Arrays, asked: dict[str, torch.Tensor]) -> FailureReport:
    """All scores of one set."""
    known = {n.removeprefix("risk "): a for n, a in arrays.items() if n.startswith("risk ")}
    fitted = {name: risk.numpy() for name, risk in asked.items()}
    ids = arrays["ids"].tolist()
    return failure_report({**known, **fitted}, arrays["found"], arrays["true_loss"], ids)


def page(out: Path) -> Iterator[str]:
    """The Markdown page."""
    recipe, record = load_checkpoint(out / f"seed-{SEEDS[0]}")[1:]
    yield f"""# A referee's scores against ours, CPU

`python benchmarks/referee.py DATA OUT`, {time.strftime("%Y-%m-%d")}, {platform.machine()},
{os.cpu_count()} cores, CPython {platform.python_version()}, torch {metadata.version("torch")}, one
thread. Trained on `{BASE.format("DATA")}`, code at {record.commit[:12]}; seeds {SEEDS[0]} to
{SEEDS[-1]}. Each seed is a pose net with our head, which learns on for {recipe.fit.head_epochs}
epochs alone; the other methods are fitted on what that net, frozen, says of {VIEWS} augmented views
of each training person, the learned ones in {EPOCHS} passes. `benchmarks/referee_methods.py` says
what was taken from each paper and what was simplified. Recipe: {recipe.model}; {recipe.fit};
{recipe.augment}. The seed in it is the first one's.

A failure is a person of whose labelled joints less than half are found at PCK@0.2; persons without
a labelled torso are left out. Means over the seeds with 95 % intervals: resamples of the seeds and
of the images in them."""
    seeds = [reports_of(out / f"seed-{seed}", seed) for seed in SEEDS]
    for title, spec in REPORTS.items():
        yield from section(title, spec.format("DATA"), [reports[title] for reports in seeds])
    each = [[reports[title] for reports in seeds] for title in REPORTS]
    rivals = [name for name in ASKED if name != CONTROL]
    ahead = [NAMES[name] for name in rivals if all(beats_ours(name, one) for one in each)]
    yield f"""
Ahead of ours on both sets, no interval of AUROC or AUGRC with zero in it, of {len(rivals)}:
{", ".join(ahead) or "none"}. The intervals are not corrected for so many."""


def beats_ours(name: str, reports: list[FailureReport]) -> bool:
    """Whether AUROC is higher and AUGRC lower, beyond doubt."""
    better = []
    for number, sign in (("auroc", 1), ("augrc", -1)):
        pairs = [[r.row(one).numbers()[number] for r in reports] for one in (name, OURS.name)]
        ends = compare(*pairs, same_images=True).difference.interval
        better.append(min(sign * end for end in ends) > 0)
    return all(better)


def section(title: str, spec: str, reports: list[FailureReport]) -> Iterator[str]:
    """The tables of one data set."""
    failures = ", ".join(str(report.failures) for report in reports)
    accuracy = mean_over_seeds([report.pck for report in reports], same_images=True)
    yield f"""
## {title}

`{spec}`: {reports[0].persons} persons, {reports[0].measured} with a labelled torso, of these
{failures} failures by seed. PCK@0.2 of all: {accuracy}.

| score | {" | ".join(NUMBERS.values())} |
|---|{"---:|" * len(NUMBERS)}"""
    for name, shown in NAMES.items():
        yield f"| {shown} | {' | '.join(str(mean(reports, name, n)) for n in NUMBERS)} |"
    yield f"""
Less ours, on the same poses (Student's interval over the seeds; in how many of {len(reports)} seeds
it is above):

| | {" | ".join(NUMBERS.values())} |
|---|{"---:|" * len(NUMBERS)}"""
    for name in (*ASKED, *FREE):
        cells = [gain(reports, name, OURS.name, number) for number in NUMBERS]
        yield f"| {NAMES[name]} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
