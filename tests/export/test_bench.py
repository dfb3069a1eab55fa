"""What ``bench`` times is what it says: real graphs on real engines, each in its own process."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from matplotlib.collections import LineCollection

from misgiving.export.bench import board, cases, run, trtexec
from misgiving.export.bench.board import Reading
from misgiving.export.bench.cases import (
    ENSEMBLE,
    FUSED,
    HEAD,
    PASSES,
    POSE,
    Case,
    prepare,
    with_outputs,
)
from misgiving.export.bench.page import figure, page, plot, verdict
from misgiving.export.bench.run import ROUNDS, Bench, BenchConfig, Row, bench
from misgiving.export.bench.worker import Timing, measure
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.errors import EngineError, InvalidInput
from shared.single import single_bundle

CASE = Case(engine="onnxruntime", device="cpu", threads=1, batch=2)


@pytest.mark.parametrize("outputs", [("keypoints",), ("keypoints", "predicted_loss")])
def test_a_graph_with_some_outputs_gives_the_same_there_and_nothing_else(
    bundle: Bundle, outputs: tuple[str, ...]
) -> None:
    whole = bundle.model.read_bytes()
    short = with_outputs(whole, outputs)
    sessions = [ort.InferenceSession(m, providers=["CPUExecutionProvider"]) for m in (whole, short)]
    rule = bundle.manifest.crop
    images = np.random.default_rng(3).integers(0, 256, (3, rule.height, rule.width, 3), np.uint8)
    expected, got = (s.run(list(outputs), {"image": images}) for s in sessions)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert tuple(output.name for output in sessions[1].get_outputs()) == outputs
    share = 1.0 if "predicted_loss" in outputs else 0.9  # without the head's weights
    assert len(short) < share * len(whole)


@pytest.mark.parametrize(
    ("variant", "passes", "networks"),
    [
        (FUSED, 1, 1),
        (POSE, 1, 1),
        (HEAD, 1, 1),
        (PASSES, 10, 1),  # one network, asked ten times
        (ENSEMBLE, 5, 5),  # each with weights of its own
    ],
)
def test_what_a_call_costs(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, variant: str, passes: int, networks: int
) -> None:
    asked: list[object] = []
    real = cases._onnx_call

    def counted(case: Case, graph: bytes, images: cases.Images) -> cases.Call:
        call = real(case, graph, images)

        def once() -> object:
            asked.append(call)
            return call()

        return once

    monkeypatch.setattr(cases, "_onnx_call", counted)
    prepare(replace(CASE, variant=variant), bundle)()
    assert (len(asked), len(set(asked))) == (passes, networks)


def keypoints(answer: Any) -> Any:
    """The first output of the first network, whatever the engine wraps it in."""
    first = answer[0]
    return np.asarray(next(iter(first.values())) if hasattr(first, "values") else first[0])


def test_openvino_answers_as_onnxruntime_does(bundle: Bundle) -> None:
    other = prepare(replace(CASE, engine="openvino"), bundle)()
    shift = keypoints(other) - keypoints(prepare(CASE, bundle)())
    assert np.median(np.abs(shift)) < 1e-3


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # the compiler's own
@pytest.mark.parametrize("engine", ["torch", pytest.param("torch-compile", marks=pytest.mark.slow)])
def test_torch_runs_the_recipes_network(bundle: Bundle, engine: str) -> None:
    answer: Any = prepare(replace(CASE, engine=engine), bundle)()
    assert [tuple(part.shape)[0] for part in answer] == [CASE.batch] * 4
    assert answer[0].shape[1:] == (len(bundle.manifest.keypoints.names), 3)


def test_a_recipe_of_another_version(bundle: Bundle) -> None:
    provenance = bundle.manifest.provenance.model_copy(update={"config": {"model": {}}})
    other = replace(bundle, manifest=bundle.manifest.model_copy(update={"provenance": provenance}))
    with pytest.raises(InvalidInput, match="expected the recipe of a network of this version"):
        prepare(replace(CASE, engine="torch"), other)


def test_an_engine_that_is_not_installed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match=r"openvino is not installed; run: pip install"):
        prepare(replace(CASE, engine="openvino"), bundle)


def test_a_measurement(bundle: Bundle) -> None:
    timing = measure(CASE, bundle.path, seconds=0.05)
    assert len(timing.calls_ms) >= 5
    assert min(timing.calls_ms) > 0
    assert timing.peak_mib > 10


def test_the_rows(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find_spec", lambda name: name == "torch")
    rows = list(run.cases(bundle, BenchConfig(batches=(1, 4))))
    assert [(row.engine, row.batch, row.variant) for row in rows] == [
        *(("onnxruntime", 1, FUSED), ("torch", 1, FUSED), ("torch-compile", 1, FUSED)),
        *(("onnxruntime", 4, FUSED), ("torch", 4, FUSED), ("torch-compile", 4, FUSED)),
        *(("onnxruntime", 1, variant) for variant in (POSE, HEAD, PASSES, ENSEMBLE)),
    ]


def test_the_rows_of_a_gpu(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT in its three guises, with every graph that it reads."""
    monkeypatch.setattr(run, "find_spec", lambda name: name == "tensorrt")
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["TensorrtExecutionProvider"])
    monkeypatch.setattr(trtexec, "find", lambda: "trtexec")
    files = dict.fromkeys(("model.onnx", "model.fp16.onnx", "model.int8.onnx", "samples.npz"), "")
    manifest = bundle.manifest.model_copy(update={"files": files})
    rows = run.cases(replace(bundle, manifest=manifest), BenchConfig(device="cuda", batches=(1,)))
    fused = [(row.engine, row.file) for row in rows if row.variant == FUSED]
    graphs = ["model.onnx", "model.fp16.onnx", "model.int8.onnx"]
    assert fused == [
        *(("onnxruntime", file) for file in graphs),
        *(("tensorrt", file) for file in graphs[:2]),
        *(("onnxruntime-tensorrt", file) for file in graphs[:2]),
        *(("trtexec", file) for file in graphs[:2]),
    ]


