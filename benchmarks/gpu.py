"""What a GPU does with our bundles: agreement, time, serving, TensorRT, training. One command.

Run: python benchmarks/gpu.py OUT [--bundle DIR ...] > benchmarks/gpu_<name>_<yyyymm>.md
Beside the bundle that ships, each --bundle is measured too, an attached one for example. OUT takes
the plans, logs and all single calls. Nine minutes at most: what no time is left for says so.
`--device cpu --seconds 0.1` tries the script itself on a machine without a GPU.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from misgiving.export.bench import board
from misgiving.export.bench.page import page
from misgiving.export.bench.run import BenchConfig, bench
from misgiving.runtime import Client
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.engines.base import Engine, Prediction, joined
from misgiving.runtime.engines.building import PRECISIONS, Workshop, usual_profile
from misgiving.runtime.engines.cache import CACHE_VARIABLE
from misgiving.runtime.engines.loading import ModelOptions, load
from misgiving.runtime.engines.self_check import sample_drift
from misgiving.runtime.geometry import Region, cut, window_of
from misgiving.runtime.images import encode_jpeg
from misgiving.runtime.nouns import Answer, make_frame
from misgiving.trainer.data.synthetic import open_synthetic

LIMIT_S = 520.0
PEOPLE = 64
BATCHES = 1, 8
WARM = 5
FRAMES = 100
SIDE_PX = 720
SWITCH_S = 240.0
"""How long a plan may take to be built while ONNX Runtime answers."""
RECIPES = "demo", "edge", "lite", "paper"
HERE = Path(__file__).parent

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Asked:
    """What is measured, and where."""

    out: Path
    device: str
    bundles: tuple[Path, ...]
    seconds: float


def main() -> None:
    """Print the page line by line: a run that is stopped has printed what it knows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--bundle", action="append", type=Path, default=[])
    parser.add_argument("--seconds", type=float, default=0.5, help="of each row and round")
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    os.environ[CACHE_VARIABLE] = str((given.out / "plans").absolute())
    asked = Asked(given.out, given.device, (DEFAULT_BUNDLE, *given.bundle), given.seconds)
    began = time.monotonic()
    signal.signal(signal.SIGALRM, _time_is_up)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    print(f"# On {machine()}\n\n`python benchmarks/gpu.py {' '.join(sys.argv[1:])}`, ", end="")
    print(f"{time.strftime('%Y-%m-%d')}.", flush=True)
    for title, part in parts(asked):
        left = LIMIT_S - (time.monotonic() - began)
        print(f"\n## {title}\n", flush=True)
        tell(part) if left > 0 else print("Not run: no time was left.")
    print(f"\n{time.monotonic() - began:.0f} s in all.")


class TimeIsUp(BaseException):
    """Ends the part that runs, whatever that catches: none may cost the page its end."""


def _time_is_up(number: int, frame: object) -> None:
    raise TimeIsUp(f"{LIMIT_S:.0f} s are over")


def parts(asked: Asked) -> Iterator[tuple[str, Callable[[], Iterator[str]]]]:
    """Title and lines of each part, what matters most first."""
    for path in asked.bundles:
        name = Bundle.load(path).manifest.name
        yield f"{name}: do engines agree, and how fast are they?", partial(engines, path, asked)
        yield f"{name}: a server", partial(serving, path, asked)
        yield f"{name}: TensorRT, built while it serves", partial(switching, path, asked)
    yield "Training: images a second", partial(training, asked)
    yield "Training by torchrun", partial(launched, asked)
    yield "Beside the pose alone, and other ways", partial(beside, asked)


def tell(part: Callable[[], Iterator[str]]) -> None:
    """Print a part's lines as they come; where it fails, why, so that the next one has its turn."""
    try:
        for line in part():
            print(line, flush=True)
    except (Exception, TimeIsUp) as error:
        print(f"Not run to its end: {type(error).__name__}: {error}", flush=True)


def machine() -> str:
    """The board, and its GPU."""
    return ", ".join(f"{key} {value}" for key, value in board.describe().items())


