"""The whole loop on real images: ``misgiving demo`` on LSP and LSPET, its table as Markdown.

Run: python benchmarks/loop_lsp.py DATA OUT > benchmarks/loop_lsp_cpu_<yyyymm>.md
DATA holds lsp/ and lspet/; OUT takes the demo's folder (checkpoints, pictures: not for commits).
Where OUT holds a finished demo, only the page is made anew.
"""

import json
import os
import platform
import sys
import time
from contextlib import redirect_stdout
from importlib import metadata
from pathlib import Path
from typing import Any

from misgiving.export.demo import DemoConfig, run_demo
from misgiving.export.demo.run import SUMMARY
from misgiving.trainer.recipes import RECIPES


def main(data: Path, out: Path) -> None:
    """Run the demo where it was not run yet, and print the page."""
    config = DemoConfig(
        data=f"lsp:{data / 'lsp'}#1-1000",
        pool=f"lspet:{data / 'lspet'}",
        out=out,
        recipe="cpu",
    )
    if not (out / SUMMARY).exists():
        with redirect_stdout(sys.stderr):
            run_demo(config)
    summary: dict[str, Any] = json.loads((out / SUMMARY).read_bytes())
    stages = json.loads((out / "cycle/seed-0/learned_loss/results.json").read_bytes())
    print(page(summary, stages).replace(f"{data}/", ""))


def page(summary: dict[str, Any], stages: list[dict[str, Any]]) -> str:
    """The Markdown page of a finished demo."""
    picks, counts, timing = summary["picks"], summary["counts"], summary["latency"]
    before, after, fit = summary["before"], summary["after"], RECIPES[summary["recipe"]].fit
    return f"""# The loop on LSP and LSPET, CPU

`python benchmarks/loop_lsp.py DATA OUT`, {time.strftime("%Y-%m-%d")}, {platform.machine()},
{os.cpu_count()} cores, CPython {platform.python_version()}, torch {metadata.version("torch")},
onnxruntime {metadata.version("onnxruntime")}. One torch thread, one seed ({fit.seed}): the
differences between scores are not tested here. {summary["seconds"]:.0f} s in all, on a machine
that did other work too.

Recipe `{summary["recipe"]}`: {RECIPES[summary["recipe"]].model}; {fit}.
Exported head: `{summary["head"]}`.

| part | data |
|---|---|
{chr(10).join(f"| {name} | `{spec}` |" for name, spec in summary["data"].items())}

## What the flags found

{picks["frames_with_torso"]} of the {picks["frames"]} streamed frames have a labelled torso;
{picks["failures"]} of these are failures (less than half of the joints found). PCK@0.2 of the
{picks["picked"]} picked, lower finds more:

| picked by | PCK@0.2 of the picked | AUROC of failure |
|---|---:|---:|
| predicted loss (the flag) | {picks["pck_flagged"]:.3f} | {picks["auroc_predicted_loss"]:.3f} |
| mean heatmap peak (free) | {picks["pck_mean_peak"]:.3f} | {picks["auroc_mean_peak"]:.3f} |
| random | {picks["pck_random"]:.3f} | .5 |
| truth (oracle) | {picks["pck_oracle"]:.3f} | 1 |
| all frames | {picks["pck_all"]:.3f} | – |

Spearman of predicted and true loss: {picks["spearman_true_loss"]:.3f}.

## The cycle

| stage | labels | test PCK@0.2 | PCK@0.2 of the selected | of what was left of the pool |
|---:|---:|---:|---:|---:|
{chr(10).join(_stage(stage) for stage in stages)}
| after collecting | {after["labels"]} | {after["pck"]:.3f} | – | – |

Test: `{after["data"]}`. The last row trained on from stage 2 with the base set and what was
collected; it had more epochs too, so the difference to stage 2 ({before["pck"]:.3f}) is not the
labels' alone.

## The frames

{counts["sent"]} sent, {counts["flagged"]} flagged, {counts["audited"]} audited,
{counts["collected"]} collected, {counts["dropped"]} dropped. Round trip p50
{timing["p50_ms"]:.1f} ms, p99 {timing["p99_ms"]:.1f} ms with 8 frames under way. The vehicle's
predicted loss is at most {summary["vehicle_against_trainer_sd"]:.1e} standard deviations from the
trainer's."""


def _stage(stage: dict[str, Any]) -> str:
    return (
        f"| {stage['stage']} | {stage['labels']} | {stage['test']['pck']:.3f} | "
        f"{stage['selected_pck']:.3f} | {stage['pool_pck']:.3f} |"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
