"""What each sampler costs as the pool grows: processor time and peak memory.

    python benchmarks/sampler_cost.py benchmarks/sampler_cost_cpu_<yyyymm>.md

writes the page and its plot beside it. Scores and embeddings are random numbers and people are
rendered, so no data is needed. Each measurement has a process of its own, on one thread: the
sampler runs on a tiny pool first, so that imports do not count, and memory is the process's highest
resident size during the pick (VmHWM, set back before it) less what it held then, scores and
embeddings included. A sampler that asks the network is given an untrained one; what scoring the
same pool costs stands beside it.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

import matplotlib
import numpy as np
import torch

from misgiving.trainer import PoseSet, open_data, recipe_named
from misgiving.trainer.answers.scoring import score
from misgiving.trainer.models import Network
from misgiving.trainer.network_view import network_view
from misgiving.trainer.samplers import SAMPLERS, sampler_named
from misgiving.trainer.samplers.base import Candidates

SIZES, DIMENSIONS, LABELLED, BUDGET = (1_000, 10_000, 100_000), (64, 128), 1_000, 100
RECIPE, FACES = recipe_named("demo"), 64
"""The network that is asked, and how many different persons a pool repeats."""
PASSES = {
    "mc_dropout": "one a person, for all 20 thinned networks",
    "committee": "one a person and network, three here",
    "egl": "one a person, one a labelled person who is somebody's neighbour",
    "scoring": "one a person, which any sampler but random needs before it picks",
}
"""How often the network is asked, by hand; the last is no sampler."""

Cost = dict[str, float]
Costs = dict[tuple[str, int, int], Cost]
"""By sampler, persons and size of the embedding."""


def main() -> None:
    """Measure one sampler once, in a process that ``measured`` started, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("SAMPLER", "N", "D"), help="for itself")
    options = parser.parse_args()
    if options.one:
        name, count, size = options.one
        print(json.dumps(cost(name, int(count), int(size))))
        return
    costs: Costs = {}
    for name, count, size in itertools.product((*SAMPLERS, "scoring"), SIZES, DIMENSIONS):
        if name in PASSES and size != DIMENSIONS[-1]:
            continue  # the passes are the cost, however long the embedding
        costs[name, count, size] = measured(name, count, size)
        print(name, count, size, costs[name, count, size], file=sys.stderr)
    text = page(costs, options.page.with_suffix(".png").name)
    options.page.write_text(text, encoding="utf-8")
    plot(costs, options.page.with_suffix(".png"))


