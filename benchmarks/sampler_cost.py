"""What each sampler costs as the pool grows: processor time and peak memory.

    python benchmarks/sampler_cost.py benchmarks/sampler_cost_cpu_<yyyymm>.md

writes the page and its plot beside it. Pools are random numbers, so no data is needed. Each
measurement has a process of its own, on one thread: the sampler runs on a tiny pool first, so that
imports do not count, and memory is the process's highest resident size during the pick (VmHWM, set
back before it) less what it held then, embeddings and scores included. A sampler that refuses a
pool of arrays needs the network: it is listed with its cost in passes, PASSES below.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

SIZES, DIMENSIONS, LABELLED, BUDGET = (1_000, 10_000, 100_000), (64, 128), 1_000, 100
PASSES: dict[str, str] = {
    "aleatoric": "none beyond scoring; a head with that objective",
    "vl4pose": "none beyond scoring; a head with the objective `links`",
    "mc_dropout": "one forward pass a person for all 20 thinned networks",
    "committee": "one forward pass a person and network, three with the run's own",
    "egl": "one forward pass a person, one for each labelled person who is somebody's neighbour",
}
"""Sampler → what it costs a person of the pool, in passes through the network. Filled by hand."""

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
    from misgiving.trainer.samplers import SAMPLERS

    costs: Costs = {}
    for key in itertools.product(SAMPLERS, SIZES, DIMENSIONS):
        if found := measured(*key):
            costs[key] = found
            print(*key, found, file=sys.stderr)
    refused = [name for name in SAMPLERS if name not in {name for name, _, _ in costs}]
    text = page(costs, refused, options.page.with_suffix(".png").name)
    options.page.write_text(text, encoding="utf-8")
    plot(costs, options.page.with_suffix(".png"))


def measured(name: str, count: int, size: int) -> Cost | None:
    """The cost in a fresh process; None where the sampler needs more than arrays."""
    command = [sys.executable, __file__, "-", "--one", name, str(count), str(size)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    found: Cost | None = json.loads(output)
    return found


def cost(name: str, count: int, size: int) -> Cost | None:
    """Seconds and MiB of one pick; None where the sampler needs more than arrays."""
    import numpy as np

    from misgiving.runtime.errors import InvalidInput
    from misgiving.trainer.samplers import SAMPLERS, sampler_named
    from misgiving.trainer.samplers.base import Candidates

    def pool(persons: int) -> Candidates:
        rng = np.random.default_rng(persons)
        risk = rng.normal(size=persons).astype(np.float32)
        embedding = rng.normal(size=(persons, size)).astype(np.float32)
        labelled = rng.normal(size=(LABELLED, size)).astype(np.float32)
        return Candidates(
            ids=[f"person/{i}" for i in range(persons)],
            predicted_loss=risk,
            signals=dict.fromkeys(SAMPLERS, risk),  # one by a free score has its name
            embedding=lambda: embedding,
            labelled_embedding=lambda: labelled,
            true_loss=lambda: risk,
        )

    run, whole = sampler_named(name), pool(count)
    try:
        run(pool(8), 2, np.random.default_rng(0))
    except InvalidInput:
        return None
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident size starts anew
    before, begun = resident("VmRSS"), time.process_time()
    picked = run(whole, BUDGET, np.random.default_rng(0))
    taken = time.process_time() - begun
    assert len(set(picked)) == BUDGET
    return {"seconds": taken, "mib": resident("VmHWM") - before}


def resident(field: str) -> float:
    """A size of this process, MiB. Not ru_maxrss: that begins with the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def page(costs: Costs, refused: list[str], picture: str) -> str:
    """The committed page."""
    names = list(dict.fromkeys(name for name, _, _ in costs))
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
    return "\n".join([*lines, "", *passes(refused)]) + "\n"


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


def passes(refused: list[str]) -> list[str]:
    """Rows of the samplers that no pool of arrays is enough for."""
    lines = ["## Samplers that need more than arrays", ""]
    if not refused:
        return [*lines, "None."]
    rows = [f"| {name} | {PASSES.get(name, 'not stated yet')} |" for name in refused]
    return [*lines, "| sampler | passes through the network |", "|---|---|", *rows]


def plot(costs: Costs, path: Path) -> None:
    """Time and memory against the size of the pool, both logarithmic."""
    import matplotlib

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