def engines(path: Path, asked: Asked) -> Iterator[str]:
    """Each engine and precision against fp32 on the CPU."""
    bundle = Bundle.load(path)
    crops = people(bundle)
    expected = _all(load(ModelOptions(bundle=path, threads=1))[1], crops)
    sizes = [size for size in BATCHES if size <= bundle.manifest.max_batch]
    yield f"{PEOPLE} rendered people; the reference is ONNX Runtime, fp32, on the CPU. Built and"
    yield "loaded from an empty cache of plans."
    yield ""
    times = [f"batch {size}: p50 ms | p99" for size in sizes]
    head = ["engine that answered", "keypoints, median px", "predicted_loss, deviations", "load s"]
    yield f"| {' | '.join([*head, *times])} |"
    yield "|---" * (len(head) + 2 * len(sizes)) + "|"
    for device, precision in _ways(bundle, asked.device):
        began = time.monotonic()
        try:
            options = ModelOptions(bundle=path, device=device, precision=precision, threads=1)
            engine = load(options)[1]
            took = time.monotonic() - began
            moved, drift = sample_drift(_all(engine, crops), _recorded(expected))
            cells = [f"{moved:.4f}", f"{drift:.4f}", f"{took:.1f}"]
            cells += [_timed(engine, crops[:size], asked.seconds) for size in sizes]
            yield f"| {engine.provider} | {' | '.join(cells)} |"
        except Exception as error:
            yield f"| {device} {precision} | {type(error).__name__}: {error} |"


def _timed(engine: Engine, crops: Images, seconds: float) -> str:
    calls: list[float] = []
    for _ in range(WARM):
        engine.infer(crops)
    until = time.perf_counter() + 4 * seconds
    while (began := time.perf_counter()) < until or len(calls) < WARM:
        engine.infer(crops)
        calls.append(time.perf_counter() - began)
    p50, p99 = np.percentile(calls, [50, 99]) * 1e3
    return f"{p50:.2f} | {p99:.2f}"


def _ways(bundle: Bundle, device: str) -> Iterator[tuple[str, str]]:
    precisions = ["fp32", *(one for one in ("fp16", "int8") if has(bundle, one))]
    yield from ((device, one) for one in precisions)
    if device == "cuda":
        yield from (("tensorrt", one) for one in PRECISIONS if one == "fp32" or has(bundle, one))


def has(bundle: Bundle, precision: str) -> bool:
    """Whether the bundle has a graph of this precision."""
    return f"model.{precision}.onnx" in bundle.manifest.files


def people(bundle: Bundle) -> Images:
    """Crops (B, H, W, 3) of rendered people."""
    rule, crops = bundle.manifest.crop, []
    for sample in map(open_synthetic(1, PEOPLE).read, range(PEOPLE)):
        box = Region.around(sample.points)
        height, width = sample.image.shape[:2]
        window = window_of(box, height, width, rule)
        crops.append(cut(sample.image, window, rule.height, rule.width))
    return np.stack(crops)


def _all(engine: Engine, crops: Images) -> Prediction:
    size = engine.max_batch
    return joined([engine.infer(crops[at : at + size]) for at in range(0, len(crops), size)])


def _recorded(said: Prediction) -> dict[str, NDArray[np.float32]]:
    return {"keypoints": said.keypoints, "predicted_loss": said.predicted_loss}


def serving(path: Path, asked: Asked) -> Iterator[str]:
    """Frames through ``misgiving serve``: one stream, then eight."""
    yield f"`misgiving serve --device {asked.device}`, {SIDE_PX} px JPEG frames with a region each,"
    yield "in order, from a client on the same machine."
    yield ""
    yield "| streams | frames/s | p50 ms | p99 ms of a frame, from receipt to its answer |"
    yield "|---|---|---|---|"
    with _server(path, asked, asked.device) as (address, _):
        list(_streamed(address))
        for streams in (1, 8):
            began = time.monotonic()
            with ThreadPoolExecutor(streams) as pool:
                every = list(pool.map(lambda _: _streamed(address), range(streams)))
            rate = streams * FRAMES / (time.monotonic() - began)
            taken = [one.queue_nano + one.inference_nano for own in every for one in own]
            p50, p99 = np.percentile(taken, [50, 99]) / 1e6
            yield f"| {streams} | {rate:.0f} | {p50:.2f} | {p99:.2f} |"


