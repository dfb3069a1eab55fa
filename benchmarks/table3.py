"""The paper's Table 3 and Fig 5 on LSP → LSPET: what each score and sampler selects.

    python benchmarks/table3.py DATA OUT [SEEDS]

Trains and selects what is missing below OUT (about an hour a seed on one CPU thread), prints the
page. SEEDS, 3 without it, may be given smaller to look at what is done so far. Started several
times at once, the processes share the work.
"""

import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.keypoints import LSP
from misgiving.trainer import (
    Compute,
    CycleRecipe,
    CycleRun,
    HeadConfig,
    Scores,
    load_checkpoint,
    open_data,
    recipe_named,
    run_cycle,
)
from misgiving.trainer.cycle.scores import read_scores
from misgiving.trainer.cycle.summary import NUMBERS, by_method, cell
from misgiving.trainer.measures import metrics
from misgiving.trainer.measures.nested import t_interval

REPLICAS = (1, 2, 3)
HEADS = {
    "gap-margin": "LL (GAP)",
    "gap-kl": "LL++ (GAP)",
    "conv-margin": "LL conv (not in the paper)",
    "conv-kl": "LL++ conv",
    "gap-mse": "MSE (GAP; control)",
    "levels-margin": "LL, Yoo & Kweon's head",
    "levels-kl": "LL++, Yoo & Kweon's head",
}
FREE = {
    "-mean_peak": "−mean peak (free)",
    "-min_peak": "−min peak (free)",
    "entropy": "entropy (free)",
    "multi_peak_entropy": "multi-peak entropy (free)",
}
PAPER = {
    "random": 0.430,
    "coreset": 0.288,
    "gap-margin": 0.305,
    "gap-kl": 0.250,
    "conv-kl": 0.209,
}
"""Table 3(a), LSP-LSPET, first stage."""
PAPER_CORRELATION = {"gap-margin": 0.37, "gap-kl": 0.51}
"""Fig 5; which of the two LL++ heads and which coefficient is not said."""
PAIRS = (
    ("gap-kl", "gap-margin"),
    ("conv-kl", "conv-margin"),
    ("conv-margin", "gap-margin"),
    ("conv-kl", "gap-kl"),
    ("levels-margin", "gap-margin"),
    ("levels-kl", "levels-margin"),
    ("gap-mse", "gap-kl"),
    ("gap-margin", "-mean_peak"),
    ("gap-kl", "-mean_peak"),
    ("conv-kl", "-mean_peak"),
    ("coreset", "-mean_peak"),
)
"""First less second, on the same poses."""
LATER = (
    "random",
    "coreset",
    "mean_peak",
    *(f"learned_loss:{head}" for head in ("gap-margin", "gap-kl", "conv-kl")),
)
BUDGET, STAGES, CONTINUED_EPOCHS = 1000, 2, 10
COMPUTE = Compute(device="cpu", threads=1)


def recipe(seeds: int) -> CycleRecipe:
    """The CPU recipe with three of every head; later stages in a third of its epochs."""
    cpu = recipe_named("cpu")
    heads = tuple(
        HeadConfig(kind=kind, objective=objective, replica=replica)
        for kind, objective in (name.split("-") for name in HEADS)
        for replica in REPLICAS
    )
    paper = {"head_epochs": 0, "head_learning_rate": 3e-4}
    fit = replace(cpu.fit, continued_epochs=CONTINUED_EPOCHS, **paper)
    training = replace(cpu, name="cpu-table3", model=replace(cpu.model, heads=heads), fit=fit)
    return CycleRecipe(
        name="table3",
        training=training,
        methods=LATER,
        budget=BUDGET,
        stages=STAGES,
        repeats=seeds,
    )


@dataclass(frozen=True)
class Picked:
    """What one order of the pool picks, on one seed."""

    pck: float
    torsos: float
    """Of the picked, those whose torso is labelled: the PCK is theirs."""
    authors_pck: float
    """With the authors' normaliser; see ``authors_pck``."""
    loss: float
    loss_sd: float
    pearson: float
    spearman: float
    auroc: float
    constant: float
    """Share of the heads that say the same of everybody."""


NAMES = tuple(Picked.__dataclass_fields__)
NUMBERS_1: dict[str, tuple[str, int]] = {
    "pck": ("PCK@0.2 of the 1,000 ↓", -1),
    "loss": ("their true loss ↑", 1),
    "pearson": ("Pearson ↑", 1),
    "spearman": ("Spearman ↑", 1),
    "auroc": ("AUROC ↑", 1),
}


