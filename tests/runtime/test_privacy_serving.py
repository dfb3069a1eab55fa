"""A policy of privacy and a real server: what it does not let be kept, and what is stored then."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.client import Client
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.flags.budgets import DAY, Budget
from misgiving.runtime.geometry import Region
from misgiving.runtime.keypoints import KeypointSet
from misgiving.runtime.nouns import Answer, Collection, Position, make_frame
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.privacy.fences import Circle, Polygon
from misgiving.runtime.privacy.policy import Barred, Hook, PrivacyPolicy
from misgiving.runtime.settings.privacy import PrivacyTable
from misgiving.runtime.verbs.privacy import hook_of, privacy_of
from misgiving.runtime.wire.collected import Coding, KeptFrame, read_kept
from misgiving.v1 import detector_pb2 as wire
from runtime.commands import server
from shared import tiny
from shared.collecting import eventually
from shared.serving import BLACK, Running, infer, named, serving, wire_frame

MUNICH = Position(48.137, 11.575)


class Kept(list[KeptFrame]):
    def offer(self, frame: KeptFrame) -> bool:
        self.append(frame)
        return True

    @property
    def names(self) -> list[str]:
        return [kept.frame.frame_id for kept in self]


def barred(running: Running) -> dict[Barred, int]:
    return {why: count for why, count in running.pipeline.keeping.counts.items() if count}


def test_collecting_goes_off_and_on_between_two_frames() -> None:
    kept = Kept()
    with serving(sink=kept) as running:
        collections = []
        for number, collect in enumerate([True, False, True]):
            running.pipeline.keeping.policy = PrivacyPolicy(collect=collect)
            result = infer(running, named(str(number)))
            collections.append(result.collection)
            assert result.persons[0].flag.raised  # what the score says stays
        infer(running, named("bright", BLACK + 255))  # is not to be kept: nothing is withheld
        assert barred(running) == {Barred.COLLECTION_OFF: 1}
    queued, none = wire.COLLECTION_QUEUED, wire.COLLECTION_NONE
    assert collections == [queued, none, queued]
    assert kept.names == ["0", "2"]


def test_nothing_is_kept_within_a_fence() -> None:
    kept = Kept()
    with serving(sink=kept) as running:
        running.pipeline.keeping.policy = PrivacyPolicy(fences=(Circle(MUNICH, 1000),))
        for name, place in (("in", MUNICH), ("out", Position(0, 0)), ("unknown", None)):
            infer(running, wire_frame(BLACK, frame_id=name, position=place))
        assert barred(running) == {Barred.GEOFENCE: 1, Barred.NO_POSITION: 1}
    assert kept.names == ["out"]


def test_what_a_fence_withholds_spends_no_budget() -> None:
    kept, budget = Kept(), Budget(2, "frames", DAY)
    policy = replace(tiny.policy(), budgets=(budget,))
    with serving(policy=policy, sink=kept) as running:
        running.pipeline.keeping.policy = PrivacyPolicy(fences=(Circle(MUNICH, 1000),))
        for name, place in (("0", MUNICH), ("1", MUNICH), ("2", MUNICH), ("3", Position(0, 0))):
            infer(running, wire_frame(BLACK, frame_id=name, position=place))
    assert kept.names == ["3"]


def test_what_a_spool_stores_is_redacted_and_says_so(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with serving(sink=spool) as running:
        running.pipeline.keeping.policy = PrivacyPolicy(crop=True, blur_heads=True)
        region = Region(2, 2, 10, 20)
        bright = wire_frame(BLACK + 60, [region], frame_id="1", position=MUNICH)
        assert infer(running, bright).collection == wire.COLLECTION_QUEUED
        eventually(lambda: spool.counts().stored == 1)
    (digest,) = spool.pending()
    kept = read_kept(spool.read(digest))
    spool.close()
    assert kept.coding is Coding.PNG
    assert kept.redaction.cropped
    assert kept.redaction.covered
    assert {12, 13} <= set(kept.redaction.hidden[0])
    assert kept.frame.position is None
    assert (kept.frame.decoded()[:, 40:] == 128).all()  # black no more, but grey
    assert (kept.frame.decoded() == 60).any()


def test_what_a_hook_fails_on_is_lost_and_never_stored(tmp_path: Path) -> None:
    def first_fails(image: NDArray[np.uint8], answer: Answer) -> NDArray[np.uint8]:
        if answer.frame_id == "1":
            raise RuntimeError("no face model")
        return image

    spool = Spool(tmp_path)
    with serving(sink=spool) as running:
        running.pipeline.keeping.policy = PrivacyPolicy(hook=Hook("ours:it", first_fails))
        for name in "12":
            infer(running, named(name))
        eventually(lambda: spool.counts().stored == 1)
        assert barred(running) == {Barred.REDACTION_FAILED: 1}
    counts, (digest,) = spool.counts(), spool.pending()
    assert (counts.offered, counts.lost) == (2, 1)
    assert read_kept(spool.read(digest)).frame.frame_id == "2"
    spool.close()


def test_a_server_s_file_says_what_is_kept(tmp_path: Path) -> None:
    """Collecting goes off with SIGHUP; metrics say how many frames that withheld."""
    file, spool = tmp_path / "misgiving.toml", tmp_path / "spool"
    (tmp_path / "ours.py").write_text("def black(image, answer):\n    return image * 0\n")
    tables = '[flags]\nthreshold = -1.0\n[spool]\nfolder = "spool"\njpeg = 92\n[privacy]\n'
    file.write_text(f"{tables}geofence = [{{ centre = [48.1, 11.6], radius_m = 9000 }}]\n")
    with server("--config", file, "--threads", 1) as (process, address), Client(address) as client:

        def collected(place: Position | None) -> Collection:
            image = tiny.spots([3] * 14)
            (answer, _) = client.stream([make_frame(image, frame_id="first", position=place)])
            again = client.infer(image, frame_id="second", position=place)
            assert again.collection is answer.collection
            return answer.collection

        assert collected(MUNICH) is Collection.NONE
        assert "taken where privacy.geofence keeps none" in process.stderr.readline()
        assert collected(Position(0, 0)) is Collection.QUEUED
        file.write_text(f"{tables}collect = false\n")
        process.send_signal(signal.SIGHUP)
        said = process.stderr.readline()
        assert said.endswith("reloaded; changed: privacy.collect, privacy.geofence\n")
        assert collected(Position(0, 0)) is Collection.NONE
        assert "privacy.collect" in process.stderr.readline()
        file.write_text(f'{tables}hook = "nowhere:black"\n')
        process.send_signal(signal.SIGHUP)
        assert "privacy.hook is 'nowhere:black', which cannot be imported" in (
            process.stderr.readline()
        )
        assert collected(Position(0, 0)) is Collection.NONE  # the settings before
        process.terminate()
        process.wait(60)
    stored = Spool(spool)
    digest, _ = stored.pending()
    kept = read_kept(stored.read(digest))
    stored.close()
    assert (kept.coding, kept.jpeg_quality, kept.frame.position) == (Coding.JPEG, 92, None)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A module of the operator's, by its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def written(text: str) -> str:
        name = f"ours_{abs(hash(text))}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return written


@pytest.mark.parametrize(
    ("text", "function", "said"),
    [
        ("", ":it", "cannot be imported (AttributeError: module"),
        ("it = 5", ":it", "of type int; expected a function that is given an image and an answer"),
        ("raise RuntimeError('no licence')", ":it", "(RuntimeError: no licence); expected package"),
        ("", "", "cannot be imported (AttributeError: module"),  # no function is named
    ],
)
def test_a_hook_that_is_none(
    module: Callable[[str], str], text: str, function: str, said: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        hook_of(module(text) + function)
    assert said in str(caught.value)
    assert str(caught.value).startswith("privacy.hook is 'ours_")


def test_settings_become_a_policy(module: Callable[[str], str]) -> None:
    name = module("def it(image, answer):\n    return image\n") + ":it"
    table = PrivacyTable.model_validate(
        {
            "collect": False,
            "crop": True,
            "blur_heads": True,
            "hook": name,
            "geofence": [
                {"centre": [48.137, 11.575], "radius_m": 10},
                {"polygon": [[48, 11], [48, 12], [49, 12]]},
            ],
            "geofence_keeps": "inside",
            "position": True,
        }
    )
    policy = privacy_of(table, Bundle.load(tiny.BUNDLE))
    fences = Circle(MUNICH, 10), Polygon((Position(48, 11), Position(48, 12), Position(49, 12)))
    assert policy == PrivacyPolicy(
        collect=False,
        crop=True,
        blur_heads=True,
        hook=hook_of(name),
        fences=fences,
        keeps_inside=True,
        position=True,
    )
    assert privacy_of(PrivacyTable(), Bundle.load(tiny.BUNDLE)) == PrivacyPolicy()


def test_a_bundle_without_heads_has_none_to_blur() -> None:
    bundle = Bundle.load(tiny.BUNDLE)
    hands = KeypointSet(name="hand", names=("wrist", "thumb"), skeleton=(), torso=())
    bundle = replace(bundle, manifest=bundle.manifest.model_copy(update={"keypoints": hands}))
    with pytest.raises(InvalidInput, match="wrist, thumb… none is a head's; expected one of"):
        privacy_of(PrivacyTable(blur_heads=True), bundle)
