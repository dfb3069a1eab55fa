"""The steps of a cycle: what each would do, what it waits for, and what it does."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misgiving.collector import Store
from misgiving.collector.annotations.formats import format_named
from misgiving.collector.format_names import Format
from misgiving.collector.frames.selection import count_frames
from misgiving.export.next_cycle import comparing, models, releasing, selecting, tasks
from misgiving.export.next_cycle.asked import Asked
from misgiving.export.next_cycle.checking import check
from misgiving.export.next_cycle.record import LABELS, SELECTED, Cycle
from misgiving.runtime import Bundle, pack_bundle
from misgiving.runtime.durable import new_folder
from misgiving.runtime.errors import DataError, FailedPrecondition, MisgivingError
from misgiving.runtime.nouns import Reason
from misgiving.runtime.wire.sealing import read_opening_keys
from misgiving.trainer import Compute, recipe_named
from misgiving.trainer.checkpoint import find_checkpoint

_PICKS, _FIELD = "picks.json", "field.zip"

Came = dict[str, Any]
"""What came of a step; ``said`` is a line for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One call of the command."""

    asked: Asked
    cycle: Cycle
    compute: Compute
    labels: Path
    """Where the annotators' work is put."""
    release: bool
    """Whether somebody has seen the comparison, and says that it shall be released."""

    @property
    def out(self) -> Path:
        return self.cycle.out

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The fleet's frames; open for one step, for some steps take hours."""
        said = self.asked.store
        keys = read_opening_keys(list(said.open_with))
        with (
            _in_words_of_the_file(),
            Store(said.path, said.database, said.objects, create=False, keys=keys) as opened,
        ):
            yield opened

    def field(self) -> Bundle:
        """What the vehicles ran when the frames were picked.

        Raises:
            DataError: it is another one since.
        """
        bundle = Bundle.load(path := self.out / SELECTED / _FIELD)
        if bundle.digest != (known := self.came("select", "field")):
            raise DataError(
                f"{path} has digest {bundle.digest[:12]}; expected {known[:12]}, as when the "
                "frames were picked. Put that back, or name another --out"
            )
        return bundle

    def picks(self) -> selecting.Picks:
        """Who goes to the annotators."""
        return tasks.read_picks(self.out / SELECTED / _PICKS)

    def came(self, step: str, key: str) -> Any:
        """What a finished step has noted; None where it is not finished."""
        return self.cycle.done.get(step, {}).get(key)


@dataclass(frozen=True, slots=True)
class Step:
    """One step; its name is one of ``record.STEPS``."""

    name: str
    ahead: Callable[[Run], str]
    """What it would do, with the figures that are known."""
    do: Callable[[Run], Came]
    waits: Callable[[Run], str] = lambda run: ""
    """What somebody has to do or to decide first; empty where nothing is."""


def _selects(run: Run) -> str:
    asked = run.asked.select
    selection = selecting.selection_of(asked)
    with run.store() as store:
        sizes = check(run.asked, releasing.find_field(store, run.asked.field.bundle))
        with store.database.connect(reads=True) as connection:
            fit, _ = count_frames(connection, selection)
            audit, _ = count_frames(connection, selecting.of_reason(selection, Reason.AUDIT))
    drawn = sum(selecting.drawn_sizes(audit, fit - audit, asked.audit))
    return (
        f"{fit:,} frames are new and fit, {audit:,} of them of the audit sample: "
        f"{min(asked.budget, fit - drawn):,} of high predicted loss that differ, {drawn:,} at "
        f"random; {sizes.base:,} persons are labelled already, {sizes.measure:,} held out"
    )


