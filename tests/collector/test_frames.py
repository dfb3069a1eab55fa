"""The verbs ``frames`` on a real store, as somebody types them."""

import hashlib
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import sqlalchemy as sa

from misgiving.collector.control.control import Control
from misgiving.collector.control.releases import Releases
from misgiving.collector.store import Store
from misgiving.collector.store.tables import RELEASES
from misgiving.runtime import images
from misgiving.runtime.verbs import command
from misgiving.runtime.wire.reports import CampaignState
from misgiving.v1.fleet_pb2 import CollectedFrame
from misgiving.v1.pose_pb2 import KeepReason
from shared.annotating import stored
from shared.collecting import AUDIT_RATE, collected, files_below, person, serialise
from shared.reporting import report
from shared.rows import exported, labelled, mark


def frame(name: str, device: str, loss: float = 2.0, picture: bytes = b"") -> CollectedFrame:
    made = collected(name, persons=[person(0, loss=loss)], image=picture)
    made.device_id = device
    if loss < 1:
        flag = made.persons[0].flag
        flag.kept, flag.sampling_probability = KeepReason.KEEP_REASON_AUDIT, AUDIT_RATE
    return made


FIRST = frame("first", "car-7")
FRAMES = {
    "first": FIRST,
    "audited": frame("audited", "car-8", loss=0.25),
    "worst": frame("worst", "car-8", loss=3.0),
    "again": frame("again", "car-7", picture=FIRST.frame.image.encoded),
}
DIGESTS = {name: hashlib.sha256(serialise(one)).hexdigest() for name, one in FRAMES.items()}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """In the folder ``store`` of the working directory."""
    monkeypatch.chdir(tmp_path)
    with stored(tmp_path / "store", *FRAMES.values()) as store:
        yield store


def ask(capsys: pytest.CaptureFixture[str], words: str, code: int = 0) -> list[str]:
    """What ``misgiving frames WORDS`` prints."""
    verb, *rest = words.split()
    assert command.run(["frames", verb, "--store", "store", *rest]) == code
    return capsys.readouterr().out.splitlines()


def names(lines: list[str]) -> list[str]:
    return [json.loads(line)["frame_id"] for line in lines]


