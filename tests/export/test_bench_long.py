"""``bench --long``: one engine, timed for long, and its answers checked meanwhile."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from docs.helpers import invoke
from misgiving.export.bench import board, long_worker
from misgiving.export.bench.board import Moment, Reading
from misgiving.export.bench.long import Long, LongConfig
from misgiving.export.bench.long_page import page, verdict
from misgiving.export.bench.long_worker import Check, Queries, Run, timed, work
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.base import Engine, Prediction, Provider
from misgiving.runtime.engines.loading import ModelOptions, load
from misgiving.runtime.errors import BundleError, InvalidInput


def test_one_engine_is_timed_and_checked(bundle: Bundle) -> None:
    worked = work(ModelOptions(bundle=bundle.path, threads=1), seconds=0.05)
    assert worked.engine == "onnxruntime CPUExecutionProvider fp32"
    assert [run.persons for run in worked.runs] == [1, 8]
    for run in worked.runs:
        assert len(run.calls_ms) == len(run.starts_s) >= 1
        assert run.starts_s == sorted(run.starts_s)
        assert run.check.passes >= 2  # before and after
        assert (run.check.shift_px, run.check.drift) == pytest.approx((0, 0), abs=0.01)
        assert run.check.same


@pytest.mark.parametrize("persons", [1, 3, 8])
def test_queries_hold_every_sample_equally_often(bundle: Bundle, persons: int) -> None:
    queries = Queries(bundle, persons)
    asked = np.concatenate([queries[query] for query in range(len(queries))])
    _, counts = np.unique(asked.reshape(len(asked), -1), axis=0, return_counts=True)
    assert len(set(counts)) == 1
    np.testing.assert_array_equal(queries[0], queries[len(queries)])


class Drifting:
    """An engine that answers something else after so many calls."""

    max_batch = 1024

    def __init__(self, engine: Engine, right: int) -> None:
        self._engine, self._right = engine, right

    @property
    def provider(self) -> Provider:
        return self._engine.provider

    def infer(self, images: NDArray[np.uint8]) -> Prediction:
        answer, self._right = self._engine.infer(images), self._right - 1
        keypoints = answer.keypoints + (0 if self._right >= 0 else 5)
        return replace(answer, keypoints=keypoints)


def test_an_engine_that_starts_to_answer_otherwise_ends_the_run(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the clock runs: of the first queries, every answer is checked."""
    monkeypatch.setattr(long_worker, "KEPT_SHARE", 1.0)
    monkeypatch.setattr(long_worker, "WARM_UP_SHARE", 0.0)
    monkeypatch.setattr(long_worker, "_check_all", lambda *_: None)
    _, engine = load(ModelOptions(bundle=bundle.path, threads=1))
    with pytest.raises(BundleError, match="keypoints moved"):
        timed(Drifting(engine, right=2), Queries(bundle, 1), 1, seconds=3600)


def test_answers_of_another_engine_are_not_the_same_bit_for_bit(bundle: Bundle) -> None:
    _, engine = load(ModelOptions(bundle=bundle.path, threads=1))
    queries, check = Queries(bundle, 8), Check()
    answers = [engine.infer(queries[query]) for query in range(len(queries))]
    moved = [replace(one, keypoints=one.keypoints + np.float32(0.01)) for one in answers]
    for round_of in (answers, answers, moved):
        for query, answer in enumerate(round_of):
            queries.keep(query, answer, check)
    assert (check.passes, check.same) == (3, False)
    assert check.shift_px == pytest.approx(0.014, abs=0.002)


def test_the_command(bundle: Bundle, tmp_path: Path) -> None:
    """By a process of its own; the page is short and says so."""
    words = ["bench", "--long", "--seconds", "0.05", "--bundle", str(bundle.path)]
    printed = invoke([*words, "--out", str(tmp_path / "out")])
    assert "**Too short for MLPerf**, which asks for 600 s, and 64 and 662 queries." in printed
    assert (tmp_path / "out/bench.md").read_text() in printed
    saved = json.loads((tmp_path / "out/bench.json").read_text())
    assert (saved["digest"], saved["config"]["seconds"]) == (bundle.digest, 0.05)
    assert len(saved["moments"]) >= 1