def _select(run: Run) -> Came:
    asked, folder = run.asked, run.out / SELECTED
    selection = selecting.selection_of(asked.select)
    shutil.rmtree(folder, ignore_errors=True)  # of a call that was killed
    with run.store() as store:
        field = releasing.find_field(store, asked.field.bundle)
        sizes = check(asked, field)
        seed = int(run.cycle.id[-6:], 16)
        picks = selecting.pick(store.database, selection, asked.select, seed)
        if not picks.picked:
            raise DataError(
                f"{store.database.name} has no frame that fits and is new; expected some to label. "
                "Wait for more, or ask for others in [select]"
            )
    with new_folder(folder) as part:
        pack_bundle(field.path, part / _FIELD)
        tasks.write_picks(part / _PICKS, picks)
    return {
        "picked": len(picks.picked),
        "drawn": len(picks.drawn),
        "base": sizes.base,
        "field": field.digest,
        "said": f"{len(picks.picked):,} frames of high predicted loss that differ, "
        f"{len(picks.drawn):,} at random; in the field is {_named(field)}",
    }


def _exports_tasks(run: Run) -> str:
    return f"writes them for {run.asked.annotators.format.value} into {run.cycle.tasks}"


def _export_tasks(run: Run) -> Came:
    picks = run.picks()
    format = run.asked.annotators.format.value
    (run.out / LABELS).mkdir(exist_ok=True)
    with run.store() as store:
        images, persons = tasks.export_tasks(store, picks, run.cycle.tasks, format)
    return {
        "images": images,
        "persons": persons,
        "said": f"{images:,} pictures with {persons:,} persons in {run.cycle.tasks}",
    }


def _imports(run: Run) -> str:
    return f"takes the labels from {run.labels}"


_HOW = {
    Format.COCO: "correct annotations.json in your tool, and export it as COCO keypoints",
    Format.CVAT: "paste labels.json into the Raw tab of a new task, give it images/, import "
    "annotations.xml, and export as 'CVAT for images 1.1'",
    Format.LABEL_STUDIO: "labelling.xml is the labelling interface, tasks.json is imported; "
    "export as JSON",
    Format.YOLO: "correct labels/; data.yaml comes back with it",
    Format.DEEPLABCUT: "copy images/ to labeled-data/ of your project; its CSV comes back",
}


def _waits_for_labels(run: Run) -> str:
    if tasks.labels_at(run.labels):
        return ""
    format = run.asked.annotators.format
    name = format_named(format.value).pattern.rpartition("/")[2]
    return (
        f"somebody labels {run.cycle.tasks}: {_HOW[format]}. Put what comes back ({name}) into "
        f"{run.labels}, or name it by --labels, and give the same command again"
    )


def _import(run: Run) -> Came:
    picks = run.picks()
    with run.store() as store:
        corrected, found = tasks.take_labels(
            store, run.cycle.tasks, run.labels, run.out, run.asked.annotators, picks
        )
    more = f", {found.held_out:,} for validation teach nothing" if found.held_out else ""
    more += f", {corrected.untouched:,} untouched and left out" if corrected.untouched else ""
    return {
        "version": found.set.version,
        "train": len(found.train),
        "audit": len(found.audit),
        "unseen": found.unseen,
        "notes": corrected.said,
        "said": f"label set {found.set.version}: {len(found.train):,} persons train, "
        f"{len(found.audit):,} of the random sample calibrate{more}",
    }


def _trains(run: Run) -> str:
    asked, base, new = run.asked, run.came("select", "base"), run.came("import", "train")
    known = "what is labelled" if base is None else f"{base:,} persons"
    on = f"{known} and {'the' if new is None else f'{new:,}'} new ones"
    if asked.attach:
        return f"heads on {asked.attach.net}, {on}"
    assert asked.train
    own = asked.train.init and str(find_checkpoint(Path(asked.train.init)) / "recipe.json")
    recipe = recipe_named(asked.train.recipe or own or "demo", asked.train.epochs)
    from misgiving.trainer.recipe_costs import cost  # which takes torch, and seconds

    epochs = recipe.fit.continued_epochs if asked.train.init else recipe.fit.epochs
    return (
        f"{recipe.name}, {epochs + recipe.fit.head_epochs} epochs of {on}; "
        f"{cost(recipe.model)[1] / 1e9:.3f} GMAC for a picture"
    )


def _train(run: Run) -> Came:
    keypoints = run.field().manifest.keypoints
    record = models.learn(run.asked, keypoints, run.out, run.compute)
    pck = record.metrics.get("pck")
    measured = "" if pck is None else f", PCK@0.2 {pck:.3f} on {record.validation_data}"
    return {"said": f"{record.label_count:,} persons{measured}"}