def test_batches_that_the_graph_does_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = Bundle.load(single_bundle(tmp_path / "single"))
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    monkeypatch.setattr(run, "ROUNDS", 1)
    told: list[str] = []
    rows = bench(single, BenchConfig(batches=(8, 1), seconds=0.01), told.append).rows
    assert "batches of 8 are left out" in told[0]
    assert [(row.case.batch, row.error) for row in rows] == [(1, "")] * 5
    with pytest.raises(InvalidInput, match="batches are 8; .* takes at most 1 crops at once"):
        next(run.cases(single, BenchConfig(batches=(8,))))


@pytest.mark.parametrize("engine", ["tensorrt", "onnxruntime-tensorrt"])
def test_tensorrt_without_a_gpu(bundle: Bundle, engine: str) -> None:
    with pytest.raises(EngineError, match=r"libcuda|TensorrtExecutionProvider was asked for"):
        prepare(replace(CASE, engine=engine, device="cuda"), bundle)


def test_processes_of_their_own(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every round times every row; what cannot run says why, once, and the rest goes on."""
    bad = replace(CASE, device="cuda")
    monkeypatch.setattr(run, "cases", lambda *_: [bad, CASE])
    told: list[str] = []
    result = bench(bundle, BenchConfig(seconds=0.05), told.append)
    failed, timed = result.rows
    assert "CUDAExecutionProvider was asked for" in failed.error
    assert not failed.timings
    assert (len(timed.timings), timed.error) == (ROUNDS, "")
    assert len(told) == ROUNDS + 1
    saved = json.loads(result.to_json())
    assert saved["rows"][1]["timings"][0]["calls_ms"] == list(timed.timings[0].calls_ms)
    assert saved["digest"] == bundle.digest
    assert failed.error in "\n".join(page(result))


def row(variant: str, *rounds: tuple[float, ...], watts: tuple[float, ...] = ()) -> Row:
    timings = [Timing(start_s=0.5, first_ms=9.0, calls_ms=calls, peak_mib=64.0) for calls in rounds]
    readings = [Reading(power, 900.0, 1000.0 + power) for power in watts]
    return Row(replace(CASE, variant=variant), timings, readings)


def result_of(bundle: Bundle, *rows: Row) -> Bench:
    return Bench(bundle=bundle, config=BenchConfig(), machine={"cores": "2"}, rows=list(rows))


def test_the_page(bundle: Bundle) -> None:
    """Two rounds of the second took thrice as long for both: the ratio is that of a round."""
    whole = row(FUSED, (2.0, 2.0), (6.0, 6.0), (2.0, 2.0), watts=(7.0, 8.0))
    pose = row(POSE, (1.0, 1.0), (3.0, 3.0), (1.0, 1.0))
    text = "\n".join(page(result_of(bundle, whole, pose)))
    assert "| onnxruntime | model.onnx | all outputs | 2 | 2.00 | 6.00 | 6.00 | 1000 |" in text
    assert "| 0.50 | 9.0 | 64 | 7.5 | 900.0 | 1008.0 |" in text
    assert "| 0.50 | 9.0 | 64 | – | – | – |" in text
    assert "Times pose only, in the median round: all outputs 2.00." in text
    assert "- cores: 2" in text


def test_the_page_begins_with_its_verdict(bundle: Bundle) -> None:
    """The fewest persons a call count, and of these the median; other variants do not."""
    slow, fast = row(FUSED, (4.0, 6.0)), row(FUSED, (3.0, 3.0, 8.0))
    single = [replace(one, case=replace(one.case, batch=1)) for one in (slow, fast)]
    result = result_of(bundle, row(FUSED, (1.0,)), row(POSE, (0.5,)), *single)
    sentence = list(page(result))[2]
    assert sentence == (
        "For one person a call, onnxruntime with model.onnx is the fastest of 2 timed: 3.00 ms in "
        "the median, 7.90 ms at the 99th percentile."
    )
    assert verdict(result.rows[:1]).startswith("For 2 persons a call, ")
    assert verdict([replace(slow, timings=[])]) == (
        "Nothing gave all outputs here; the table says why."
    )


def test_the_plot(bundle: Bundle, tmp_path: Path) -> None:
    """Dots, no bars, over whole decades; a line from each median to its 99th percentile."""
    result = result_of(bundle, row(FUSED, (2.0, 2.5)), row(POSE, (1.5, 40.0)))
    drawn = figure(result)
    (axes,) = drawn.axes
    assert not axes.patches
    assert (axes.get_xscale(), axes.get_xlim()) == ("log", (1, 100))
    (tails,) = axes.collections
    assert isinstance(tails, LineCollection)
    expected = [[(20.75, 0), (39.615, 0)], [(2.25, 1), (2.495, 1)]]
    for segment, ends in zip(tails.get_segments(), expected, strict=True):
        assert segment == pytest.approx(np.array(ends))
    dots = next(line for line in axes.get_lines() if line.get_label() == "p50")
    assert dots.get_xdata() == pytest.approx([20.75, 2.25])
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == [f"onnxruntime model, batch 2{variant}" for variant in (f", {POSE}", "")]
    plot(result, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000
    assert figure(result_of(bundle)).axes[0].get_lines()  # nothing was timed: an empty chart


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "device is 'tpu'; expected cpu, cuda"),
        ({"batches": (0,)}, "expected at least 1 of each"),
        ({"batches": ()}, "expected at least 1 of each"),
        ({"threads": 0}, "expected at least 1 of each"),
        ({"seconds": 0.0}, "seconds is 0; expected above 0"),
        ({"seconds": float("nan")}, "seconds is nan; expected above 0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        BenchConfig(**options)


@pytest.mark.parametrize(
    ("parse", "line", "expected"),
    [
        # an Orin under JetPack 6
        (
            board.tegrastats,
            "RAM 3142/7620MB (lfb 4x4MB) CPU [12%@1510,8%@1510] GR3D_FREQ 61%@[918] cpu@49.5C "
            "VDD_IN 7543mW/7201mW VDD_CPU_GPU_CV 2100mW/2000mW",
            Reading(7.543, 918.0, 3142.0),
        ),
        # older: no unit, no brackets
        (board.tegrastats, "GR3D_FREQ 99%@1109 VDD_IN 5012/4800", Reading(5.012, 1109.0, None)),
        (board.tegrastats, "RAM 3142/7620MB", Reading(None, None, 3142.0)),
        (board.nvidia_smi, "71.27, 1980, 1043\n", Reading(71.27, 1980.0, 1043.0)),
        (board.nvidia_smi, "[N/A], 1980, 1043", Reading(None, 1980.0, 1043.0)),
        (board.nvidia_smi, "no devices were found", Reading(None, None, None)),
    ],
)
def test_what_a_board_tells(parse: board.Parser, line: str, expected: Reading) -> None:
    assert parse(line) == expected


def test_trtexec(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is asked and what is read of it; a script stands in for a tool that needs a GPU."""
    tool = tmp_path / "trtexec"
    tool.write_text(
        "#!/bin/sh\n"
        'case "$*" in *--help*) echo "  --fp16  Enable fp16"; exit;; esac\n'
        f'echo "$*" > {tmp_path}/asked\n'
        "for one; do case $one in --exportTimes=*) out=${one#*=};; esac; done\n"
        'echo \'[{"latencyMs": 0.5}, {"latencyMs": 0.25}]\' > $out\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert trtexec.find() == str(tool)
    asked = replace(CASE, engine="trtexec", file="model.fp16.onnx")
    assert trtexec.measure(str(tool), asked, bundle, 2.0).calls_ms == (0.5, 0.25)
    words = (tmp_path / "asked").read_text().split()
    size = bundle.manifest.crop.height
    assert {f"--shapes=image:2x{size}x{size}x3", "--duration=2", "--fp16"} <= set(words)
    tool.write_text("#!/bin/sh\necho '[E] Could not parse'\nexit 1\n")
    with pytest.raises(EngineError, match=r"trtexec failed: \[E\] Could not parse"):
        trtexec.measure(str(tool), asked, bundle, 2.0)


def test_the_machine() -> None:
    told = board.describe()
    assert int(told["cores"]) >= 1
    assert "onnxruntime" in told["packages"]
    assert all(told.values())


def test_power_is_read_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the tool that is there: a script in its place says what a Jetson's does."""
    tool = tmp_path / "tegrastats"
    said = tmp_path / "said"
    line = "VDD_IN 7000mW/1mW GR3D_FREQ 5%@[900]"
    tool.write_text(f"#!/bin/sh\necho '{line}'\n: > {said}\nexec sleep 60\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with board.watched() as readings:
        while not said.exists():
            os.sched_yield()
    assert readings == [Reading(7.0, 900.0, None)]
