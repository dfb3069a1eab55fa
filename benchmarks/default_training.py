"""Train the net that the next bundle is exported from: three stages, each from the one before.

Net and head; both on, with every block and among worse pictures; the head alone.

Run: python benchmarks/default_training.py DATA OUT [--device cuda --epochs 60] [--init CHECKPOINT]
DATA holds lsp/ and lspet/, or copies in their layout. OUT gets pose/, worse/, heads/ and
checkpoint/, which is heads/ in 16 bits. The recipes stand beside the bundle. Three hours on one
core; a run that was killed goes on.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

from misgiving.runtime.bundles.locate import DEFAULT_CHECKPOINT
from misgiving.trainer import Compute, Recipe, join, load_checkpoint, open_data, train
from misgiving.trainer.checkpoint import save_checkpoint
from misgiving.trainer.config import read_recipe
from misgiving.trainer.recipes import with_changes

RECIPES = DEFAULT_CHECKPOINT.parent
TRAINING = ("lsp:lsp#1-1000", "lspet:lspet#1-8000")
STAGES = ("pose", "worse", "heads")
VALIDATION = "lspet:lspet#8001-9000"


def main() -> None:
    """Train what is not there yet, and print where it stands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="of the first stage, instead of the recipe's")
    parser.add_argument("--init", type=Path, help="a checkpoint to train on from")
    asked = parser.parse_args()
    out = asked.out.absolute()
    init = asked.init and asked.init.absolute()
    os.chdir(asked.data)  # what the record names is the same everywhere
    compute = Compute(device=asked.device, threads=asked.threads)
    for stage in STAGES:
        recipe = read_recipe(RECIPES / f"recipe-{stage}.json")
        if stage == STAGES[0]:
            recipe = replace(recipe, fit=with_changes(recipe.fit, asked.epochs))
        _stage(recipe, out / stage, compute, init)
        init = out / stage
    network, recipe, record = load_checkpoint(out / STAGES[-1])
    save_checkpoint(out / "checkpoint", network.half(), recipe, record)
    print(json.dumps(record.metrics, indent=2))


def _stage(recipe: Recipe, out: Path, compute: Compute, init: Path | None) -> None:
    if not out.exists():
        data = join([open_data(spec) for spec in TRAINING])
        train(recipe, data, open_data(VALIDATION), out, compute, init)


if __name__ == "__main__":
    main()