def _exports(run: Run) -> str:
    return f"a bundle, its gates and thresholds on {run.asked.calibrate.val}"


def _export(run: Run) -> Came:
    bundle = models.export(run.asked, run.field().manifest.name, run.out, run.compute)
    return {"digest": bundle.digest, "said": _named(bundle)}


def _calibrates(run: Run) -> str:
    asked = run.asked.calibrate
    return (
        f"on the random sample of the fleet, where it carries what is asked; else on {asked.val}, "
        "and the promises hold for frames like those"
    )


def _calibrate(run: Run) -> Came:
    picks = run.picks()
    unseen, count = run.came("import", "unseen"), run.came("import", "audit")
    path, why = models.calibrate(run.asked.calibrate, run.out, picks.drawn, unseen)
    said = (
        f"on {run.asked.calibrate.val}, whose frames the promises hold for; the random sample of "
        f"the fleet has {count:,} persons: {why}"
        if why
        else f"on {count:,} persons of the fleet's random sample, for whom the promises hold"
    )
    return {"bundle": path.name, "said": said}


def _compares(run: Run) -> str:
    return f"the bundle in the field and the new one on {run.asked.measure.data}"


def _compare(run: Run) -> Came:
    new = Bundle.load(run.out / run.came("calibrate", "bundle"))
    comparison = comparing.compare(run.field(), new, run.asked.measure.data)
    comparing.write_comparison(run.out / "comparison.json", comparison)
    return {
        "lines": list(comparing.lines(comparison)),
        "worse": comparison.worse,
        "obstacle": comparison.obstacle,
        "said": f"worse: {', '.join(comparison.worse)}" if comparison.worse else "none is worse",
    }


def _signs(run: Run) -> str:
    return f"with {run.asked.sign.key}, into {run.out / 'release'}"


def _waits_for_a_decision(run: Run) -> str:
    if run.release:
        return ""
    worse = run.came("compare", "worse")
    but = f", although it is worse in {', '.join(worse)}" if worse else ""
    return (
        "somebody decides: the same command with --release signs the new bundle and gives it to "
        f"the first ring{but}. Where it shall not go out, nothing is to be done: the labels stay"
    )


def _sign(run: Run) -> Came:
    if obstacle := run.came("compare", "obstacle"):
        raise FailedPrecondition(f"nothing is signed: {obstacle}")
    new = run.out / run.came("calibrate", "bundle")
    digest = releasing.sign(new, run.asked.sign, run.out)
    return {"digest": digest, "said": str(run.out / "release" / releasing.ZIP)}


def _releases(run: Run) -> str:
    return "to the first ring, 1 % of the vehicles and one at least"


def _release(run: Run) -> Came:
    digest = run.came("sign", "digest")
    with run.store() as store:
        releasing.announce(store, run.asked, run.out, digest)
    return {
        "said": f"announced to the first ring; 'misgiving fleet release list' says how it goes, "
        f"'misgiving fleet release advance {digest[:12]}' gives it to the next"
    }


ALL = (
    Step("select", _selects, _select),
    Step("tasks", _exports_tasks, _export_tasks),
    Step("import", _imports, _import, _waits_for_labels),
    Step("train", _trains, _train),
    Step("export", _exports, _export),
    Step("calibrate", _calibrates, _calibrate),
    Step("compare", _compares, _compare),
    Step("sign", _signs, _sign, _waits_for_a_decision),
    Step("release", _releases, _release),
)


@contextmanager
def _in_words_of_the_file() -> Iterator[None]:
    """An error of the store names keys of the file: the command has none of the store's options."""
    try:
        yield
    except MisgivingError as error:
        said = str(error)
        for option, key in _KEYS.items():
            said = said.replace(option, key)
        error.args = (said,)
        raise


_KEYS = {
    "--store": "store.path",
    "--database": "store.database",
    "--objects": "store.objects",
}


def _named(bundle: Bundle) -> str:
    manifest = bundle.manifest
    return f"{manifest.name} {manifest.version} ({bundle.digest[:12]})"
