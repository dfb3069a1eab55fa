"""A fleet's store with answers to rendered people, and a cycle over it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misgiving.collector import Store
from misgiving.export.demo.frames import correct_annotations
from misgiving.export.next_cycle.asked import Asked, read_asked
from misgiving.export.next_cycle.run import Planned, next_cycle
from misgiving.export.next_cycle.selecting import Picks
from misgiving.export.next_cycle.tasks import read_picks
from misgiving.runtime import Estimator
from misgiving.runtime.bundles.keys import new_key
from misgiving.runtime.bundles.locate import DEFAULT_BUNDLE
from misgiving.runtime.images import encode_png
from misgiving.runtime.nouns import Decision, Frame, Reason
from misgiving.runtime.wire.collected import KeptFrame, to_message
from shared.collecting import serialise
from shared.services import S3, Place, Postgres
from shared.training import CPU, people

STREAMED = people(9, 24, 0.0, 1.0)
AUDITED = 10
"""Of the streamed; the others were flagged."""
AUDIT_RATE = 0.05
_FILE = """
[store]
path = "{store}"
[select]
budget = 6
audit = 8
[train]
data = ["synthetic:1,48,0-0.5#1-16"]
init = "{checkpoint}"
[calibrate]
val = "synthetic:3,256"
[measure]
data = "synthetic:4,24"
[field]
bundle = "{bundle}"
[sign]
key = "{key}"
"""


def fill(folder: Path) -> None:
    """A store with an answer of the shipped bundle to each streamed person, each of a device."""
    estimator = Estimator.load(DEFAULT_BUNDLE, threads=1)
    manifest = estimator.bundle.manifest
    with Store(folder) as store:
        for index in range(len(STREAMED)):
            image = encode_png(STREAMED[index].image)
            audited = index < AUDITED
            why = Reason.AUDIT if audited else Reason.PREDICTED_LOSS
            flag = Decision(not audited, why, 0.5, AUDIT_RATE if audited else 1.0)
            kept = KeptFrame(
                Frame(image=image, frame_id=f"f{index}", stream_id="front"),
                tuple(one.flagged_as(flag) for one in estimator.infer(image).persons),
                estimator.bundle.digest,
                keypoint_names=manifest.keypoints.names,
                skeleton=manifest.keypoints.skeleton,
                device_id=f"car-{index}",
            )
            store.put(serialise(to_message(kept)))


@dataclass(frozen=True)
class Fleet:
    """A folder with a store, a key, a cycle's file and the cycle's folder."""

    folder: Path
    text: str
    """Of the file."""
    place: Place
    """Of the store."""

    @classmethod
    def made(cls, folder: Path, filled: Path, checkpoint: Path) -> "Fleet":
        """In a folder of its own, with a copy of a store."""
        shutil.copytree(filled, folder / "store")
        new_key(folder / "release.key")
        names = {"store": folder / "store", "bundle": "default", "checkpoint": checkpoint}
        text = _FILE.format(**names, key=folder / "release.key")
        return cls(folder, text, Place(folder / "store"))

    def moved(self, postgres: Postgres, s3: S3) -> "Fleet":
        """The same with its rows in PostgreSQL and its objects in S3."""
        place = Place(self.folder / "parts", postgres.emptied(), s3.make(), s3)
        with self.store() as store, place.open() as other:
            for _, frame in store.frames():
                other.put(serialise(to_message(frame)))
        shutil.rmtree(self.place.folder)
        named = f'path = "{place.folder}"\ndatabase = "{place.url}"\nobjects = "{place.objects}"'
        text = self.text.replace(f'path = "{self.place.folder}"', named)
        return Fleet(self.folder, text, place)

    @property
    def out(self) -> Path:
        return self.folder / "week-48"

    @property
    def file(self) -> Path:
        return self.folder / "fleet.toml"

    @property
    def picks(self) -> Picks:
        return read_picks(self.out / "selected/picks.json")

    @property
    def tasks(self) -> Path:
        (batch,) = (self.out / "tasks").iterdir()
        return batch

    def asked(self, old: str = "", new: str = "") -> Asked:
        """The file, with something else in it."""
        assert old in self.text
        self.file.write_text(self.text.replace(old, new) if old else self.text)
        return read_asked(self.file)

    def go(self, asked: Asked | None = None, **more: Any) -> dict[str, Planned]:
        """The command; gives where each step stands then."""
        planned = next_cycle(asked or self.asked(), self.out, CPU, **more)
        return {one.name: one for one in planned}

    def store(self) -> Store:
        return Store(self.place.folder, self.place.url, self.place.objects, create=False)

    def digests(self) -> list[str]:
        """Of all frames, as they were streamed."""
        with self.store() as store:
            return [digest for _, digest in sorted(_numbered(store))]

    def label(self, to: Path) -> None:
        """Do the annotators' work: what is true of each person goes into a file of that name."""
        with self.store() as store:
            places = {digest: number for number, digest in _numbered(store)}
        copy = Path(shutil.copytree(self.tasks, self.folder / "tool"))
        correct_annotations(copy, STREAMED, places)
        shutil.move(copy / "annotations.json", to)
        shutil.rmtree(copy)


def _numbered(store: Store) -> Iterator[tuple[int, str]]:
    yield from ((int(row.frame_id[1:]), row.digest) for row, _ in store.frames())


def states(planned: dict[str, Planned]) -> dict[str, str]:
    return {name: one.state for name, one in planned.items()}
