"""Does a batch survive the real Label Studio? Out, annotated through its API, back, and trained on.

Run: python benchmarks/round_trip.py BIN > benchmarks/round_trip_cpu_<yyyymm>.md
BIN is the folder with the command label-studio, of an environment of its own
(pip install label-studio==1.23.0). Five minutes on two cores, most of them its first start.
"""

import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from misgiving.collector import Store, export_annotations, read_corrected, write_labels
from misgiving.runtime.estimator import Estimator
from misgiving.runtime.images import encode_png
from misgiving.runtime.labelset import LabelSet
from misgiving.runtime.nouns import Decision, Frame, Reason
from misgiving.runtime.wire.collected import KeptFrame, to_message
from misgiving.trainer.data import PoseSet, Sample, open_data

COUNT = 24
PEOPLE = f"synthetic:19,{COUNT}"
CORRECTED, AGREED, SKIPPED = 12, 6, 3
"""Tasks that are submitted with other joints, submitted as they are, and skipped; nobody opens the
rest."""
PATIENCE_S = 600
TOKEN = "0123456789abcdef0123456789abcdef01234567"


def main() -> None:
    people = open_data(PEOPLE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        digests = collect(people, folder / "store")
        with Store(folder / "store", create=False) as store:
            export_annotations(store, folder / "batch", format="label-studio")
        with label_studio(Path(sys.argv[1]), folder) as server:
            annotated = annotate(server, folder / "batch", people, digests)
            exported = server.ask("GET", f"/api/projects/{annotated}/export?exportType=JSON")
        (folder / "batch" / "tasks.json").write_text(json.dumps(exported))
        corrected = read_corrected(folder / "batch")
        write_labels(corrected.labels, folder / "batch", folder / "labels")
        worst, visible = compare(corrected.labels, people, digests)
        said = (len(corrected.labels.persons), corrected.untouched, corrected.deleted)
        report(server.version, said, worst, visible, train(folder))


def collect(people: PoseSet, folder: Path) -> dict[str, int]:
    """Keep every frame; digests of the stored frames → places in the set."""
    estimator, digests = Estimator.load(), {}
    flag = Decision(True, Reason.PREDICTED_LOSS, 1.0, 1.0)
    with Store(folder) as store:
        for place in range(len(people)):
            image = encode_png(people[place].image)
            answer = estimator.infer(image)
            kept = KeptFrame(
                Frame(image=image, frame_id=str(place), stream_id=f"street-{place}"),
                tuple(person.flagged_as(flag) for person in answer.persons),
                estimator.bundle.digest,
                keypoint_names=people.keypoints.names,
                skeleton=people.keypoints.skeleton,
                device_id="car-7",
            )
            digests[store.put(to_message(kept).SerializeToString(deterministic=True))] = place
    return digests


class Server:
    """Label Studio's API."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.version = ""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self._address + path,
            json.dumps(body).encode() if body is not None else None,
            {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
                return json.loads(reply.read() or b"null")
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{method} {path}: {error.code} {error.read().decode()}") from error


@contextmanager
def label_studio(folder: Path, work: Path) -> Iterator[Server]:
    """The server with a new SQLite database, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(work / "data"),
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(work),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    command = [str(folder / "label-studio"), "start", "--no-browser", "--port", str(port)]
    command += ["--internal-host", "127.0.0.1", "--user-token", TOKEN]
    command += ["--username", "annotator@example.org", "--password", "who-looks-at-it"]
    with (work / "label-studio.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log)
    server = Server(f"http://127.0.0.1:{port}")
    try:
        until_it_answers(server, process, work / "label-studio.log")
        yield server
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def until_it_answers(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"label-studio has ended:\n{log.read_text()[-2000:]}")
        try:
            server.version = server.ask("GET", "/api/version")["release"]
        except OSError:
            time.sleep(1)
        else:
            return
    raise SystemExit(f"label-studio does not answer:\n{log.read_text()[-2000:]}")


def annotate(server: Server, batch: Path, people: PoseSet, digests: dict[str, int]) -> int:
    """Import the batch into a new project, and do the annotators' work; the project's id."""
    config = (batch / "labelling.xml").read_text()
    project = server.ask("POST", "/api/projects", {"title": "batch", "label_config": config})["id"]
    tasks = json.loads((batch / "tasks.json").read_text())
    server.ask("POST", f"/api/projects/{project}/import", tasks)
    listed = server.ask("GET", f"/api/tasks?project={project}&fields=all&page_size=1000")["tasks"]
    assert len(listed) == len(tasks) == len(people)
    for number, task in enumerate(listed[: CORRECTED + AGREED + SKIPPED]):
        results = task["predictions"][0]["result"]
        if number < CORRECTED:
            stem = Path(task["data"]["image"]).stem
            place = next(place for digest, place in digests.items() if digest.startswith(stem))
            results = corrected(results, people[place])
        cancelled = number >= CORRECTED + AGREED
        answer = {"result": results, "was_cancelled": cancelled}
        server.ask("POST", f"/api/tasks/{task['id']}/annotations", answer)
    return int(project)


def corrected(results: list[dict[str, Any]], sample: Sample) -> list[dict[str, Any]]:
    """With the joints where they are; every third is marked as hidden."""
    done = []
    joints = (one for one in results if one["type"] == "keypointlabels")
    for place, one in enumerate(joints):
        size = (one["original_width"], one["original_height"])
        x, y = (100 * p / side for p, side in zip(sample.points[place], size, strict=True))
        value = one["value"] | {"x": float(x), "y": float(y)}
        done.append(one | {"value": value})
        if place % 3 == 0:
            choice = {"x": value["x"], "y": value["y"], "choices": ["hidden"]}
            named = {"from_name": "visibility", "type": "choices"}
            done.append(one | named | {"value": choice})
    return [one for one in results if one["type"] == "rectanglelabels"] + done


def compare(labels: LabelSet, people: PoseSet, digests: dict[str, int]) -> tuple[float, int]:
    """Largest distance of a corrected joint from the truth, px; joints of wrong visibility."""
    worst, wrong, seen = 0.0, 0, 0
    for person in labels.persons:
        place = next(at for digest, at in digests.items() if digest[:16] == person.id[:16])
        if 1 not in person.visibility:  # submitted as it was
            continue
        seen += 1
        worst = max(worst, float(np.abs(np.array(person.points) - people[place].points).max()))
        wrong += sum(v != (1 if at % 3 == 0 else 2) for at, v in enumerate(person.visibility))
    assert seen == CORRECTED
    return worst, wrong


def train(folder: Path) -> str:
    """The last line of a training on the labels that came back."""
    command = [sys.executable, "-m", "misgiving", "train", "--recipe", "demo"]
    command += ["--data", f"labels:{folder / 'labels'}", "--val", "synthetic:5,8"]
    ended = subprocess.run(
        [*command, "--out", str(folder / "run")], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(ended.stderr)
    return ended.stdout.strip().splitlines()[-1].replace(str(folder), "…")


def report(
    version: str, said: tuple[int, int, int], worst: float, wrong: int, trained: str
) -> None:
    labels, untouched, deleted = said
    opened = CORRECTED + AGREED + SKIPPED
    print(
        f"""# A batch through the real Label Studio

`python benchmarks/round_trip.py BIN`, Label Studio {version} with SQLite, {PEOPLE}, \
{time.strftime("%Y-%m-%d")}, {platform.machine()}, {os.cpu_count()} cores.

| tasks | what annotators did | expected |
|---|---|---|
| {CORRECTED} | submitted with other joints, every third of them hidden | labels |
| {AGREED} | submitted as they were | labels |
| {SKIPPED} | skipped | left out |
| {COUNT - opened} | nothing | left out |

- {labels} labels came back, {untouched} persons were left out as untouched, {deleted} were deleted.
- Corrected joints are at most {worst:.4f} px from where they were put.
- {wrong} joints of {CORRECTED * 14} came back with another visibility.
- A training on the labels that came back ends with: `{trained}`"""
    )


if __name__ == "__main__":
    main()
