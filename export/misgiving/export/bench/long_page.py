"""What a run of ``misgiving bench --long`` shows: a Markdown page."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np

from misgiving.export.bench.board import Moment
from misgiving.export.bench.long import MLPERF_QUERIES, MLPERF_S, Long
from misgiving.export.bench.long_worker import Run

TAIL = {1: 90, 8: 99}
"""The percentile that MLPerf takes, by persons a query."""
NAMES = {1: "single stream", 8: "8 streams"}
_TABLE = "| {} |".format


def page(result: Long) -> Iterator[str]:
    """The lines of the page."""
    manifest, config = result.bundle.manifest, result.config
    yield f"# {manifest.name} {manifest.version} under lasting load"
    yield ""
    yield verdict(result)
    yield ""
    yield (
        f"Bundle {result.bundle.digest[:12]}, input {manifest.crop.height} × "
        f"{manifest.crop.width}, on {result.engine} with {config.threads} CPU thread(s), for "
        f"{config.seconds:g} s each, after a warm-up. A query is one person, or one of each of 8 "
        "streams; the next follows when it is answered. Its crops are in memory: no decoding and "
        "no transport is in it."
    )
    yield ""
    yield from (f"- {name}: {text}" for name, text in result.machine.items())
    yield from (f"- {name}, afterwards: {text}" for name, text in result.after.items())
    yield ""
    yield from _percentiles(result)
    yield ""
    yield from _minutes(result)
    yield ""
    yield "The manner is MLPerf's, the network and the data are not: this is no result of MLPerf."


def verdict(result: Long) -> str:
    """What each query took, whether that was long enough, and whether the answers were right."""
    said = [
        f"{NAMES[run.persons]}, {TAIL[run.persons]} % of {len(run.calls_ms):,} queries within "
        f"{np.percentile(run.calls_ms, TAIL[run.persons]):.2f} ms"
        for run in result.runs
    ]
    same = all(run.check.same for run in result.runs)
    return (
        f"{'; '.join(said)[0].upper()}{'; '.join(said)[1:]}. {_length(result)}Keypoints and "
        "predicted loss of the engine that was timed were those of the bundle's samples, before, "
        f"meanwhile and after{', and the same bit for bit all along' if same else ''}."
    )


def _length(result: Long) -> str:
    short = any(len(run.calls_ms) < MLPERF_QUERIES[run.persons] for run in result.runs)
    if result.config.seconds >= MLPERF_S and not short:
        return ""
    least = " and ".join(map(str, MLPERF_QUERIES.values()))
    return f"**Too short for MLPerf**, which asks for {MLPERF_S:g} s, and {least} queries. "


def _percentiles(result: Long) -> Iterator[str]:
    columns = ["p50 ms", "p90 ms", "p99 ms", "most ms", "persons/s", "checked", "px", "loss"]
    yield _TABLE(" | ".join(["what", "queries", *columns]))
    yield _TABLE(" | ".join(["---", *["---:"] * (1 + len(columns))]))
    for run in result.runs:
        times = [f"{np.percentile(run.calls_ms, p):.2f}" for p in (50, 90, 99, 100)]
        check, lasted = run.check, run.starts_s[-1] + run.calls_ms[-1] / 1e3
        cells = [
            *(NAMES[run.persons], f"{len(run.calls_ms):,}", *times),
            f"{run.persons * len(run.calls_ms) / lasted:.0f}",
            *(f"{check.passes:,}", f"{check.shift_px:.3f}", f"{check.drift:.3f}"),
        ]
        yield _TABLE(" | ".join(cells))
    yield ""
    yield (
        "Checked: passes over the bundle's samples, drawn from the queries that were timed, and "
        "one before and after. Px and loss: how far from the bundle's answers a pass was at most, "
        "the median keypoint in pixels, and the predicted loss in standard deviations. More than "
        "the bundle's self-check allows would have ended the run."
    )


def _minutes(result: Long) -> Iterator[str]:
    """A row for each minute: a board that throttles shows it here."""
    yield _TABLE("what | minute | queries | p90 ms | hottest °C | CPU MHz | GPU MHz | W")
    yield _TABLE(" | ".join(["---", *["---:"] * 7]))
    for run in result.runs:
        for minute, calls in _by_minute(run):
            begun = run.begun_s + 60 * minute
            within = [one for one in result.moments if begun <= one.at_s < begun + 60]
            cells = [
                *(NAMES[run.persons], str(minute + 1), f"{len(calls):,}"),
                f"{np.percentile(calls, 90):.2f}",
                *_told(within),
            ]
            yield _TABLE(" | ".join(cells))
    yield ""
    yield (
        "°C is the highest of the minute, of all zones; clocks and power are means. A dash: the "
        "board does not tell."
    )


def _by_minute(run: Run) -> Iterator[tuple[int, list[float]]]:
    calls = zip(run.starts_s, run.calls_ms, strict=True)
    for minute, part in groupby(calls, key=lambda call: int(call[0] // 60)):
        yield minute, [took for _, took in part]


def _told(moments: Sequence[Moment]) -> Iterator[str]:
    columns: list[tuple[Callable[[Moment], float | None], Callable[[list[float]], float]]] = [
        (lambda one: one.hottest_c, max),
        (lambda one: one.cpu_mhz, _mean),
        (lambda one: one.reading.clock_mhz, _mean),
        (lambda one: one.reading.watts, _mean),
    ]
    for of, summed in columns:
        told = [value for one in moments if (value := of(one)) is not None]
        yield f"{summed(told):.1f}" if told else "–"


def _mean(values: list[float]) -> float:
    return float(np.mean(values))
