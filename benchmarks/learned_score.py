"""Does a learned score find failures that the free ones miss, and what makes the difference?

Five pose nets, trained on all that the shipped bundle is trained on. On each, kept as it is, nine
heads are trained at once: what a head sees × what it learns. So all scores judge the same poses.

Run: python benchmarks/learned_score.py DATA OUT > benchmarks/learned_score_cpu_<yyyymm>.md
DATA holds lsp/ and lspet/; OUT takes two checkpoints a seed (not for commits). What is there is not
trained again, and a killed training goes on; five hours on two cores.
"""

import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from misgiving.trainer.answers.scoring import Scores, score
from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.config import HeadConfig, Recipe
from misgiving.trainer.data import join, open_data
from misgiving.trainer.measures.bootstrap import Estimate
from misgiving.trainer.measures.joints import joint_report
from misgiving.trainer.measures.nested import compare, mean_over_seeds
from misgiving.trainer.recipes import PAPER_HEADS, recipe_named
from misgiving.trainer.report import FailureReport, failure_report
from misgiving.trainer.training import Compute, train

SEEDS = range(5)
TRAINING = ("lsp:{}/lsp#1-1000", "lspet:{}/lspet#1-8000")
VALIDATION = "lspet:{}/lspet#8001-9000"
"""What the heads were designed on; it is in no table."""
REPORTS = {
    "LSPET, held out": "lspet:{}/lspet#9001-10000",
    "LSP test, of which no image's source was trained on": "lsp:{}/lsp#1001-2000",
}
COMPUTE = Compute(device="cpu", threads=1)

WINNER = "evidence-miss"
NAMES = {
    WINNER: "evidence, miss",
    "levels-miss": "levels, miss",
    "gap-miss": "GAP, miss",
    "conv-miss": "conv, miss",
    "evidence-kl": "evidence, KL",
    "conv-kl": "LL++conv",
    "gap-kl": "LL++",
    "conv-margin": "LLconv (not in the paper)",
    "gap-margin": "LL",
    "-mean_peak": "−mean peak (free)",
    "-min_peak": "−min peak (free)",
    "entropy": "entropy (free)",
    "multi_peak_entropy": "multi-peak entropy (free)",
    "true loss (oracle)": "true loss (oracle)",
}
FREE = ("-mean_peak", "-min_peak", "entropy", "multi_peak_entropy")
NUMBERS = {"auroc": "AUROC ↑", "augrc": "AUGRC ↓", "picked_pck": "PCK of the 10 % picked ↓"}


def main(data: Path, out: Path) -> None:
    """Train what is missing, and print the page."""
    for seed in SEEDS:
        for stage, recipe in enumerate((pose_recipe(seed), heads_recipe(seed))):
            folder, before = out / f"{recipe.name}-{seed}", out / f"{POSE}-{seed}"
            if not folder.exists():
                training = join([open_data(spec.format(data)) for spec in TRAINING])
                validation = open_data(VALIDATION.format(data))
                init = before if stage else None
                train(recipe, training, validation, folder, COMPUTE, init, f"{folder.name}")
    print("\n".join(page(data, out)))


POSE, HEADS = "pose", "heads"


def pose_recipe(seed: int) -> Recipe:
    """The edge net at 128 px, which two cores can train, with the paper's heads."""
    recipe = recipe_named("edge", seed=seed)
    model = replace(recipe.model, input_size=128, heads=PAPER_HEADS)
    fit = replace(
        recipe.fit, epochs=16, continued_epochs=16, head_epochs=0, head_learning_rate=3e-4
    )
    return replace(recipe, name=POSE, model=model, fit=fit)


def heads_recipe(seed: int) -> Recipe:
    """Nine heads on that net as it is. The paper's go on from their first training."""
    recipe = pose_recipe(seed)
    heads = [HeadConfig(kind="evidence", objective="kl"), *PAPER_HEADS]
    for kind in ("conv", "levels", "gap", "evidence"):
        heads.insert(0, HeadConfig(kind=kind, objective="miss"))
    alone = {"epochs": 0, "continued_epochs": 0, "head_epochs": 30, "head_learning_rate": 1e-3}
    return replace(
        recipe,
        name=HEADS,
        model=replace(recipe.model, heads=tuple(heads)),
        fit=replace(recipe.fit, **alone),
        augment=replace(recipe.augment, astray=1 / 8),
    )


