"""Which score finds the failures of a pose net on real images: the baseline for what follows.

One backbone a seed carries every head at once, so that heads are compared on the same poses.

Run: python benchmarks/failure_detection.py DATA OUT > benchmarks/failure_detection_cpu_<yyyymm>.md
DATA holds lsp/ and lspet/; OUT takes a checkpoint a seed (not for commits). What is there is not
trained again.
"""

import sys
from dataclasses import replace
from pathlib import Path

from misgiving.trainer.config import HeadConfig, Recipe
from misgiving.trainer.data import open_data
from misgiving.trainer.recipes import recipe_named
from misgiving.trainer.training import Compute, train

SEEDS = range(5)
HEADS = tuple(
    HeadConfig(kind=kind, objective=objective)
    for kind in ("gap", "conv")
    for objective in ("margin", "kl", "mse")
)
COMPUTE = Compute(device="cpu", threads=1)


def main(data: Path, out: Path) -> None:
    """Train what is missing."""
    for seed in SEEDS:
        folder = out / f"seed-{seed}"
        if not folder.exists():
            base, test = (open_data(f"lsp:{data / 'lsp'}#{part}") for part in SPLITS)
            train(recipe_of(seed), base, test, folder, COMPUTE, what=f"seed {seed}")


SPLITS = ("1-1000", "1001-2000")


def recipe_of(seed: int) -> Recipe:
    """The CPU recipe with every head, and another start."""
    recipe = recipe_named("cpu", seed=seed)
    return replace(recipe, name="cpu-heads", model=replace(recipe.model, heads=HEADS))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