def measured(name: str, count: int, size: int) -> Cost:
    """The cost in a fresh process."""
    command = [sys.executable, __file__, "-", "--one", name, str(count), str(size)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    found: Cost = json.loads(output)
    return found


def cost(name: str, count: int, size: int) -> Cost:
    """Seconds and MiB of one pick, or of scoring the pool."""
    torch.set_num_threads(1)
    task(name, 8, size, 2)()
    run = task(name, count, size, BUDGET)
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident size starts anew
    before, begun = resident("VmRSS"), time.process_time()
    answer = run()
    taken = time.process_time() - begun
    assert len(set(answer)) == (count if name == "scoring" else BUDGET)
    return {"seconds": taken, "mib": resident("VmHWM") - before}


def task(name: str, count: int, size: int, budget: int) -> Callable[[], Collection[object]]:
    """What is measured: it answers with those who were picked, or scored."""
    pool, networks = people("pool", count), [untrained(seed) for seed in range(3)]
    device = torch.device("cpu")
    if name == "scoring":
        return lambda: score(networks[0], RECIPE, pool, device).ids
    rng = np.random.default_rng(count)
    risk = rng.normal(size=count).astype(np.float32)
    embedding = rng.normal(size=(count, size)).astype(np.float32)
    labelled = rng.normal(size=(LABELLED, size)).astype(np.float32)
    candidates = Candidates(
        ids=pool.ids,
        predicted_loss=risk,
        signals=dict.fromkeys(SAMPLERS, risk),  # one by a free score has its name
        embedding=lambda: embedding,
        labelled_embedding=lambda: labelled,
        true_loss=lambda: risk,
        predicted_losses={"conv-aleatoric": risk, "conv-links": risk},
        network=network_view(
            networks[0], RECIPE, pool, people("labelled", LABELLED), device, networks[1:]
        ),
    )
    return partial(sampler_named(name), candidates, budget, np.random.default_rng(0))


def people(name: str, count: int) -> PoseSet:
    """So many persons, a few faces over and over, all in memory."""
    faces = open_data(f"synthetic:0,{FACES}")
    seen = [faces[index] for index in range(FACES)]
    ids = tuple(f"{name}/{index}" for index in range(count))
    return PoseSet(
        name, faces.keypoints, ids, lambda index: replace(seen[index % FACES], id=ids[index])
    )


def untrained(seed: int) -> Network:
    """A member of the committee, or the network itself."""
    torch.manual_seed(seed)
    return Network(RECIPE.model, people("none", 0).keypoints)


def resident(field: str) -> float:
    """A size of this process, MiB. Not ru_maxrss: that begins with the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def page(costs: Costs, picture: str) -> str:
    """The committed page."""
    names = [name for name in SAMPLERS if name not in PASSES]
    lines = [
        "# What a sampler costs",
        "",
        f"`python benchmarks/sampler_cost.py PAGE`, {time.strftime('%Y-%m-%d')}, "
        f"{platform.machine()}, {os.cpu_count()} cores, CPython {platform.python_version()}, "
        f"numpy {metadata.version('numpy')}, scipy {metadata.version('scipy')}, "
        f"torch {metadata.version('torch')}; one thread, a process for each number.",
        "",
        f"{BUDGET} persons picked from pools of random scores and embeddings, {LABELLED:,} "
        "labelled. Time is processor time of the pick alone, without scoring the pool; memory is "
        "the highest resident size during it, beyond the scores and embeddings themselves (at "
        f"{SIZES[-1]:,} × {DIMENSIONS[-1]} these are "
        f"{SIZES[-1] * DIMENSIONS[-1] * 4 / 2**20:.0f} MiB). convex and usdm weigh "
        "at most 2,000 persons against each other, those with the highest predicted loss, and "
        "adversarial trains for a fixed number of steps: that is why their lines flatten.",
        "",
        f"![Time and memory against the size of the pool, {DIMENSIONS[-1]} d]({picture})",
    ]
    for size in DIMENSIONS:
        lines += ["", f"## Embeddings of {size} numbers", "", *table(costs, names, size)]
    lines += [
        "",
        "## Those that ask the network",
        "",
        f"The untrained net of recipe `{RECIPE.name}` ({RECIPE.model.net}, input "
        f"{RECIPE.model.input_size} px), people in memory; embeddings of {DIMENSIONS[-1]}. "
        "Another net takes other times: what counts is how many scorings a pick costs.",
        "",
        *table(costs, list(PASSES), DIMENSIONS[-1]),
        "",
        "| | passes through the network | seconds, scoring = 1 |",
        "|---|---|---:|",
    ]
    seconds = {name: costs[name, SIZES[-1], DIMENSIONS[-1]]["seconds"] for name in PASSES}
    for name, passes in PASSES.items():
        lines.append(f"| {name} | {passes} | {seconds[name] / seconds['scoring']:.2f} |")
    return "\n".join(lines) + "\n"


def table(costs: Costs, names: list[str], size: int) -> list[str]:
    """Rows of one size of embedding."""
    heads = [f"s at {n:,}" for n in SIZES] + [f"MiB at {n:,}" for n in SIZES]
    last = f"µs a person at {SIZES[-1]:,}"
    lines = [f"| sampler | {' | '.join(heads)} | {last} |", "|---|" + "---:|" * (len(heads) + 1)]
    for name in names:
        of = [costs[name, count, size] for count in SIZES]
        cells = [f"{c['seconds']:.3g}" for c in of] + [f"{c['mib']:.1f}" for c in of]
        each = of[-1]["seconds"] / SIZES[-1] * 1e6
        lines.append(f"| {name} | {' | '.join(cells)} | {each:.2f} |")
    return lines


def plot(costs: Costs, path: Path) -> None:
    """Time and memory against the size of the pool, both logarithmic."""
    matplotlib.use("Agg")
    from matplotlib import colormaps, pyplot

    figure, sides = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    names = list(dict.fromkeys(name for name, _, _ in costs))
    what = (("seconds", "processor time, s", 1e-4), ("mib", "memory, MiB (0.1: or less)", 0.1))
    for side, (key, label, floor) in zip(sides, what, strict=True):
        for i, name in enumerate(names):
            values = [costs[name, count, DIMENSIONS[-1]][key] for count in SIZES]
            style = {"marker": "osv^D*"[i % 6], "color": colormaps["tab20"](i % 20)}
            side.loglog(SIZES, [max(value, floor) for value in values], label=name, **style)
        side.set(xlabel="persons in the pool", ylabel=label)
        side.grid(alpha=0.3)
    figure.legend(*sides[0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