def main(data: Path, out: Path, seeds: int) -> None:
    """Do what is missing and print the page."""
    specs = (f"lsp:{data}/lsp#1-1000", f"lspet:{data}/lspet", f"lsp:{data}/lsp#1001-2000")
    runs = run_cycle(recipe(seeds), *(open_data(spec) for spec in specs), out, COMPUTE)
    print("\n".join(page(out, seeds, runs)))


def authors_pck(scores: Scores, picked: NDArray[np.intp]) -> float:
    """PCK with the normaliser of the authors' code, which also takes the places of joints that are
    not labelled, (0, negative), for a torso's corners."""
    true = scores.true_points[picked].astype(float)
    diagonals = [np.linalg.norm(true[:, a] - true[:, b], axis=-1) for a, b in LSP.torso]
    distance = np.linalg.norm(scores.points[picked] - true, axis=-1)
    near = distance < metrics.PCK_THRESHOLD * np.max(diagonals, axis=0)[:, None]
    return metrics.pck(np.where(scores.labelled[picked], near, np.nan))


def measure(scores: Scores, risk: NDArray[np.floating] | None, picked: NDArray[np.intp]) -> Picked:
    """What was picked, and how the whole order goes with the true loss."""
    found, loss = scores.found, scores.true_loss
    failed, defined = metrics.failed(found)
    constant = risk is not None and float(np.ptp(risk)) == 0.0
    orders = risk is not None and not constant
    nothing = float("nan")
    return Picked(
        pck=metrics.pck(found[picked]),
        torsos=BUDGET * float(defined[picked].mean()),
        authors_pck=authors_pck(scores, picked),
        loss=float(loss[picked].mean()),
        loss_sd=float(loss[picked].std()),
        pearson=float(np.corrcoef(risk, loss)[0, 1]) if orders else nothing,
        spearman=metrics.spearman(risk, loss) if orders else nothing,
        auroc=nothing if risk is None else metrics.auroc(risk[defined], failed),
        constant=float(constant),
    )


def first_stage(scores: Scores, runs: list[CycleRun]) -> dict[str, Picked]:
    """Every row of a seed; a head's is the mean over its replicas."""
    at = {name: position for position, name in enumerate(scores.ids)}
    rows = {}
    for run in runs:
        if run.method in ("random", "coreset"):
            picked = np.array([at[name] for name in run.stages[0].selected])
            rows[run.method] = measure(scores, None, picked)
    for head in HEADS:
        names = [head if replica == 1 else f"{head}-{replica}" for replica in REPLICAS]
        rows[head] = mean([by_risk(scores, scores.predicted_losses[name]) for name in names])
    risks = scores.risk_scores()
    rows |= {name: by_risk(scores, risks[name]) for name in FREE}
    return {**rows, "oracle": by_risk(scores, scores.true_loss)}


def by_risk(scores: Scores, risk: NDArray[np.floating]) -> Picked:
    """The 1,000 highest of all 10,000; of equal ones, what picking at random comes to."""
    count = BUDGET if np.ptp(risk) else len(risk)
    return measure(scores, risk, np.argsort(-risk, kind="stable")[:count])


def mean(parts: list[Picked]) -> Picked:
    """Number by number, correlations over the heads that have one."""
    columns = {n: np.array([getattr(part, n) for part in parts]) for n in NAMES}
    return Picked(**{n: float(np.nanmean(column)) for n, column in columns.items()})


def page(out: Path, seeds: int, runs: list[CycleRun]) -> Iterator[str]:
    """The Markdown page."""
    whole = recipe(seeds)
    commit = load_checkpoint(out / "seed-0" / "base")[2].commit
    tables = [
        first_stage(
            read_scores(out / f"seed-{seed}" / "base-scores.npz", LSP),
            [run for run in runs if run.seed == seed],
        )
        for seed in whole.seeds
    ]
    yield f"""# Table 3 and Fig 5 of the paper on LSP → LSPET, CPU recipe

`python benchmarks/table3.py DATA OUT {seeds}`, {time.strftime("%Y-%m-%d")}, {platform.machine()},
{os.cpu_count()} cores, CPython {platform.python_version()}, torch {metadata.version("torch")}, one
thread. Base `lsp:DATA/lsp#1-1000`, pool `lspet:DATA/lspet` (10,000), test `lsp:DATA/lsp#1001-2000`,
K = {BUDGET}, base models by code at {commit[:12]}. Seeds {", ".join(map(str, whole.seeds))}: each
one backbone with all heads on its detached features, {len(REPLICAS)} of every head that differ in
their start; a head's number is the mean over these. {whole.training.model.net};
input {whole.training.model.input_size} px; {whole.training.fit}; {whole.training.augment}.

Mean ± standard deviation over the seeds. K is picked from all 10,000; PCK@0.2 is that of the picked
whose torso is labelled (their number beside it), with the threshold exactly 0.2. Pearson and
Spearman are of the score with the true heatmap loss over the whole pool; AUROC is of failure (less
than half of the joints found), over the 6,024 whose torso is labelled."""
    yield from stage_one(tables)
    yield from differences(tables)
    yield from later(runs)


