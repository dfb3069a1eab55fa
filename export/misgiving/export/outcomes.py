"""What a bundle says of labelled persons, and how it came to have them: what calibration rests on.

Axes: N persons.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime.bundles.calibration import Unit
from misgiving.runtime.bundles.manifest import Manifest
from misgiving.runtime.errors import BundleError, DataError
from misgiving.runtime.estimator import Estimator
from misgiving.trainer.data import Collected, PoseSet
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.evaluation.bundle import Persons, ask_all, check_measurable
from misgiving.trainer.measures import metrics

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcomes:
    """What a bundle said of persons, and whether it failed on them."""

    data: str
    """Without folders."""
    predicted_loss: Floats
    """(N,), finite."""
    failed: Bools
    """(N,): False where not defined."""
    defined: Bools
    """(N,): False without a labelled torso."""
    weight: Floats
    """(N,): one over the sampling probability."""
    image: NDArray[np.str_]
    group: NDArray[np.str_]
    unit: Unit
    """What a group is."""
    sampled: bool
    """Whether a fleet chose what to keep."""

    @property
    def failures(self) -> int:
        return int(self.failed.sum())

    def measured(self) -> "Outcomes":
        """Those whose failure is defined."""
        columns = ("predicted_loss", "failed", "defined", "weight", "image", "group")
        return replace(self, **{name: getattr(self, name)[self.defined] for name in columns})


def ask_outcomes(
    estimator: Estimator, data: PoseSet, unit: str | None = None
) -> tuple[Outcomes, Persons]:
    """Ask a bundle about every person.

    Args:
        estimator: of the bundle.
        data: the persons.
        unit: image, device or stream; by default device where the data names any, else image.

    Raises:
        DataError: somebody is not labelled, or the data does not know the unit.
        BundleError: an answer is no number; failures are told by another measure than PCK@0.2.
    """
    check_measurable(estimator.bundle.manifest, data)
    persons = ask_all(estimator, data)
    return outcomes_of(estimator.bundle.manifest, data, persons, unit), persons


def outcomes_of(
    manifest: Manifest, data: PoseSet, persons: Persons, unit: str | None = None
) -> Outcomes:
    """The same of answers that are there already; errors as above."""
    _check_finite(manifest, persons)
    chosen = _unit(unit, data, persons.collected)
    found = metrics.hits(persons.points, persons.true_points, persons.labelled, manifest.keypoints)
    shares = metrics.person_pck(found)
    return Outcomes(
        data=without_folders(data.spec),
        predicted_loss=persons.predicted_loss,
        failed=shares < manifest.failure.below,
        defined=np.isfinite(shares),
        weight=np.array([1 / c.sampling_probability if c else 1.0 for c in persons.collected]),
        image=np.array(persons.images),
        group=np.array(list(map(_GROUPS[chosen], persons.images, persons.collected))),
        unit=chosen,
        sampled=any(persons.collected),
    )


def _check_finite(manifest: Manifest, persons: Persons) -> None:
    columns = np.column_stack([persons.predicted_loss, persons.signals, persons.embedding])
    strange = ~np.isfinite(columns).all(axis=1)
    if strange.any():
        raise BundleError(
            f"{manifest.name} answers {strange.sum()} of {len(strange)} persons with something "
            f"that is no number, {persons.ids[int(strange.argmax())]} for one; expected finite "
            "outputs. Export the bundle again"
        )


_GROUPS: dict[Unit, Callable[[str, Collected | None], str]] = {
    "image": lambda image, kept: image,
    "device": lambda image, kept: kept.device_id if kept else image,
    "stream": lambda image, kept: f"{kept.device_id}/{kept.stream_id}" if kept else image,
}


def _unit(asked: str | None, data: PoseSet, collected: Sequence[Collected | None]) -> Unit:
    devices = any(kept and kept.device_id for kept in collected)
    known: dict[str, Unit] = {"image": "image"}
    if devices:
        known |= {"device": "device", "stream": "stream"}
    if asked is None:
        return "device" if devices else "image"
    if asked not in known:
        raise DataError(
            f"unit is {asked!r}; expected one that {data.spec} knows: {', '.join(known)}"
        )
    return known[asked]
