"""The demo's steps, one after another; any that falls short ends it with an error."""

import json
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misgiving.collector.store import Store
from misgiving.export.demo import outcome
from misgiving.export.demo.frames import Recording, correct_annotations, write_recording
from misgiving.export.demo.plan import DemoConfig, Split, split_pool
from misgiving.export.demo.processes import DemoError, run, service
from misgiving.export.demo.report import write_report
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.errors import DataError
from misgiving.trainer import progress
from misgiving.trainer.answers.scoring import Scores, score
from misgiving.trainer.checkpoint import Record, load_checkpoint, load_record
from misgiving.trainer.data import PoseSet, open_data
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.recipes import recipe_named
from misgiving.trainer.training import Compute

SUMMARY = "summary.json"
_ARRIVAL_S = 120.0


@dataclass(frozen=True, slots=True)
class _Folders:
    """Where each step writes."""

    out: Path

    @property
    def cycle(self) -> Path:
        return self.out / "cycle"

    @property
    def before(self) -> Path:
        return self.cycle / "seed-0" / "learned_loss" / "stage-2"

    @property
    def after(self) -> Path:
        return self.out / "after"

    @property
    def bundle(self) -> Path:
        return self.out / "bundle"

    @property
    def store(self) -> Path:
        return self.out / "collected"

    @property
    def annotations(self) -> Path:
        return self.out / "annotations"

    @property
    def labels(self) -> Path:
        return self.out / "labels"

    @property
    def replies(self) -> Path:
        return self.out / "replies.jsonl"

    def log(self, name: str) -> Path:
        return self.out / "logs" / f"{name}.log"


