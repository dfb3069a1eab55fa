"""The verb ``bench``: from options to a page, its numbers and its plot."""

import sys
from pathlib import Path

from misgiving.export.bench.page import page, plot
from misgiving.export.bench.run import BenchConfig, bench
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.locate import find_bundle
from misgiving.runtime.durable import check_new, new_folder


def run(path: Path | None, config: BenchConfig, out: Path | None) -> None:
    """Time a bundle; print the page, and write all of it where a folder is named.

    Raises:
        BundleError: there is no such bundle.
        DataError: the folder is not new, or cannot be written.
    """
    bundle = Bundle.load(find_bundle(path))
    if out:
        check_new(out)
    result = bench(bundle, config, lambda line: print(line, file=sys.stderr, flush=True))
    text = "\n".join(page(result)) + "\n"
    print(text, end="")
    if out:
        with new_folder(out) as part:
            (part / "bench.md").write_text(text, encoding="utf-8")
            (part / "bench.json").write_text(result.to_json(), encoding="utf-8")
            try:
                plot(result, part / "bench.png")
            except ImportError:  # a vehicle has no matplotlib
                print("no plot: matplotlib is not installed", file=sys.stderr)