def _streamed(address: str) -> list[Answer]:
    sample = open_synthetic(2, 1)[0]
    jpeg = encode_jpeg(np.asarray(cv2.resize(sample.image, (SIDE_PX, SIDE_PX)), np.uint8))
    box = Region(0, 0, SIDE_PX, SIDE_PX)
    frames = (make_frame(jpeg, [box], str(number)) for number in range(FRAMES))
    with Client(address) as client:
        return [one for one in client.stream(frames) if isinstance(one, Answer)]


def switching(path: Path, asked: Asked) -> Iterator[str]:
    """``serve --device tensorrt`` answers at once, switches to its plan, and starts from it then.

    A plan whose bytes are damaged is not taken.
    """
    if asked.device == "cpu":
        yield "Not run: needs a GPU."
        return
    began = time.monotonic()
    with _server(path, asked, "tensorrt", clean=True) as (address, log):
        yield f"- first answer after {_first_answer(address, began):.1f} s"
        while "answers now" not in log.read_text() and time.monotonic() - began < SWITCH_S:
            time.sleep(0.5)
        yield f"- after {time.monotonic() - began:.1f} s: {_engine(address)}"
    began = time.monotonic()
    with _server(path, asked, "tensorrt") as (address, _):
        yield f"- started again, {_first_answer(address, began):.1f} s to the first answer: "
        yield f"  {_engine(address)}"
    plan = Workshop(Bundle.load(path)).build(usual_profile(Bundle.load(path)), print).path
    plan.write_bytes(plan.read_bytes()[:-1] + b"x")
    with _server(path, asked, "tensorrt") as (address, log):
        _first_answer(address, time.monotonic())
        yield f"- with a damaged plan: {_engine(address)}; the log says: "
        yield f"  `{log.read_text().strip().splitlines()[0]}`"


def _first_answer(address: str, began: float) -> float:
    with Client(address) as client:
        client.infer(np.zeros((64, 64, 3), np.uint8))
    return time.monotonic() - began


def _engine(address: str) -> str:
    with Client(address) as client:
        return client.model().engine


@contextmanager
def _server(
    path: Path, asked: Asked, device: str, clean: bool = False
) -> Iterator[tuple[str, Path]]:
    """Address and log of a server that is ready."""
    if clean:
        shutil.rmtree(os.environ[CACHE_VARIABLE], ignore_errors=True)
    log = asked.out / f"serve-{device}-{time.monotonic_ns()}.log"
    told = ["--bundle", str(path), "--device", device, "--listen", "127.0.0.1:0"]
    with log.open("w") as lines:
        command = [sys.executable, "-m", "misgiving", "serve", *told]
        process = subprocess.Popen(command, stderr=lines)
    try:
        yield _address(process, log), log
    finally:
        process.terminate()
        process.wait(30)


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    while not (found := re.search(r"serving .* on (\S+) with", log.read_text())):
        if process.poll() is not None:
            raise RuntimeError(log.read_text().strip().splitlines()[-1])
        time.sleep(0.02)
    return found[1]


def beside(asked: Asked) -> Iterator[str]:
    """What ``misgiving bench`` says of the bundle that ships; last, because it takes longest."""
    config = BenchConfig(device=asked.device, seconds=asked.seconds)
    bundle = Bundle.load(asked.bundles[0])
    result = bench(bundle, config, lambda line: print(line, file=sys.stderr, flush=True))
    (asked.out / "bench.json").write_text(result.to_json())
    yield from (line for line in page(result) if not line.startswith("# "))


def training(asked: Asked) -> Iterator[str]:
    """What ``training_speed.py`` says."""
    recipes = RECIPES if asked.device == "cuda" else RECIPES[:1]
    told = [word for recipe in recipes for word in ("--recipe", recipe)]
    script = str(HERE / "training_speed.py")
    yield from _printed([sys.executable, script, "--device", asked.device, *told])


def launched(asked: Asked) -> Iterator[str]:
    """A training by torchrun on all GPUs, or by two processes on the CPU."""
    count = torch.cuda.device_count() if asked.device == "cuda" else 2
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}"]
    sets = ["--data", "synthetic:1,256", "--val", "synthetic:2,64", "--epochs", "2"]
    out = ["--recipe", "demo", "--device", asked.device, "--out", str(asked.out / "ddp")]
    yield f"{count} processes:"
    yield "```text"
    yield from _printed([*torchrun, "-m", "misgiving", "train", *sets, *out])[-16:]
    yield "```"


def _printed(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout.splitlines()


if __name__ == "__main__":
    main()