def page(data: Path, out: Path) -> Iterator[str]:
    """The Markdown page."""
    recipe, record = load_checkpoint(out / f"{HEADS}-{SEEDS[0]}")[1:]
    trained = " + ".join(spec.format("DATA") for spec in TRAINING)
    yield f"""# A learned score against the free ones, CPU

`python benchmarks/learned_score.py DATA OUT`, {time.strftime("%Y-%m-%d")}, {platform.machine()},
{os.cpu_count()} cores, CPython {platform.python_version()}, torch {metadata.version("torch")}, one
thread. Trained on `{trained}`; seeds {SEEDS[0]} to {SEEDS[-1]}. First the pose net with the paper's
heads, {pose_recipe(0).fit.epochs} epochs at {pose_recipe(0).fit.head_learning_rate} for the heads;
then all heads alone, the pose net as it is. Recipe of the second: {recipe.model}; {recipe.fit};
{recipe.augment}. The seed in it is the first one's; code at {record.commit[:12]}.

A failure is a person of whose labelled joints less than half are found at PCK@0.2; persons without
a labelled torso are left out. Means over the seeds with 95 % intervals: resamples of the seeds and
of the images in them. The best free score is the one with the highest mean AUROC on the very data
of the table, which is in its favour."""
    for title, spec in REPORTS.items():
        scores = [scores_of(out / f"{HEADS}-{seed}", spec.format(data)) for seed in SEEDS]
        reports = [
            failure_report(one.risk_scores(), one.found, one.true_loss, one.ids) for one in scores
        ]
        yield from section(title, spec.format("DATA"), reports)
        yield joint_line(scores)


def scores_of(checkpoint: Path, spec: str) -> Scores:
    """What the heads of a checkpoint say of some data."""
    network, recipe, _ = load_checkpoint(checkpoint)
    return score(network, recipe, open_data(spec), COMPUTE.prepare())


def joint_line(scores: list[Scores]) -> str:
    """How well the winner tells a joint's own miss."""
    seeds = [joint_report(s.keypoint_loss, s.confidence, s.found, s.ids) for s in scores]
    reports = [report for report in seeds if report]
    learned, peak = [r.learned for r in reports], [r.own_peak for r in reports]
    compared = compare(learned, peak, same_images=True)
    misses = ", ".join(str(report.misses) for report in reports)
    return f"""
AUROC of a joint's miss, mean over {reports[0].joints} joints, {misses} misses of
{reports[0].measured} by seed: {NAMES[WINNER]} {mean_over_seeds(learned, same_images=True)}, the
joint's own peak {mean_over_seeds(peak, same_images=True)}, difference {compared.difference}, above
in {compared.above} of {compared.seeds} seeds."""


def section(title: str, spec: str, reports: list[FailureReport]) -> Iterator[str]:
    """The tables of one data set."""
    failures = ", ".join(str(report.failures) for report in reports)
    accuracy = mean_over_seeds([report.pck for report in reports], same_images=True)
    free = max(FREE, key=lambda name: mean(reports, name, "auroc").value)
    yield f"""
## {title}

`{spec}`: {reports[0].persons} persons, {reports[0].measured} with a labelled torso, of these
{failures} failures by seed. PCK@0.2 of all: {accuracy}. Best free score: {NAMES[free]}.

| score | {" | ".join(NUMBERS.values())} |
|---|{"---:|" * len(NUMBERS)}"""
    for name, shown in NAMES.items():
        cells = [str(mean(reports, name, number)) for number in NUMBERS]
        yield f"| {shown} | {' | '.join(cells)} |"
    yield f"""
Less the best free score, on the same poses, and in how many of {len(reports)} seeds it is above:

| | {" | ".join(NUMBERS.values())} |
|---|{"---:|" * len(NUMBERS)}"""
    for name in [name for name in NAMES if "-" in name]:
        yield f"| {NAMES[name]} | {' | '.join(gain(reports, name, free, n) for n in NUMBERS)} |"


def mean(reports: list[FailureReport], name: str, number: str) -> Estimate:
    """One number of one score, over the seeds."""
    seeds = [report.row(name).numbers()[number] for report in reports]
    return mean_over_seeds(seeds, same_images=True)


def gain(reports: list[FailureReport], first: str, second: str, number: str) -> str:
    """The first less the second, with its interval and Student's, and the count of seeds."""
    pairs = [[r.row(name).numbers()[number] for r in reports] for name in (first, second)]
    compared = compare(*pairs, same_images=True)
    low, high = compared.t_interval
    return f"{compared.difference} (t {low:+.3f} {high:+.3f}; {compared.above})"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
