"""Train the net that the next bundle is exported from: net and head, then the head alone.

Run: python benchmarks/default_training.py DATA OUT [--device cuda --epochs 60] [--init CHECKPOINT]
DATA holds lsp/ and lspet/, or copies in their layout. OUT gets pose/, final/ and checkpoint/, which
is final/ in 16 bits. The recipes stand beside the bundle. Two hours on one core; a run that was
killed goes on.
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
VALIDATION = "lspet:lspet#8001-9000"


def main() -> None:
    """Train what is not there yet, and print where it stands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="of the net, instead of the recipe's")
    parser.add_argument("--init", type=Path, help="a checkpoint to train on from")
    asked = parser.parse_args()
    out = asked.out.absolute()
    init = asked.init and asked.init.absolute()
    os.chdir(asked.data)  # what the record names is the same everywhere
    compute = Compute(device=asked.device, threads=asked.threads)
    pose, heads = (read_recipe(RECIPES / f"recipe-{part}.json") for part in ("pose", "heads"))
    pose = replace(pose, fit=with_changes(pose.fit, asked.epochs))
    _stage(pose, out / "pose", compute, init)
    _stage(heads, out / "final", compute, out / "pose")
    network, recipe, record = load_checkpoint(out / "final")
    save_checkpoint(out / "checkpoint", network.half(), recipe, record)
    print(json.dumps(record.metrics, indent=2))


def _stage(recipe: Recipe, out: Path, compute: Compute, init: Path | None) -> None:
    if not out.exists():
        data = join([open_data(spec) for spec in TRAINING])
        train(recipe, data, open_data(VALIDATION), out, compute, init)


if __name__ == "__main__":
    main()
