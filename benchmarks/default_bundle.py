"""How good the bundle is that ships with the package: its checkpoint on data that nothing saw.

The bundle was made with (DATA holds lsp/ and lspet/):

    misgiving train --data "lsp:DATA/lsp#1-1000" --data "lspet:DATA/lspet#1-8000" \\
        --val "lspet:DATA/lspet#8001-9000" --recipe cpu --epochs 20 --threads 1 --out CHECKPOINT
    misgiving export CHECKPOINT --out runtime/misgiving/runtime/bundles/default --name lsp-cpu \\
        --head gap-kl --licence "research use only: trained on Leeds Sports Pose and its extension"

This script prints the page: python benchmarks/default_bundle.py DATA CHECKPOINT
"""

import platform
import sys
import time
from importlib import metadata
from pathlib import Path

from misgiving.trainer.checkpoint import load_checkpoint
from misgiving.trainer.data import open_data
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.report import score_table
from misgiving.trainer.scoring import score
from misgiving.trainer.training import Compute


def main(data: Path, checkpoint: Path) -> None:
    """Score both report splits and print every score beside the free ones."""
    network, recipe, record = load_checkpoint(checkpoint)
    device = Compute(device="cpu", threads=1).prepare()
    trained = " + ".join(without_folders(spec) for spec in record.training_data)
    print(
        "# The bundle that ships\n\n"
        f"`python benchmarks/default_bundle.py DATA CHECKPOINT`, {time.strftime('%Y-%m-%d')}, "
        f"{platform.machine()}, CPython {platform.python_version()}, "
        f"torch {metadata.version('torch')}. One seed ({recipe.fit.seed}), one training: which of "
        "the four heads is best is not decided here. The bundle carries `gap-kl`, the one with the "
        "highest AUROC on the validation data, the first table; the others are the report.\n\n"
        f"Recipe `{recipe.name}`: {recipe.model}; {recipe.fit}; {recipe.augment}.\n\n"
        f"Trained on `{trained}` ({record.label_count} labels), code at "
        f"{record.commit[:12] or 'no commit'}. Persons without a labelled torso are left out."
    )
    lspet, lsp = f"lspet:{data / 'lspet'}", f"lsp:{data / 'lsp'}"
    for spec in (f"{lspet}#8001-9000", f"{lspet}#9001-10000", f"{lsp}#1001-2000"):
        table = score_table(score(network, recipe, open_data(spec), device))
        print(f"\n## {without_folders(spec)}\n\n```text\n{table}\n```")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
