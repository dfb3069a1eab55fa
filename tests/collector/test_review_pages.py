"""The pages as a browser gets them."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from flask.testing import FlaskClient

from misgiving.collector.control.control import Control
from misgiving.collector.review import pages
from misgiving.collector.store import Store
from misgiving.collector.store.tables import DECLINED, FRAMES
from misgiving.runtime import images
from misgiving.runtime.wire.reports import BudgetLeft
from misgiving.runtime.wire.sealing import FRAME, key_id, seal
from misgiving.v1.fleet_pb2 import CODING_JPEG, HiddenJoints, Redaction
from misgiving.v1.pose_pb2 import Flag, KeepReason
from shared.collecting import collected, serialise
from shared.reporting import OTHER_RUN, report
from shared.reviewing import client_of, digests, filled, send


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with filled(tmp_path / "store", [0.2, 2.0, 1.5]) as made:
        yield made


def listed(text: str) -> list[str]:
    """Frame ids of a sheet, in order."""
    return re.findall(r'alt="Frame (\S+) of', text)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["f2", "f1", "f0"]),
        ("order=worst", ["f1", "f2", "f0"]),
        ("reason=predicted_loss", ["f2", "f1"]),
        ("score=-1.6", ["f2", "f0"]),
        ("device=car-*&stream=front", ["f2", "f1", "f0"]),
        ("device=car-8", []),
        ("campaign=spring", []),
        ("until=2020-01-01", []),
        ("since=1d&order=worst", ["f1", "f2", "f0"]),
        ("reviewed=yes", []),
        ("reviewed=no&mark=", ["f2", "f1", "f0"]),
        ("of=no+field", ["f2", "f1", "f0"]),
    ],
)
def test_sheet(store: Store, query: str, expected: list[str]) -> None:
    answer = client_of(store).get(f"/?{query}")
    assert answer.status_code == 200
    assert listed(answer.text) == expected


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        client = client_of(store)
        assert "No frame has arrived yet" in client.get("/").text
        assert "No kept frame has arrived yet" in client.get("/audit").text
        assert client.get("/overview").status_code == 200


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("since=soon", "time is &#39;soon&#39;"),
        ("score=high", "score is &#39;high&#39;"),
        ("reason=fun", "reason is &#39;fun&#39;"),
        ("mark=fun", "mark is &#39;fun&#39;"),
        ("reviewed=maybe", "expected yes or no"),
        ("order=best", "expected newest, worst or drawn"),
        ("after=there", "page is &#39;there&#39;"),
    ],
)
def test_what_a_filter_cannot_mean_is_told(store: Store, query: str, said: str) -> None:
    answer = client_of(store).get(f"/?{query}")
    assert answer.status_code == 400
    assert said in answer.text


def test_further_frames(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE", 2)
    client = client_of(store)
    first = client.get("/?order=worst").text
    assert listed(first) == ["f1", "f2"]
    further = re.search(r'<a href="([^"]+)" rel="next"', first)
    assert further
    last = client.get(further[1].replace("&amp;", "&")).text
    assert listed(last) == ["f0"]
    assert 'rel="next"' not in last


def test_frame_page(store: Store) -> None:
    found = digests(store)
    text = client_of(store).get(f"/frames/{found['f2']}?order=worst").text
    assert "predicted loss 1.500, flagged" in text
    assert [
        digest for digest in found.values() if f'/frames/{digest}?order=worst" rel' in text
    ] == [
        found["f0"],
        found["f1"],
    ]
    assert text.count('<th scope="row">') == 14
    assert "b" * 64 in text
    assert "car-7" in text


def test_marks_stay_and_lead_on(store: Store) -> None:
    client, found = client_of(store), digests(store)
    page = f"/frames/{found['f2']}"
    answer = send(client, page, f"{page}/mark?reviewed=no", mark="false_alarm")
    assert answer.headers["Location"] == f"/frames/{found['f1']}?reviewed=no"
    assert "f2</a> is marked: False alarm" in client.get(answer.headers["Location"]).text
    assert listed(client.get("/?reviewed=no").text) == ["f1", "f0"]
    send(client, page, f"{page}/mark", mark="label")
    assert listed(client.get("/?mark=label").text) == ["f2"]
    assert listed(client.get("/?mark=false_alarm").text) == []
    text = client.get(page).text
    assert re.findall("<li>(.*?), local, ", text) == ["Label", "False alarm"]


def test_the_last_mark_leads_back_to_the_list(store: Store) -> None:
    client, found = client_of(store), digests(store)
    page = f"/frames/{found['f0']}"
    answer = send(client, page, f"{page}/mark?order=worst", mark="confirmed")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/?order=worst")


def test_a_frame_that_is_not_flagged_is_no_false_alarm(store: Store) -> None:
    client, found = client_of(store), digests(store)
    for frame_id, name in (("f0", "No failure"), ("f1", "False alarm")):
        text = client.get(f"/frames/{found[frame_id]}").text
        assert f">{name} <kbd>f</kbd>" in text


@pytest.mark.parametrize("fields", [{}, {"csrf_token": "guessed"}])
def test_a_mark_that_no_page_asked_for(store: Store, fields: dict[str, str]) -> None:
    client, digest = client_of(store), digests(store)["f0"]
    answer = client.post(f"/frames/{digest}/mark", data={"mark": "label", **fields})
    assert answer.status_code == 400
    assert listed(client.get("/?reviewed=yes").text) == []


def test_an_unknown_mark(store: Store) -> None:
    page = f"/frames/{digests(store)['f0']}"
    answer = send(client_of(store), page, f"{page}/mark", mark="lovely")
    assert answer.status_code == 400
    assert "expected one of the page&#39;s buttons" in answer.text


def test_pictures(store: Store) -> None:
    client, digest = client_of(store), digests(store)["f0"]
    small, large, plain = (
        images.decode(client.get(f"/{path}").data)
        for path in (
            f"thumbs/{digest}.jpg",
            f"pictures/{digest}.jpg",
            f"pictures/{digest}.jpg?plain=1",
        )
    )
    assert (small.shape, large.shape, plain.shape) == ((60, 120, 3), (240, 480, 3), (60, 120, 3))
    assert abs(small.astype(int) - plain).mean() > 5  # drawn into


def test_a_picture_is_sent_once(store: Store) -> None:
    client, digest = client_of(store), digests(store)["f0"]
    first = client.get(f"/thumbs/{digest}.jpg")
    tag = {"If-None-Match": first.headers["ETag"]}
    again = client.get(f"/thumbs/{digest}.jpg", headers=tag)
    assert (again.status_code, again.data) == (304, b"")
    assert client.get(f"/pictures/{digest}.jpg", headers=tag).status_code == 304
    assert client.get(f"/pictures/{digest}.jpg?plain=1", headers=tag).status_code == 200
    assert "private" in first.headers["Cache-Control"]


def test_what_is_not_there(store: Store) -> None:
    client = client_of(store)
    for path in ("frames/{}", "thumbs/{}.jpg", "pictures/{}.jpg", "nowhere"):
        for digest in ("f" * 64, "..%2f..%2fetc%2fpasswd", "x"):
            answer = client.get("/" + path.format(digest))
            assert answer.status_code == 404, answer.text


def test_an_object_that_is_lost_is_told(store: Store) -> None:
    digest = digests(store)["f0"]
    client = client_of(store)
    assert client.get(f"/thumbs/{digest}.jpg").status_code == 200  # and kept in memory
    (store.folder / "objects" / digest[:2] / digest).unlink()
    answer = client.get(f"/frames/{digest}")
    assert answer.status_code == 200
    assert "restore it from a backup" in answer.text
    assert client.get(f"/pictures/{digest}.jpg").status_code == 404


def test_what_was_erased_is_not_shown_from_memory(store: Store) -> None:
    client, digest = client_of(store), digests(store)["f0"]
    tag = client.get(f"/thumbs/{digest}.jpg").headers["ETag"]
    with store.database.connect() as connection:
        connection.execute(sa.delete(FRAMES).where(FRAMES.c.digest == digest))
    answer = client.get(f"/thumbs/{digest}.jpg", headers={"If-None-Match": tag})
    assert answer.status_code == 404


def test_frames_that_no_release_of_ours_sends(tmp_path: Path) -> None:
    """They are shown as far as they go, and what they say is no markup."""
    nobody = collected("<script>alert(1)</script>", persons=[])
    nobody.nobody.CopyFrom(Flag(kept=KeepReason.KEEP_REASON_AUDIT, sampling_probability=0.01))
    nameless, bones, few = collected("nameless"), collected("bones"), collected("few")
    del nameless.keypoint_names[:]
    bones.skeleton[:] = [0, 99]
    del few.persons[0].keypoints[3:]
    with Store(tmp_path / "store") as store:
        for one in (nobody, nameless, bones, few):
            store.put(serialise(one))
        client = client_of(store)
        assert "<script>alert" not in client.get("/").text
        for digest in digests(store).values():
            assert client.get(f"/frames/{digest}").status_code == 200
            assert client.get(f"/thumbs/{digest}.jpg").status_code == 200
            assert client.get(f"/pictures/{digest}.jpg").status_code == 200
        text = client.get(f"/frames/{digests(store)[nobody.frame.frame_id]}").text
        assert "<script>alert" not in text
        assert "Nobody was found." in text


def test_audit_page_counts_judged_frames(tmp_path: Path) -> None:
    with filled(tmp_path / "store", [2.0] * 10) as store:
        client, found = client_of(store), digests(store)
        assert client.get("/audit").text.count("too few frames are judged") == 4
        for number, (_, digest) in enumerate(sorted(found.items())):
            page = f"/frames/{digest}"
            send(client, page, f"{page}/mark", mark="false_alarm" if number < 3 else "confirmed")
        text = client.get("/audit").text
        assert "<strong>30.0 %</strong>" in text
        assert text.count("too few frames are judged") == 3  # nothing is known without an audit
        assert "10 frames are judged" in text
        assert client.get("/audit?device=car-8").text.count("%</strong>") == 0


def test_overview(store: Store) -> None:
    text = client_of(store).get("/overview").text
    assert re.search(r"predicted loss</th><td class=\"number\">2</td>", text)
    assert re.search(r"car-7</a></th><td class=\"number\">3</td>", text)


def test_overview_has_what_vehicles_report(store: Store) -> None:
    control = Control(store.database)
    fine = report(1, budgets=(BudgetLeft("frames", "day", 321),))
    for one in (fine, report(3, device_id="van-8", run_id=OTHER_RUN, drifting=True)):
        control.add(one, time.time_ns())
    client = client_of(store)
    text = client.get("/overview").text
    assert "budget left: 321 frames this day" in text
    assert "GAPS: 2 reports never came" in text
    assert text.index("van-8: last report") < text.index("van-7: last report")  # it drifts
    assert "van-8" not in client.get("/overview?device=van-7").text


def test_overview_has_what_was_declined(store: Store) -> None:
    row = {name: "" for name in ("device_id", "stream_id", "frame_id", "campaign")}
    times = {"old": 0, "new": time.time_ns()}
    with store.database.connect() as connection:
        for digest, at in times.items():
            values = row | {"digest": digest, "reason": "same_picture"}
            connection.execute(sa.insert(DECLINED).values(declined_time_unix_nano=at, **values))
    text = client_of(store).get("/overview").text
    assert re.search(r"same picture</th><td class=\"number\">1</td>", text)


def test_covered_joints_are_named(tmp_path: Path) -> None:
    frame = collected("covered")
    frame.coding, frame.jpeg_quality = CODING_JPEG, 92
    frame.redaction.CopyFrom(Redaction(hidden=[HiddenJoints(joints=[12])]))
    frame.redaction.covered.add(x_px=1, y_px=1, width_px=9, height_px=9)
    with Store(tmp_path / "store") as store:
        page = f"/frames/{store.put(serialise(frame))}"
        text = client_of(store).get(page).text
    assert re.findall("([a-z ]+) .covered.", text) == ["neck"]
    assert "jpeg, quality 92, heads covered: 1" in text


def test_a_frame_whose_key_is_not_here(tmp_path: Path) -> None:
    key = X25519PrivateKey.generate()
    body = seal(serialise(collected("sealed")), key.public_key(), FRAME)
    with Store(tmp_path / "store", keys={key_id(key.public_key()): key}) as store:
        digest = store.put(body)
        assert client_of(store).get(f"/thumbs/{digest}.jpg").status_code == 200
    with Store(tmp_path / "store") as store:
        answer = client_of(store).get(f"/frames/{digest}")
        assert answer.status_code == 200
        assert "it is sealed for the key" in answer.text


@pytest.mark.parametrize("path", ["/", "/audit", "/nowhere", "/static/review.css", "/?since=soon"])
def test_policy_of_every_answer(store: Store, path: str) -> None:
    with client_of(store).get(path) as answer:
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_page_of_another_name_is_not_let_in(store: Store) -> None:
    """A name that somebody else has made lead to this machine."""
    client = client_of(store)
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/", headers={"Host": "127.0.0.1:8080"}).status_code == 200
    assert client.get("/", headers={"Host": "[::1]:8080"}).status_code == 200


def test_nothing_is_loaded_from_elsewhere() -> None:
    folder = Path(pages.__file__).parent
    for path in [*folder.glob("templates/*"), *folder.glob("static/*")]:
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|style=|<script>|onclick", text), path


def test_templates_use_what_there_is(store: Store) -> None:
    client: FlaskClient = client_of(store)
    for path in ("/", "/audit", "/overview", f"/frames/{digests(store)['f0']}"):
        assert "Undefined" not in client.get(path).text
