"""What a run of ``misgiving bench`` shows: a Markdown page and a plot."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from misgiving.export.bench.board import Reading
from misgiving.export.bench.cases import FUSED, POSE
from misgiving.export.bench.run import ROUNDS, Bench, Row

if TYPE_CHECKING:  # a vehicle has no matplotlib
    from matplotlib.figure import Figure

PERCENTILES = (50, 90, 99)


def page(result: Bench) -> Iterator[str]:
    """The lines of the page."""
    manifest, config = result.bundle.manifest, result.config
    yield f"# Latency of {manifest.name} {manifest.version}"
    yield ""
    yield verdict(result.rows)
    yield ""
    yield (
        f"Bundle {result.bundle.digest[:12]}, input {manifest.crop.height} × "
        f"{manifest.crop.width}, device {config.device}, {config.threads} CPU thread(s) within one "
        f"inference. {ROUNDS} rounds in which every row runs once, in a process of its own, for "
        f"{config.seconds:g} s after a warm-up; percentiles are over all calls. A call has its "
        "crops in memory: no decoding and no transport is in it."
    )
    yield ""
    yield from (f"- {name}: {text}" for name, text in result.machine.items())
    yield ""
    columns = [*(f"p{p} ms" for p in PERCENTILES), "persons/s", "start s", "first ms", "peak MiB"]
    board = any(row.readings for row in result.rows)
    columns += ["W", "GPU MHz", "GPU MiB"] if board else []
    yield f"| engine | graph | what | batch | {' | '.join(columns)} |"
    yield f"|---|---|---|---:|{'---:|' * len(columns)}"
    for row in result.rows:
        case = row.case
        names = [case.engine, case.file, case.variant, str(case.batch)]
        cells = _cells(row, board) if row.timings else [row.error] + [""] * (len(columns) - 1)
        yield f"| {' | '.join(names + cells)} |"
    yield ""
    yield from _ratios(result.rows)
    yield (
        "Start: from the bundle to an engine that is ready, its libraries' import included; with "
        "first, the first call, what a cold start costs; medians over the rounds. Peak: of the "
        "whole process, libraries included. The passes are of the network without its head, and "
        "what spreads or averages their answers is not counted."
    )
    if board:
        yield ""
        yield (
            "W and GPU MHz are means while a row ran. GPU MiB: the most in use on the GPU, on a "
            "Jetson on the whole board, by all processes."
        )


def verdict(rows: Sequence[Row]) -> str:
    """The fastest way to all outputs, at the fewest persons a call."""
    timed = [row for row in rows if row.timings and row.case.variant == FUSED]
    if not timed:
        return "Nothing gave all outputs here; the table says why."
    first = min(timed, key=lambda row: (row.case.batch, row.percentile(50)))
    case, count = first.case, sum(row.case.batch == first.case.batch for row in timed)
    who = "one person" if case.batch == 1 else f"{case.batch} persons"
    return (
        f"For {who} a call, {case.engine} with {case.file} is the fastest of {count} timed: "
        f"{first.percentile(50):.2f} ms in the median, {first.percentile(99):.2f} ms at the 99th "
        "percentile."
    )


def _cells(row: Row, board: bool) -> list[str]:
    cells = [f"{row.percentile(p):.2f}" for p in PERCENTILES]
    cells.append(f"{1e3 * row.case.batch / row.percentile(50):.0f}")
    cells.append(f"{np.median([timing.start_s for timing in row.timings]):.2f}")
    cells.append(f"{np.median([timing.first_ms for timing in row.timings]):.1f}")
    cells.append(f"{max(timing.peak_mib for timing in row.timings):.0f}")
    if board:
        cells += _board_cells(row.readings)
    return ["–" if cell == "nan" else cell for cell in cells]


def _board_cells(readings: list[Reading]) -> Iterator[str]:
    """Mean power, mean clock, most memory."""
    for name, of in (("watts", np.mean), ("clock_mhz", np.mean), ("memory_mib", np.max)):
        told = [value for one in readings if (value := getattr(one, name)) is not None]
        yield f"{of(told):.1f}" if told else "–"


def _ratios(rows: list[Row]) -> Iterator[str]:
    """Of the alternatives to the fused graph, the median over the rounds: load comes and goes."""
    pose = next((row for row in rows if row.case.variant == POSE and row.timings), None)
    if pose is None:
        return
    alike = [r for r in rows if r.timings and _base(r) == _base(pose)]
    yield (
        "Times pose only, in the median round: "
        + "; ".join(
            f"{row.case.variant} {_ratio(row, pose):.2f}" for row in alike if row is not pose
        )
        + "."
    )
    yield ""


def _base(row: Row) -> tuple[str, str, int]:
    return row.case.engine, row.case.file, row.case.batch


def _ratio(row: Row, other: Row) -> float:
    pairs = zip(row.timings, other.timings, strict=True)
    return float(np.median([np.median(a.calls_ms) / np.median(b.calls_ms) for a, b in pairs]))


def plot(result: Bench, path: Path) -> None:
    """Write :func:`figure` as a picture.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure(result).savefig(path, dpi=110)


def figure(result: Bench) -> "Figure":
    """Every row's median as a dot, with a line to its 99th percentile and a stroke at the 90th.

    The axis is logarithmic and shows whole decades.
    """
    from matplotlib.figure import Figure

    rows = [row for row in result.rows if row.timings][::-1]
    drawn = Figure(figsize=(9, 1.4 + 0.32 * len(rows)), layout="constrained")
    axes, places = drawn.subplots(), range(len(rows))
    middle, high, highest = ([row.percentile(p) for row in rows] for p in PERCENTILES)
    axes.hlines(places, middle, highest, color="#4477aa", linewidth=1.5, label="to p99")
    axes.plot(high, places, "|", color="#4477aa", markersize=9, label="p90")
    axes.plot(middle, places, "o", color="#4477aa", label="p50")
    axes.set_yticks(places, [_name(row) for row in rows])
    axes.set(xscale="log", xlabel="ms a call")
    if rows:
        axes.set_xlim(10 ** np.floor(np.log10(min(middle))), 10 ** np.ceil(np.log10(max(highest))))
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    drawn.suptitle(textwrap.fill(verdict(result.rows), 100), fontsize=10, parse_math=False)
    drawn.legend(frameon=False, ncols=3, loc="outside lower center")
    return drawn


def _name(row: Row) -> str:
    case = row.case
    name = f"{case.engine} {case.file.removesuffix('.onnx')}, batch {case.batch}"
    return name if case.variant == FUSED else f"{name}, {case.variant}"
