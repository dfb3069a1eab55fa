"""The whole loop with real processes: the collector is killed in the middle and started again."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from misgiving.collector.store import Store
from misgiving.export.demo.frames import Recording, correct_annotations, write_recording
from misgiving.export.demo.processes import run
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.labelset import read_labels
from misgiving.trainer.answers.asking import ask
from misgiving.trainer.config import HeadConfig, ModelConfig, to_json
from misgiving.trainer.data import PoseSet, open_data, subset
from misgiving.trainer.net_config import HourglassConfig
from misgiving.trainer.recipes import RECIPES
from shared import tiny
from shared.ports import unused_port

FRAMES = 24
DEADLINE_S = 60.0
TELLING = """
from misgiving.collector.frames.arrivals import Arrivals
from misgiving.runtime.verbs import command

took = Arrivals.took
def told(*said):
    took(*said)
    print("stored", flush=True)
Arrivals.took = told
command.main()
"""
"""The command, whose collector says on stdout what it has stored."""


def _data() -> PoseSet:
    """Real people, where there are any."""
    if root := os.environ.get("MISGIVING_DATA"):
        return open_data(f"lsp:{root}/lsp#1001-{1000 + FRAMES}")
    return open_data(f"synthetic:5,{FRAMES}")


@contextmanager
def _service(*arguments: object) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A service and its HOST:PORT; killed at the end where the test has not ended it."""
    program = ["-c", TELLING] if arguments[0] == "collect" else ["-m", "misgiving"]
    command = [sys.executable, *program, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if match := re.search(r" on (\S+:\d+) ", line):
                    break
            else:
                pytest.fail(f"{arguments[0]} did not become ready")
            yield process, match[1]
        finally:
            process.kill()


def _wait_until_stored(collector: "subprocess.Popen[str]", count: int) -> None:
    """Wait until a collector has stored so many frames more."""
    assert collector.stdout is not None
    assert [collector.stdout.readline() for _ in range(count)] == ["stored\n"] * count


def _ended(process: "subprocess.Popen[str]") -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(DEADLINE_S)


@pytest.mark.slow
def test_the_loop_closes_and_loses_nothing(tmp_path: Path) -> None:
    data = _data()
    first = write_recording(subset(data, range(FRAMES // 2)), tmp_path / "first")
    second = write_recording(subset(data, range(FRAMES // 2, FRAMES)), tmp_path / "second")
    _drive(tmp_path, first, second)
    labels = _label(tmp_path, data)
    _check_said_again(labels)
    _train_and_infer(tmp_path, labels, next(first.folder.iterdir()))


def _drive(folder: Path, first: Recording, second: Recording) -> None:
    """Stream both recordings; the collector dies between them and comes back at the end."""
    store, spool = folder / "store", folder / "spool"
    serve = ["serve", "--bundle", tiny.BUNDLE, "--listen", "127.0.0.1:0", "--threshold", "0"]
    collector = f"127.0.0.1:{unused_port()}"
    with _service("collect", "--listen", collector, "--store", store) as (victim, _):
        serve += ["--spool", spool, "--collector", collector]
        with _service(*serve) as (server, address):
            _stream(first, address, folder)
            _wait_until_stored(victim, 1)
            victim.kill()
            victim.wait()
            _stream(second, address, folder)  # inference does not wait for a collector
            assert _ended(server) == 0
        with Store(store, create=False) as stopped:
            left = FRAMES - stopped.count()
        with (
            _service("collect", "--listen", collector, "--store", store) as (again, _),
            _service(*serve) as (server, _),
        ):
            _wait_until_stored(again, left)
            assert _ended(server) == 0
            assert _ended(again) == 0
    with Store(store, create=False) as kept:
        names = sorted(row.frame_id for row, _ in kept.frames())
    # Both recordings number their frames alike: every id arrives twice, no more.
    assert names == sorted([*first.position, *second.position])


def _stream(recording: Recording, address: str, folder: Path) -> None:
    arguments = ["stream", str(recording.folder), "--server", address]
    arguments += ["--regions", str(recording.regions)]
    count = len(recording.position)
    said = run(arguments, folder / "stream.log").splitlines()
    assert said[0] == f"frames: {count} sent, {count} answered, 0 failed, 0 dropped"
    kept = f"audited: 0; of these {count} queued for collection, 0 lost"
    assert said[1] == f"flagged: {count}, {kept}"


def _label(folder: Path, data: PoseSet) -> Path:
    """Export, correct with the data's own labels, import."""
    annotations, labels = folder / "annotations", folder / "labels"
    export = ["annotations", "export", "--store", str(folder / "store"), "--out", str(annotations)]
    run(export, folder / "export.log")
    by_points = _positions(annotations, data)
    assert correct_annotations(annotations, data, by_points) == FRAMES
    imported = ["annotations", "import", str(annotations), "--out", str(labels)]
    run(imported, folder / "import.log")
    return labels


def _check_said_again(labels: Path) -> None:
    """The bundle says of the labelled persons what it said in the vehicle: on the same crops."""
    said = [person.predicted_loss for person in read_labels(labels).persons]
    assert len(said) == FRAMES
    data = open_data(f"labels:{labels}")
    again = [
        a.predicted_loss for a in ask(Estimator.load(tiny.BUNDLE), map(data.read, range(FRAMES)))
    ]
    np.testing.assert_allclose(np.concatenate(again), said, rtol=1e-5)


def _positions(annotations: Path, data: PoseSet) -> dict[str, int]:
    """Digest → position, recognised by the person's box (frame ids stand twice)."""
    document = json.loads((annotations / "annotations.json").read_bytes())
    boxes = {round(data[i].region.x, 2): i for i in range(len(data))}
    assert len(boxes) == len(data)
    return {
        one["misgiving"]["frame_digest"]: boxes[round(one["bbox"][0], 2)]
        for one in document["annotations"]
    }


def _train_and_infer(folder: Path, labels: Path, image: Path) -> None:
    """What was collected trains a network, and its bundle answers."""
    # A head that has learned nothing answers all alike, and its spread drowns in rounding.
    head = HeadConfig(kind="gap", objective="margin")
    net = HourglassConfig(stacks=1, channels=8, depth=2, stride=2)
    model = ModelConfig(input_size=32, net=net, heads=(head,))
    recipe = replace(RECIPES["demo"], name="tiny", model=model)
    path = folder / "recipe.json"
    path.write_text(to_json(recipe), encoding="utf-8")
    train = ["train", "--data", f"labels:{labels}", "--val", "synthetic:9,32", "--epochs", "40"]
    checkpoint, bundle = folder / "checkpoint", folder / "bundle"
    train += ["--recipe", str(path), "--out", str(checkpoint), "--threads", "1"]
    run(train, folder / "train.log")
    export = ["export", str(checkpoint), "--out", str(bundle), "--val", "synthetic:9,256"]
    run([*export, "--threads", "1"], folder / "export.log")
    said = run(["infer", str(image), "--bundle", str(bundle), "--json"], folder / "infer.log")
    (person,) = json.loads(said)["persons"]
    assert len(person["keypoints"]) == tiny.JOINTS
