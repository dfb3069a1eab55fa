"""Clients that are not ours, each in an environment of its own, against a real server."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misgiving.runtime.client import Client
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import encode_jpeg, encode_png
from misgiving.runtime.nouns import Answer, make_frame
from shared import tiny
from shared.collecting import eventually
from shared.serving import BLACK, Running, serving

HERE = Path(__file__).parent
TRITON = HERE.parents[1] / ".venv-clients" / "bin" / "python"
NODE = HERE / "node"
SPOTS = tiny.spots([7] * 14)
REGIONS = [Region(0, 0, 42, 56), Region(5, 6, 20, 30)]


def run(*command: str | Path, fed: bytes = b"") -> Any:
    done = subprocess.run(command, input=fed, capture_output=True, timeout=240)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def check(arrays: dict[str, Any], expected: Answer) -> None:
    persons = expected.persons
    for name in ("keypoints", "predicted_loss", "failure_probability", "signals"):
        said = np.array(arrays[name], np.float32)
        np.testing.assert_array_equal(said, np.array([getattr(p, name) for p in persons], "f4"))
    assert arrays["flagged"] == [person.flag.raised for person in persons]


@pytest.mark.skipif(not TRITON.exists(), reason="no Triton client; .ci/run installs it")
def test_triton_s_client(running: Running, tmp_path: Path) -> None:
    (png := tmp_path / "spots.png").write_bytes(encode_png(SPOTS))
    said = run(TRITON, HERE / "triton_client.py", running.address, png)
    spots = tiny.answered(make_frame(SPOTS, REGIONS))
    assert said["ready"] == [True, True, True]
    assert said["server"] == "misgiving"
    assert said["outputs"] == list(said["black"])
    assert said["id"] == "7"
    check(said["black"], tiny.answered(make_frame(BLACK)))
    check(said["spots"], spots)
    first, wrong, last = said["stream"]
    check(first, spots)
    check(last, spots)
    assert "model is 'resnet'; expected 'bright-spots'" in wrong


def person_of(message: dict[str, Any]) -> tuple[Any, ...]:
    points = [[one["xPx"], one["yPx"], one["confidence"]] for one in message["keypoints"]]
    scores = [message["predictedLoss"], message["failureProbability"], *message["signals"]]
    return points, scores, message["flag"]["raised"]


in_node = pytest.mark.skipif(
    not shutil.which("node") or not (NODE / "node_modules").exists(),
    reason="no Node client; .ci/run installs it",
)


@in_node
def test_a_client_in_node(running: Running, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    (jpeg := tmp_path / "noise.jpg").write_bytes(encode_jpeg(picture))
    said = run("node", NODE / "client.js", running.address, jpeg)
    with Client(running.address) as client:
        info = client.model()
        (person,) = client.infer(jpeg.read_bytes(), [Region(5, 6, 30, 40)]).persons
    expected = (
        person.keypoints.tolist(),
        [person.predicted_loss, person.failure_probability, *person.signals.tolist()],
        person.flag.raised,
    )
    assert said["model"]["bundleDigest"] == info.bundle_digest
    assert said["model"]["keypointNames"] == list(info.keypoint_names)
    *replies, last = said["replies"]
    results = [said["result"], *(reply["result"] for reply in replies)]
    assert [one["frameId"] for one in results] == ["runner", "0", "1", "2", "3", "4"]
    assert [person_of(one["persons"][0]) for one in results] == [expected] * 6
    assert last["summary"] == {"received": 5, "answered": 5, "dropped": 0, "failed": 0}


@in_node
def test_shared_memory_in_node() -> None:
    """As docs/wire.md says; Node maps no memory, and writes to the file."""
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    with serving(shared_bytes=2 * picture.nbytes) as server:
        said = run("node", NODE / "memory.js", server.address, "64", "48", fed=picture.tobytes())
        with Client(server.address) as client:
            (person,) = client.infer(picture).persons
        eventually(lambda: not server.server.servicer.shared._pieces)
    assert [one["frameId"] for one in said] == ["0", "1"]
    for one in said:
        points, scores, _ = person_of(one["persons"][0])
        assert points == person.keypoints.tolist()
        assert scores[0] == person.predicted_loss
