"""How much of a training step is not the network: a whole step against one on a ready batch.

The whole step is what ``fit`` does for each batch, by its own code: shuffle, select, augment,
encode, forward, backward, optimiser, tally. The limit is the same without data and tally, on one
batch over and over. Blocks of both alternate, so that a noisy machine is noisy for both.

Run: python benchmarks/training_speed.py > benchmarks/training_speed_cpu_<yyyymm>.md
On a GPU: --device cuda --recipe paper --peak-tflops N, where N is the GPU's bfloat16 peak without
sparsity as its maker states it.
"""

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import metadata

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from misgiving.runtime.keypoints import LSP
from misgiving.trainer import fit as fitting
from misgiving.trainer.config import Recipe
from misgiving.trainer.data import open_data
from misgiving.trainer.data.augmentation import batches
from misgiving.trainer.data.crops import Crops, load_crops
from misgiving.trainer.models import Network
from misgiving.trainer.recipes import recipe_named
from misgiving.trainer.restart import State
from misgiving.trainer.team import Team
from misgiving.trainer.training import Compute

PEOPLE = 128
ROUNDS = 15
STEPS = {"cpu": 8, "cuda": 100}
"""Of a block; what an epoch costs once is spread over as few."""
HEADS = (
    *("recipe", "batch", "GFLOP an image", "whole, images/s", "limit, images/s"),
    "ratio by the clock",
)


@dataclass(frozen=True)
class Result:
    """Of one recipe."""

    recipe: Recipe
    whole: np.ndarray
    """(ROUNDS, 2): seconds a step by the clock, and of this process's CPU."""
    limit: np.ndarray
    flops: int
    """Of a step."""
    waits: int
    """How often the host waited for the GPU in a block."""

    def ratio(self, clock: int) -> float:
        """The limit's time over the whole step's, median over the rounds."""
        return float(np.median(self.limit[:, clock] / self.whole[:, clock]))


def main() -> None:
    """Measure each recipe, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", choices=sorted(STEPS))
    parser.add_argument("--recipe", action="append", help="demo and cpu by default")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU, to tell its utilisation")
    arguments = parser.parse_args()
    device = Compute(device=arguments.device, threads=1).prepare()
    before = os.getloadavg()[0]
    names = arguments.recipe or ["demo", "cpu"]
    results = [measure(recipe_named(name), device) for name in names]
    print("\n".join(page(results, device, arguments.peak_tflops, (before, os.getloadavg()[0]))))


def measure(recipe: Recipe, device: torch.device) -> Result:
    """Both ways to step, in alternating blocks."""
    crops = load_crops(open_data(f"synthetic:1,{PEOPLE}"), recipe.model.crop, device, range(PEOPLE))
    torch.manual_seed(recipe.fit.seed)
    network = Network(recipe.model, LSP).to(device).to(memory_format=torch.channels_last)
    optimiser, schedule = fitting._optimiser(network, recipe.fit, 100_000, 0)
    state = State(network, optimiser, schedule, torch.Generator().manual_seed(0))
    batch = next(batches(crops, recipe.fit.batch_size, recipe.augment, state.generator))

    def limit(count: int) -> None:
        for _ in range(count):
            fitting._step(network, network, recipe, batch, optimiser)

    def whole(_: int) -> None:
        fitting._epoch(network, state, recipe, many, Team(), False).log(0, network, Team())

    network.train()
    with FlopCounterMode(display=False) as counter:
        limit(1)
    limit(3)
    steps = STEPS[device.type]
    many = _repeated(crops, steps * recipe.fit.batch_size)
    whole(steps)
    rounds = [[_timed(block, steps, device) for block in (whole, limit)] for _ in range(ROUNDS)]
    times = np.array(rounds)
    waits = _waits(lambda: whole(steps), device)
    flops = counter.get_total_flops()
    return Result(recipe, times[:, 0], times[:, 1], flops, waits)


def _repeated(crops: Crops, count: int) -> Crops:
    """As many people as an epoch of so many images takes, over and over the same."""
    order = torch.arange(count, device=crops.device) % len(crops)
    points, labelled = crops.points[order], crops.labelled[order]
    return replace(crops, images=crops.images[order], points=points, labelled=labelled)


def _timed(block: Callable[[int], None], steps: int, device: torch.device) -> tuple[float, float]:
    """Seconds a step by the clock, and of this process's CPU."""
    _finish(device)
    start, cpu = time.perf_counter(), time.process_time()
    block(steps)
    _finish(device)
    return (time.perf_counter() - start) / steps, (time.process_time() - cpu) / steps


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _waits(block: Callable[[], None], device: torch.device) -> int:
    """How often torch says that the host waits for the GPU."""
    if device.type != "cuda":
        return 0
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        block()
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in caught)


