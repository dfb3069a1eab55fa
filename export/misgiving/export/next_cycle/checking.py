"""What would stop a cycle later, found before anybody labels a frame for it."""

import itertools
from dataclasses import dataclass
from pathlib import Path

from misgiving.export.bundling import check_size
from misgiving.export.calibrating import check_enough, check_unseen
from misgiving.export.next_cycle.asked import Asked
from misgiving.export.next_cycle.models import targets_of
from misgiving.export.next_cycle.releasing import check_keys
from misgiving.runtime import Bundle
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer import join, open_data, read_net, recipe_named
from misgiving.trainer.checkpoint import find_checkpoint, load_record
from misgiving.trainer.data import check_apart, check_labelled


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many persons there are."""

    base: int
    val: int
    measure: int


def check(asked: Asked, field: Bundle) -> Sizes:
    """Read everything that a file names but the store.

    Args:
        asked: the file.
        field: what the vehicles run.

    Raises:
        MisgivingError: a key, a checkpoint, a net or data cannot be read, or does not fit the
            others.
    """
    check_keys(asked.sign)
    known = field.manifest.keypoints
    keypoints, seen, count = _learner(asked, known)
    if keypoints.names != known.names:
        raise InvalidInput(
            f"[{'attach' if asked.attach else 'train'}] has the keypoints of {keypoints.name}, the "
            f"bundle in the field those of {known.name}; expected the same: vehicles take no other"
        )
    base = join([open_data(spec, keypoints) for spec in asked.base])
    val, measure = (
        open_data(spec, keypoints) for spec in (asked.calibrate.val, asked.measure.data)
    )
    check_size(val)
    check_enough(val, targets_of(asked.calibrate))
    for one, other in itertools.combinations((base, val, measure), 2):
        check_apart(one, other)
    for data in (base, val, measure):
        check_labelled(data)
    for data in (val, measure):
        check_unseen(data, seen, count)
    origin = field.manifest.provenance
    check_unseen(measure, origin.training_data, origin.label_count)
    return Sizes(len(base), len(val), len(measure))


def _learner(asked: Asked, field: KeypointSet) -> tuple[KeypointSet, tuple[str, ...], int]:
    """Keypoints of what learns, the data that it has learnt from, and of how many persons."""
    if asked.attach:
        return read_net(asked.attach.net).keypoints, (), 0
    assert asked.train
    init = find_checkpoint(Path(asked.train.init)) if asked.train.init else None
    own = str(init / "recipe.json") if init else "demo"
    recipe_named(asked.train.recipe or own, asked.train.epochs, asked.train.seed)
    if init is None:
        return field, (), 0
    record = load_record(init)
    return record.keypoints, record.training_data, record.label_count
