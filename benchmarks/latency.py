"""What each precision and engine takes, and what a score costs beside the pose alone.

    python benchmarks/latency.py CHECKPOINT VAL BUNDLE > benchmarks/latency_cpu_<yyyymm>.md

Exports the checkpoint in every precision into the new folder BUNDLE, with VAL for its gates
(``lspet:DATA/lspet#8001-8512``), and times that as ``misgiving bench`` does. A bundle that is
there already is timed as it is. Wants an idle machine.
"""

import sys
from datetime import date
from pathlib import Path
from typing import get_args

from misgiving.export import ExportConfig, export_bundle
from misgiving.export.bench.page import page
from misgiving.export.bench.run import BenchConfig, bench
from misgiving.export.gates import lines
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.precisions import Reduced
from misgiving.trainer import Compute, load_checkpoint, open_data


def main(checkpoint: Path, validation: str, out: Path) -> None:
    """Export what is not there, time it, and print both tables."""
    if not out.exists():
        keypoints = load_checkpoint(checkpoint)[2].keypoints
        config = ExportConfig(name=checkpoint.name, version="0", precisions=get_args(Reduced))
        compute = Compute(device="cpu", threads=1)
        export_bundle(checkpoint, open_data(validation, keypoints), out, config, compute)
    bundle = Bundle.load(out)
    result = bench(bundle, BenchConfig(), lambda line: print(line, file=sys.stderr, flush=True))
    title, *rest = page(result)
    print(f"{title}\n\n`python benchmarks/latency.py CHECKPOINT VAL BUNDLE`, {date.today()}.")
    print("\n".join(rest))
    origin = bundle.manifest.provenance
    print(
        f"\nThe bundle's network: recipe {origin.recipe}, {origin.config['model']}, trained on "
        f"{' + '.join(origin.training_data)}, code at {origin.commit[:12]}."
    )
    print("\n## What the precisions keep\n\n```text")
    print("\n".join(lines(bundle)))
    print("```")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
