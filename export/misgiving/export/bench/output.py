"""The verb ``bench``: from options to a page, its numbers and its plot.

A long run needs neither onnxruntime nor what draws.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from misgiving.export.bench.long import LongConfig, bench_long
from misgiving.export.bench.long_page import page as long_page
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.locate import find_bundle
from misgiving.runtime.durable import check_new, new_folder

if TYPE_CHECKING:
    from misgiving.export.bench.run import BenchConfig


def run(path: Path | None, config: "BenchConfig", out: Path | None) -> None:
    """Time a bundle; print the page, and write all of it where a folder is named.

    Raises:
        BundleError: there is no such bundle.
        DataError: the folder is not new, or cannot be written.
    """
    from misgiving.export.bench.page import page, plot
    from misgiving.export.bench.run import bench

    bundle = _bundle(path, out)
    result = bench(bundle, config, _tell)
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


def run_long(path: Path | None, config: LongConfig, out: Path | None) -> None:
    """Time a bundle for long; print the page, and write it where a folder is named.

    Raises:
        BundleError: there is no such bundle.
        EngineError: its engine does not run here, or answers wrongly.
        DataError: the folder is not new, or cannot be written.
    """
    bundle = _bundle(path, out)
    result = bench_long(bundle, config, _tell)
    text = "\n".join(long_page(result)) + "\n"
    print(text, end="")
    if out:
        with new_folder(out) as part:
            (part / "bench.md").write_text(text, encoding="utf-8")
            (part / "bench.json").write_text(result.to_json(), encoding="utf-8")


def _bundle(path: Path | None, out: Path | None) -> Bundle:
    bundle = Bundle.load(find_bundle(path))
    if out:
        check_new(out)
    return bundle


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