def result_of(bundle: Bundle, seconds: float, *runs: Run) -> Long:
    moments = [
        Moment(at, celsius, 2400.0, Reading(watts, 900.0, None))
        for at, celsius, watts in ((1000.0, 50.0, 7.0), (1030.0, 61.5, 8.0), (1060.0, 70.0, 9.0))
    ]
    return Long(
        bundle=bundle,
        config=LongConfig(seconds=seconds),
        engine="onnxruntime",
        machine={"power mode": "15W"},
        after={"throttled": "throttled=0x50000"},
        runs=list(runs),
        moments=moments,
    )


def run_of(persons: int, first: list[float], second: list[float]) -> Run:
    """A first minute and a second."""
    starts = [*np.linspace(0, 59, len(first)), *np.linspace(60, 119, len(second))]
    return Run(persons=persons, begun_s=1000.0, starts_s=starts, calls_ms=first + second)


def test_the_page_has_a_row_for_each_minute(bundle: Bundle) -> None:
    run = run_of(1, [2.0] * 90 + [3.0] * 10, [4.0] * 100)
    text = "\n".join(page(result_of(bundle, 120, run)))
    assert "| single stream | 1 | 100 | 2.10 | 61.5 | 2400.0 | 900.0 | 7.5 |" in text
    assert "| single stream | 2 | 100 | 4.00 | 70.0 | 2400.0 | 900.0 | 9.0 |" in text
    assert "- power mode: 15W\n- throttled, afterwards: throttled=0x50000\n" in text


def test_the_verdict(bundle: Bundle) -> None:
    """Each with its percentile; too few queries are too short, however long they take."""
    single, several = run_of(1, [2.0] * 900, [4.0] * 60), run_of(8, [9.0] * 600, [30.0] * 300)
    said = verdict(result_of(bundle, 600, single, several))
    assert said.startswith(
        "Single stream, 90 % of 960 queries within 2.00 ms; 8 streams, 99 % of 900 queries within "
        "30.00 ms. Keypoints and"
    )
    for seconds, runs in ((599, (single, several)), (600, (single, run_of(8, [9.0], [9.0])))):
        assert "**Too short for MLPerf**" in verdict(result_of(bundle, seconds, *runs))
    different = replace(single, check=Check(passes=3, same=False))
    assert "bit for bit" in said
    assert "bit for bit" not in verdict(result_of(bundle, 600, different, several))


def test_a_moment_of_a_board(tmp_path: Path) -> None:
    """What Linux tells of a Jetson or a Pi; a zone that sleeps gives nothing."""
    for zone, text in enumerate(("48500\n", "61250\n", "asleep\n")):
        folder = tmp_path / f"class/thermal/thermal_zone{zone}"
        folder.mkdir(parents=True)
        (folder / "type").write_text("cpu-thermal\n")
        (folder / "temp").write_text(text)
    for core, khz in enumerate((1500000, 2400000)):
        folder = tmp_path / f"devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{khz}\n")
    reading = Reading(7.0, 900.0, None)
    told = board.moment([Reading(1.0, 1.0, 1.0), reading], tmp_path)
    assert (told.hottest_c, told.cpu_mhz, told.reading) == (61.25, 2400.0, reading)
    nothing = board.moment([], tmp_path / "class")
    assert (nothing.hottest_c, nothing.cpu_mhz) == (None, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "device is 'tpu'; expected cpu, cuda, tensorrt"),
        ({"threads": 0}, "threads is 0; expected at least 1"),
        ({"seconds": 0.0}, "seconds is 0; expected above 0"),
        ({"seconds": float("nan")}, "seconds is nan; expected above 0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        LongConfig(**options)
