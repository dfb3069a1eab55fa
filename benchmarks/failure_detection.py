"""Which score finds the failures of a pose net on real images: the baseline for what follows.

One backbone a seed carries every head at once, so that all scores are compared on the same poses.

Run: python benchmarks/failure_detection.py DATA OUT > benchmarks/failure_detection_cpu_<yyyymm>.md
DATA holds lsp/ and lspet/; OUT takes a checkpoint a seed (not for commits). What is there is not
trained again, and a killed training goes on.
"""

import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np

from misgiving.trainer.answers.scoring import score
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.config import HeadConfig, Recipe
from misgiving.trainer.data import open_data
from misgiving.trainer.recipes import recipe_named
from misgiving.trainer.report import FailureReport, failure_report
from misgiving.trainer.training import Compute, train

SEEDS = range(5)
HEADS = tuple(
    HeadConfig(kind=kind, objective=objective)
    for kind in ("gap", "conv")
    for objective in ("margin", "kl", "mse")
)
BASE = "lsp:{}/lsp#1-1000"
TEST = "lsp:{}/lsp#1001-2000"
POOL = "lspet:{}/lspet"
COMPUTE = Compute(device="cpu", threads=1)

NAMES = {
    "random": "random",
    "gap-margin": "LL (GAP)",
    "gap-kl": "LL++ (GAP)",
    "conv-margin": "LLconv (not in the paper)",
    "conv-kl": "LL++conv",
    "gap-mse": "MSE (GAP; control)",
    "conv-mse": "MSEconv (control)",
    "-mean_peak": "−mean peak (free)",
    "-min_peak": "−min peak (free)",
    "entropy": "entropy (free)",
    "multi_peak_entropy": "multi-peak entropy (free)",
    "true loss (oracle)": "true loss (oracle)",
}
NUMBERS = {
    "picked_pck": ("PCK@0.2 of the 10 % picked ↓", -1),
    "auroc": ("AUROC ↑", 1),
    "spearman": ("Spearman ↑", 1),
    "augrc": ("AUGRC ↓", -1),
}
FREE = "-mean_peak"
PAIRS = (
    ("gap-kl", "gap-margin"),
    ("conv-kl", "conv-margin"),
    ("conv-margin", "gap-margin"),
    ("conv-kl", "gap-kl"),
    ("gap-mse", "gap-kl"),
    ("conv-mse", "conv-kl"),
    ("gap-margin", FREE),
    ("gap-kl", FREE),
    ("conv-margin", FREE),
    ("conv-kl", FREE),
    ("entropy", FREE),
)
"""First less second, on the same poses."""


def main(data: Path, out: Path) -> None:
    """Train what is missing, and print the page."""
    for seed in SEEDS:
        folder = out / f"seed-{seed}"
        if not folder.exists():
            base, test = (open_data(spec.format(data)) for spec in (BASE, TEST))
            train(recipe_of(seed), base, test, folder, COMPUTE, what=f"seed {seed}")
    print("\n".join(page(data, out)))


def recipe_of(seed: int) -> Recipe:
    """The CPU recipe with every head, as the paper trains them, and another start."""
    recipe = recipe_named("cpu", seed=seed)
    fit = replace(recipe.fit, head_epochs=0, head_learning_rate=3e-4)
    model = replace(recipe.model, heads=HEADS)
    return replace(recipe, name="cpu-heads", model=model, fit=fit)


def page(data: Path, out: Path) -> Iterator[str]:
    """The Markdown page."""
    recipe, record = load_checkpoint(out / f"seed-{SEEDS[0]}")[1:]
    yield f"""# Failure detection on LSP and LSPET, CPU recipe

`python benchmarks/failure_detection.py DATA OUT`, {time.strftime("%Y-%m-%d")},
{platform.machine()}, {os.cpu_count()} cores, CPython {platform.python_version()}, torch
{metadata.version("torch")}, one thread. Trained on `{BASE.format("DATA")}`, code at
{record.commit[:12]}; seeds {SEEDS[0]} to {SEEDS[-1]}, each a backbone with all six heads on its
detached features: the scores of a seed judge the same poses. Recipe: {recipe.model}; {recipe.fit};
{recipe.augment}. The seed in it is the first one's.

A failure is a person of whose labelled joints less than half are found at PCK@0.2; persons without
a labelled torso are left out. The 10 % are picked among the rest. Spearman is with the true
heatmap loss. Mean ± standard deviation over the seeds; *wins* counts the seeds in which the score's
AUROC is above that of −mean peak."""
    for title, spec in (("LSPET, the shifted set", POOL), ("LSP test", TEST)):
        reports = [report_of(out / f"seed-{seed}", spec.format(data)) for seed in SEEDS]
        yield from section(title, spec.format("DATA"), reports)


def report_of(checkpoint: Path, spec: str) -> FailureReport:
    """What all scores of a checkpoint are worth on some data."""
    network, recipe, _ = load_checkpoint(checkpoint)
    scores = score(network, recipe, open_data(spec), COMPUTE.prepare())
    return failure_report(scores.risk_scores(), scores.found, scores.true_loss, scores.ids)


def section(title: str, spec: str, reports: list[FailureReport]) -> Iterator[str]:
    """The tables of one data set."""
    failures = ", ".join(str(report.failures) for report in reports)
    accuracy = np.array([report.pck.value for report in reports])
    yield f"""
## {title}

`{spec}`: {reports[0].persons} persons, {reports[0].measured} with a labelled torso, of these
{failures} failures by seed. PCK@0.2 of all: {mean_sd(accuracy)}.

| score | {" | ".join(name for name, _ in NUMBERS.values())} | wins |
|---|{"---:|" * (len(NUMBERS) + 1)}"""
    for name, shown in NAMES.items():
        cells = [mean_sd(values(reports, name, number)) for number in NUMBERS]
        gain = values(reports, name, "auroc") - values(reports, FREE, "auroc")
        yield f"| {shown} | {' | '.join(cells)} | {(gain > 0).sum()} of {len(gain)} |"
    yield f"""
Paired differences on the same poses, and in how many seeds the first is better:

| | {" | ".join(name for name, _ in NUMBERS.values())} |
|---|{"---:|" * len(NUMBERS)}"""
    for first, second in PAIRS:
        cells = [paired(reports, first, second, number) for number in NUMBERS]
        yield f"| {NAMES[first]} *less* {NAMES[second]} | {' | '.join(cells)} |"


def values(reports: list[FailureReport], name: str, number: str) -> np.ndarray:
    """One number of one score, by seed."""
    return np.array([report.row(name).numbers()[number].value for report in reports])


def paired(reports: list[FailureReport], first: str, second: str, number: str) -> str:
    """Mean ± sd of a difference, and wins."""
    difference = values(reports, first, number) - values(reports, second, number)
    wins = (difference * NUMBERS[number][1] > 0).sum()
    return f"{mean_sd(difference, '+')} ({wins} of {len(difference)})"


def mean_sd(numbers: np.ndarray, sign: str = "") -> str:
    """As text; a dash where the number is not defined."""
    if not np.isfinite(numbers).all():
        return "–"
    return f"{numbers.mean():{sign}.3f} ± {numbers.std(ddof=1):.3f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