def test_list(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert names(ask(capsys, "list --json")) == ["again", "worst", "audited", "first"]
    worst = ask(capsys, "list --order worst --device car-8 --json")
    assert names(worst) == ["worst", "audited"]
    assert names(ask(capsys, "list --score 2.5- --reason predicted_loss --json")) == ["worst"]
    assert names(ask(capsys, "list --since 1h --until 2000-01-01 --json")) == []
    record = json.loads(worst[1])
    assert record["digest"] == DIGESTS["audited"]
    assert (record["device_id"], record["reason"], record["flagged"]) == ("car-8", "audit", False)
    assert record["sampling_probability"] == pytest.approx(AUDIT_RATE)
    assert record["captured"] == "1970-01-01T00:00:00Z"
    assert record["stage"] == "collected"


def test_list_for_people(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["frames", "list", "--store", "store", "--limit", "3"]) == 0
    said = capsys.readouterr()
    heading, *lines = said.out.splitlines()
    assert heading.split() == [
        *("DIGEST", "ARRIVED", "DEVICE", "STREAM", "REASON", "LOSS", "P(FAIL)", "STANDS")
    ]
    assert [line.split()[0] for line in lines] == [
        DIGESTS[name][:12] for name in ("again", "worst", "audited")
    ]
    assert lines[0].endswith(f"collected, picture of {DIGESTS['first'][:12]}")
    assert said.err == "1 more; --limit 0 shows all\n"
    assert command.run(["frames", "list", "--store", "store", "--device", "bus"]) == 0
    assert capsys.readouterr() == ("", "no frame fits\n")


def test_a_name_cannot_begin_a_line(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.put(serialise(frame("evil", "car\n9\x1b[31m" + "x" * 100)))
    lines = ask(capsys, "list")
    assert len(lines) == 6
    assert "\x1b" not in "".join(lines)
    assert "car\\n9\\x1b[31m" in lines[1]
    assert max(map(len, lines)) < 160


def test_show(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    digest = DIGESTS["audited"]
    with store.database.connect() as connection:
        mark(connection, digest, "ignore", 10**18)
        mark(connection, digest, "label", 10**18 + 1)
        exported(connection, digest, "batch-7")
        labelled(connection, digest, "abc123")
    said = "\n".join(ask(capsys, f"show {digest[:9]}"))
    for part in (digest, "front/audited", "car-8", "audit", "0.01", "batch-7", "abc123"):
        assert part in said
    assert "labelled, marked label" in said
    assert "predicted loss 0.250, audit; 45 x 46 px at (0, 1)" in said
    assert said.index("marked ignore by ann") < said.index("marked label by ann")
    record = json.loads(ask(capsys, f"show {digest} --json")[0])
    assert record["persons"][0]["kept"] == "audit"
    assert len(record["persons"][0]["keypoints"]) == 14
    assert [one["mark"] for one in record["marks"]] == ["ignore", "label"]


def test_show_writes_the_picture(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    digest = DIGESTS["first"]
    ask(capsys, f"show {digest} --image drawn.png")
    ask(capsys, f"show {digest} --image plain.png --plain")
    assert Path("plain.png").read_bytes() == FIRST.frame.image.encoded
    drawn, plain = images.read(Path("drawn.png")), images.read(Path("plain.png"))
    assert (plain.shape, drawn.shape) == ((60, 120, 3), (240, 480, 3))  # enlarged, as by --draw
    red = (drawn == (214, 40, 50)).all(axis=-1)
    assert red[8:190, :3].mean() > 0.3  # the left side of the box, which is flagged
    small = cv2.resize(drawn, (120, 60), interpolation=cv2.INTER_AREA)
    assert abs(small[50:, 60:].astype(int) - plain[50:, 60:]).mean() < 30
    before = Path("drawn.png").read_bytes()
    ask(capsys, f"show {digest} --image drawn.png", code=2)
    assert Path("drawn.png").read_bytes() == before


def test_export(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = ask(capsys, "export --out out")
    assert line.startswith("out: 3 frames, ")
    assert line.endswith("; 1 repeated pictures left out; 0 frames unreadable")
    records = [json.loads(line) for line in Path("out/frames.jsonl").read_text().splitlines()]
    assert [one["frame_id"] for one in records] == ["again", "worst", "audited"]
    for one in records:
        picture = Path("out", one["image"]).read_bytes()
        assert picture == FRAMES[one["frame_id"]].frame.image.encoded
        assert len(one["persons"]) == 1
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd="out", capture_output=True
    )
    assert checked.returncode == 0
    assert checked.stdout.count(b": OK") == 4
    ask(capsys, "export --out all --repeats")
    assert len(files_below(Path("all/images"))) == 4
    ask(capsys, "export --out one --order worst --limit 1")
    assert files_below(Path("one/images")) == [f"{DIGESTS['worst'][:16]}.png"]


def test_a_damaged_object_is_left_out(
    store: Store, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = store.folder / "objects" / DIGESTS["worst"][:2] / DIGESTS["worst"]
    path.write_bytes(b"junk")
    (line,) = ask(capsys, "export --out out")
    assert line.startswith("out: 2 frames, ")
    assert line.endswith("1 frames unreadable")
    assert DIGESTS["worst"][:12] in caplog.text
    ask(capsys, "export --out none --device car-8 --score 2.5-", code=2)
    assert not Path("none").exists()


def test_status(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with store.database.connect() as connection:
        mark(connection, DIGESTS["audited"], "label")
        exported(connection, DIGESTS["audited"])
        exported(connection, DIGESTS["worst"])
        labelled(connection, DIGESTS["worst"])
        mark(connection, DIGESTS["first"], "ignore")
        connection.exec_driver_sql("INSERT INTO batches VALUES ('batch-1', 1000000000, 'coco')")
    lines = ask(capsys, "status")
    assert [line.split() for line in lines] == [
        ["DEVICE", "CAMPAIGN", "FRAMES", "COLLECTED", "REVIEWED", "EXPORTED", "LABELLED"],
        ["car-7", "-", "2", "1", "1", "0", "0"],
        ["car-8", "-", "2", "0", "0", "1", "1"],
        ["all", "-", "4", "1", "1", "1", "1"],
        ["export", "batch-1,", "coco,", "1970-01-01T00:00:01Z:", "2", "frames,", "1", "labelled"],
    ]
    (of_device,) = map(json.loads, ask(capsys, "status --json --device car-8"))
    assert (of_device["frames"], of_device["labelled"]) == (2, 1)


def bytes_below(folder: Path) -> bytes:
    return b"".join((folder / name).read_bytes() for name in files_below(folder))


def test_erase_leaves_nothing(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with store.database.connect() as connection:
        mark(connection, DIGESTS["worst"], "confirmed")
        mark(connection, DIGESTS["first"], "label")
        for device in ("car-8", "car-7"):
            connection.exec_driver_sql(
                "INSERT INTO declined VALUES "
                f"('{device}', '{device}', 'rear', 'f9', '', 0.5, 'same_picture', 1)"
            )
    store.append("a" * 64, 0, b"half of something")
    assert b"car-8" in bytes_below(store.folder)
    (line,) = ask(capsys, "erase --device car-8 --yes")
    assert line.startswith("store: 2 frames, ")
    assert " of car-8 2, 1 unfinished uploads and 1 notes of declined frames are erased" in line
    left = bytes_below(store.folder)
    for trace in ("car-8", "worst", "audited", DIGESTS["worst"], DIGESTS["audited"]):
        assert trace.encode() not in left, trace
    assert names(ask(capsys, "list --json")) == ["again", "first"]
    with sqlite3.connect(store.folder / "store.sqlite") as database:
        assert database.execute("SELECT digest FROM marks").fetchall() == [(DIGESTS["first"],)]
        assert database.execute("SELECT digest FROM declined").fetchall() == [("car-7",)]
    database.close()
    assert not store.stored(DIGESTS["worst"])
    with Store(store.folder) as opened:  # no object has got its row again
        assert opened.count() == 2


def test_what_a_device_reported_goes_with_it(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    control = Control(store.database)
    for device in ("car-8", "car-7"):
        for sequence in (1, 2):
            acknowledged = CampaignState(f"of-{device}", 1)
            control.add(report(sequence, device_id=device, campaign=acknowledged), 1)
    with store.database.connect() as connection:
        said = ("1 of 2 devices: car-8 says: is slow", "1 of 2 devices: car-80 says: is slow")
        for halted in said:
            row = {"digest": halted[17:23], "name": "n", "version": "1", "release": 1}
            row |= {"size_bytes": 1, "sha256": "s", "announced_time_unix_nano": 1, "ring": 0}
            connection.execute(sa.insert(RELEASES).values(halted=halted, **row))
    ask(capsys, "erase --device car-8 --score 0- --yes")  # of some frames
    assert len(control.runs()) == 2
    (line,) = ask(capsys, "erase --device car-8 --yes")
    assert ", 3 rows of reports, " in line  # two, and what is known of their process
    assert [run.report.device_id for run in control.runs()] == ["car-7"]
    assert [one.halted for one in Releases(store.database).announced()] == [
        "1 of 2 devices: an erased one says: is slow",
        said[1],
    ]
    assert b"of-car-8" not in bytes_below(store.folder)


def test_what_was_made_of_erased_frames_is_named(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with store.database.connect() as connection:
        for name in ("worst", "audited"):
            labelled(connection, DIGESTS[name], "abc123")
            exported(connection, DIGESTS[name], "batch-7")
        connection.exec_driver_sql("INSERT INTO label_sets VALUES ('abc123', 1, 'labels/l-1')")
    assert command.run(["frames", "erase", "--store", "store", "--device", "car-8", "--yes"]) == 1
    said = capsys.readouterr()
    assert "2 frames" in said.out
    assert said.err.splitlines() == [
        "label set abc123 (labels/l-1) has labels made of 2 of them; delete it, or make it anew",
        "export batch-7 has copies of 2 of them; delete its folder where it still is",
    ]


def test_what_erase_does_not_do(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with store.database.connect() as connection:
        labelled(connection, DIGESTS["worst"])
    ask(capsys, "erase", code=2)  # nothing is asked for
    ask(capsys, "erase --device car-8", code=2)  # nobody was asked
    assert store.count() == 4
    ask(capsys, "erase --all --keep-labelled --yes")
    assert names(ask(capsys, "list --json")) == ["worst"]
    ask(capsys, "erase --all --yes", code=1)
    assert store.count() == 0