def run_demo(config: DemoConfig) -> dict[str, Any]:
    """Run the whole loop; gives what ``summary.json`` holds.

    Raises:
        MisgivingError: a step fell short.
    """
    started = time.monotonic()
    recipe_named(config.recipe)
    open_data(config.data)
    pool = open_data(config.pool)
    split = split_pool(config.pool, len(pool))
    folders = _fresh(config.out)
    _learn(config, split, len(pool), folders)
    streamed = open_data(split.stream)
    recording = write_recording(streamed, folders.out)
    digests = _drive(config, folders, recording)
    _label(folders, streamed, {digest: recording.position[f] for digest, f in digests.items()})
    _learn_on(config, split, folders)
    truth = _truth(config, folders, streamed)
    replies = outcome.read_replies(folders.replies, recording.position)
    summary = _summary(config, split, folders, replies, truth, len(digests))
    summary["seconds"] = round(time.monotonic() - started, 1)
    (folders.out / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    write_report(folders.out / "report.html", summary, replies, truth, streamed)
    return summary


def _fresh(out: Path) -> _Folders:
    """An empty folder; an earlier demo's is cleared, anybody else's is left alone."""
    marker = out / ".misgiving-demo"
    if out.is_file():
        raise DataError(f"{out} is a file; expected a folder to write. Give another --out")
    if out.exists() and any(out.iterdir()) and not marker.exists():
        raise DataError(f"{out} holds something other than a demo; give another folder with --out")
    shutil.rmtree(out, ignore_errors=True)
    (out / "logs").mkdir(parents=True)
    marker.touch()
    return _Folders(out)


def _threads(config: DemoConfig) -> list[str]:
    return ["--threads", str(config.threads)]


def _learn(config: DemoConfig, split: Split, pool_size: int, folders: _Folders) -> None:
    """Train, select once, train on; then export."""
    cycle = ["cycle", config.recipe, "--base", config.data, "--pool", split.candidates]
    cycle += ["--test", split.test, "--method", "learned_loss", "--stages", "2", "--repeats", "1"]
    cycle += ["--budget", str(max(16, pool_size // 20)), "--seed", "0"]
    cycle += ["--out", str(folders.cycle)]
    cycle += _threads(config)
    run(cycle, folders.log("cycle"))
    export = ["export", str(folders.before), "--out", str(folders.bundle)]
    export += ["--val", split.validation, "--flag-rate", f"{config.flag_rate:g}"]
    run([*export, "--name", "demo", *_threads(config)], folders.log("export"))


def _drive(config: DemoConfig, folders: _Folders, recording: Recording) -> dict[str, str]:
    """Stream the recording through runtime and collector; gives digest → frame name."""
    collect = ["collect", "--listen", "127.0.0.1:0", "--store", str(folders.store)]
    with service(collect, folders.log("collect")) as collector:
        serve = ["serve", "--bundle", str(folders.bundle), "--listen", "127.0.0.1:0"]
        serve += ["--spool", str(folders.out / "spool"), "--collector", collector]
        serve += ["--threshold", f"flag_rate={config.flag_rate:g}"]
        serve += ["--audit-rate", f"{config.audit_rate:g}", "--device-id", "demo"]
        with service(serve, folders.log("serve")) as server:
            stream = ["stream", str(recording.folder), "--server", server]
            stream += ["--regions", str(recording.regions), "--json", str(folders.replies)]
            run(stream, folders.log("stream"))
            replies = outcome.read_replies(folders.replies, recording.position)
            names = list(recording.position)
            expected = {names[i] for i in replies.collected.nonzero()[0]}
            digests = _arrived(folders.store, expected)
    return digests


def _arrived(folder: Path, expected: set[str]) -> dict[str, str]:
    """Wait until every flagged frame is at the collector; gives digest → frame name."""
    if not expected:
        raise DemoError("no frame was flagged; expected some. Raise the flag rate")
    store = Store(folder, create=False)
    try:
        _wait_until(lambda: store.count() >= len(expected))
        rows = {row.digest: row.frame_id for row, _ in store.frames()}
    finally:
        store.close()
    if set(rows.values()) != expected or len(rows) != len(expected):
        raise DemoError(f"{len(rows)} frames were collected; expected the {len(expected)} flagged")
    return rows


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _ARRIVAL_S
    while not condition():
        if time.monotonic() > deadline:
            raise DemoError(f"not every flagged frame was collected within {_ARRIVAL_S:g} s")
        time.sleep(0.1)


def _label(folders: _Folders, streamed: PoseSet, position: dict[str, int]) -> None:
    """Export the annotations, correct them, import them."""
    export = ["annotations", "export", "--store", str(folders.store)]
    export += ["--out", str(folders.annotations), "--format", "coco"]
    run(export, folders.log("annotations-export"))
    count = correct_annotations(folders.annotations, streamed, position)
    print(f"# {count} persons corrected: the data's own labels stand in for the annotators")
    imported = ["annotations", "import", str(folders.annotations), "--out", str(folders.labels)]
    run(imported, folders.log("annotations-import"))


def _learn_on(config: DemoConfig, split: Split, folders: _Folders) -> None:
    train = ["train", "--data", config.data, "--data", f"labels:{folders.labels}"]
    train += ["--val", split.test, "--recipe", config.recipe, "--init", str(folders.before)]
    run([*train, "--out", str(folders.after), *_threads(config)], folders.log("train"))


def _truth(config: DemoConfig, folders: _Folders, streamed: PoseSet) -> Scores:
    """What the trainer says of the streamed persons, with their true losses."""
    network, recipe, _ = load_checkpoint(folders.before)
    counted = progress.counted(len(streamed), "scoring what was streamed")
    device = Compute(device="cpu", threads=config.threads).prepare()
    return score(network, recipe, streamed, device, counted)


def _summary(
    config: DemoConfig,
    split: Split,
    folders: _Folders,
    replies: outcome.Replies,
    truth: Scores,
    collected: int,
) -> dict[str, Any]:
    head = next(iter(truth.predicted_losses))
    before, after = (load_record(path) for path in (folders.before, folders.after))
    return {
        "data": _data(config, split),
        "recipe": config.recipe,
        "head": head,
        "machine": f"{platform.machine()}, {platform.python_implementation()} "
        f"{platform.python_version()}",
        "bundle_digest": Bundle.load(folders.bundle).digest,
        "picks": outcome.pick_table(replies, truth),
        "counts": {
            "sent": len(replies.predicted_loss),
            "flagged": int(replies.flagged.sum()),
            "audited": int((replies.collected & ~replies.flagged).sum()),
            "collected": collected,
            "dropped": replies.dropped,
        },
        "latency": outcome.latency(replies),
        "vehicle_against_trainer_sd": outcome.check_agreement(replies, truth, head),
        "before": _of_record(before),
        "after": _of_record(after),
    }


def _data(config: DemoConfig, split: Split) -> dict[str, str]:
    specs = {"base": config.data, **{name: getattr(split, name) for name in Split.__slots__}}
    return {name: without_folders(spec) for name, spec in specs.items()}


def _of_record(record: Record) -> dict[str, Any]:
    data = without_folders(record.validation_data)
    return {"labels": record.label_count, "data": data, **record.metrics}


def summary_table(summary: dict[str, Any]) -> str:
    """The summary for people."""
    picks, counts, timing = summary["picks"], summary["counts"], summary["latency"]
    before, after = summary["before"], summary["after"]
    return "\n".join(
        [
            f"PCK@0.2 of {picks['picked']} of {picks['frames_with_torso']} frames, picked by"
            "  (lower finds more failures)",
            f"  predicted loss (flagged)  {picks['pck_flagged']:.3f}",
            f"  mean heatmap peak         {picks['pck_mean_peak']:.3f}",
            f"  random                    {picks['pck_random']:.3f}",
            f"  truth (oracle)            {picks['pck_oracle']:.3f}",
            f"frames: {counts['sent']} sent, {counts['flagged']} flagged, "
            f"{counts['audited']} audited, {counts['collected']} collected, "
            f"{counts['dropped']} dropped",
            f"round trip: p50 {timing['p50_ms']:.1f} ms, p99 {timing['p99_ms']:.1f} ms",
            f"test PCK@0.2: {before['pck']:.3f} before, {after['pck']:.3f} after training on "
            "what was collected",
        ]
    )