def page(
    results: list[Result], device: torch.device, peak: float | None, load: tuple[float, float]
) -> Iterator[str]:
    """The Markdown page."""
    gpu = device.type == "cuda"
    where = torch.cuda.get_device_name() if gpu else f"{os.cpu_count()} cores, one thread"
    more = ("waits a block", "TFLOP/s", "of the peak") if gpu else ("ratio of CPU time",)
    heads = (*HEADS, *more)
    called = "".join(f" --recipe {result.recipe.name}" for result in results)
    options = f" --device {device.type}{called}" + (f" --peak-tflops {peak:g}" if peak else "")
    yield f"""# Training speed

`python benchmarks/training_speed.py{options}`, {time.strftime("%Y-%m-%d")}, {platform.machine()},
{where}, CPython {platform.python_version()}, torch {metadata.version("torch")}. Load of the machine
{load[0]:.1f} before and {load[1]:.1f} after, of which this script is one.
{ROUNDS} rounds of alternating blocks of {STEPS[device.type]} steps, medians; a ratio
is taken in each round.

*Whole* is a step as `fit` does it: shuffle, select, augment, encode, forward, backward, optimiser,
tally. *Limit* is encode to optimiser on one batch that is there. CPU time is this process's own.

| {" | ".join(heads)} |
|---|{"---:|" * (len(heads) - 1)}"""
    for result in results:
        yield row(result, gpu, peak)
    for result in results:
        yield f"\nRecipe `{result.recipe.name}`: {result.recipe.model}; {result.recipe.fit}."
    if not gpu:
        yield GPU


def row(result: Result, gpu: bool, peak: float | None) -> str:
    """Of the table."""
    size = result.recipe.fit.batch_size
    whole, limit = np.median(result.whole[:, 0]), np.median(result.limit[:, 0])
    rate = result.flops / whole / 1e12
    cells = [result.recipe.name, str(size), f"{result.flops / size / 1e9:.1f}"]
    cells += [f"{size / whole:.1f}", f"{size / limit:.1f}", f"{result.ratio(0):.3f}"]
    if gpu:
        share = f"{rate / peak:.1%} of {peak:g}" if peak else "–"
        cells += [str(result.waits), f"{rate:.1f}", share]
    else:
        cells += [f"{result.ratio(1):.3f}"]
    return f"| {' | '.join(cells)} |"


GPU = """
## On a GPU

Not measured yet. On a machine with N GPUs, in an environment that has torch for them
(`pip install -e '.[train]'`):

```text
python benchmarks/training_speed.py --device cuda --recipe paper --peak-tflops 989 \\
    > benchmarks/training_speed_h100_<yyyymm>.md
torchrun --standalone --nproc-per-node N -m misgiving train \\
    --data synthetic:1,2000 --val synthetic:2,256 --recipe paper --epochs 2 --out runs/paper
```

989 is the bfloat16 peak in TFLOP/s that NVIDIA states for the H100 SXM without sparsity. *Waits a
block* is what torch's sync debug mode counts: a few for each epoch, none for a step."""


if __name__ == "__main__":
    main()