def stage_one(tables: list[dict[str, Picked]]) -> Iterator[str]:
    """Table 3(a)'s first column, with Fig 5's numbers."""
    titles = " | ".join(title for title, _ in NUMBERS_1.values())
    yield f"""
## Stage 1: what the base model selects

| picked by | paper's PCK | {titles} | with torso | PCK, authors' normaliser |
|---|{"---:|" * (len(NUMBERS_1) + 3)}"""
    names = {
        "random": "random",
        "coreset": "coreset",
        **HEADS,
        **FREE,
        "oracle": "true loss (oracle)",
    }
    for name, shown in names.items():
        values = {n: column(tables, name, n) for n in NAMES}
        cells = [mean_sd(values[n]) for n in NUMBERS_1]
        cells[1] += f" (within {values['loss_sd'].mean():.2f})"
        paper = f"{PAPER[name]:.3f}" if name in PAPER else ""
        torsos = f"{values['torsos'].mean():.0f}"
        authors = mean_sd(values["authors_pck"])
        yield f"| {shown} | {paper} | {' | '.join(cells)} | {torsos} | {authors} |"
    for name in HEADS:
        if some := column(tables, name, "constant").sum() * len(REPLICAS):
            yield (
                f"\n{HEADS[name]}: {some:.0f} of {len(tables) * len(REPLICAS)} heads say the same "
                "of everybody (no unit of a layer is left active); they pick at random, and have "
                "no correlation."
            )
    yield (
        "\n*within*: standard deviation of the true loss among the picked. Fig 5 of the paper: "
        f"correlation {PAPER_CORRELATION['gap-margin']} for LL and {PAPER_CORRELATION['gap-kl']} "
        "for LL++, true loss of the selected 1.94 ± 0.34 and 2.05 ± 0.24."
    )


def differences(tables: list[dict[str, Picked]]) -> Iterator[str]:
    """Paired by seed."""
    names = {"coreset": "coreset", **HEADS, **FREE}
    yield f"""
Differences on the same poses with Student's paired 95 % interval over the seeds, and in how many
seeds the first is better:

| | {" | ".join(title for title, _ in NUMBERS_1.values())} |
|---|{"---:|" * len(NUMBERS_1)}"""
    for first, second in PAIRS:
        cells = []
        for number, (_, better) in NUMBERS_1.items():
            gap = column(tables, first, number) - column(tables, second, number)
            cells.append(difference(gap, better))
        yield f"| {names[first]} *less* {names[second]} | {' | '.join(cells)} |"


def difference(gap: NDArray[np.float64], better: int) -> str:
    """As text; a dash where it is not defined in some seed."""
    if not np.isfinite(gap).all():
        return "–"
    low, high = t_interval(gap)
    wins = f"({(gap * better > 0).sum()} of {len(gap)})"
    return f"{gap.mean():+.3f} [{low:+.3f}, {high:+.3f}] {wins}"


def later(runs: list[CycleRun]) -> Iterator[str]:
    """Table 3(a) and (b), stage by stage."""
    grouped = by_method(runs)
    yield f"""
## Stage by stage

Each stage trains on from the one before on all labels so far, {CONTINUED_EPOCHS} epochs, and
selects {BUDGET} more.

| stage | labels | method | {" | ".join(NUMBERS.values())} |
|---:|---:|---|{"---:|" * len(NUMBERS)}"""
    for stage in range(STAGES):
        for method, some in grouped.items():
            cells = " | ".join(str(cell(some, stage, name)) for name in NUMBERS)
            yield f"| {stage + 1} | {some[0].stages[stage].labels} | {method} | {cells} |"


def column(tables: list[dict[str, Picked]], name: str, number: str) -> NDArray[np.float64]:
    """One number of one row, by seed."""
    return np.array([getattr(table[name], number) for table in tables])


def mean_sd(values: NDArray[np.float64]) -> str:
    """As text; a dash where the number is not defined."""
    if not np.isfinite(values).all():
        return "–"
    text = f"{values.mean():.3f}"
    return f"{text} ± {values.std(ddof=1):.3f}" if len(values) > 1 else text


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 3)
