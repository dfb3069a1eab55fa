"""Persons who cannot be read are left out: the first ones named, all counted, too many an error.

The same for everything that reads a data set: training, cycle, evaluation, scoring, export.
"""

from collections.abc import Callable, Iterable, Iterator

from misgiving.runtime import geometry
from misgiving.runtime.errors import DataError, MisgivingError
from misgiving.runtime.geometry import CropRule, Window
from misgiving.trainer import progress
from misgiving.trainer.data.base import PoseSet, Sample, subset

LOST = 64
"""So many unreadable persons in a row are a disk that has gone, not bad images."""
MOST = 0.5
"""The share of a set that may be left out; beyond it something else is wrong."""
NAMED = 5

Check = Callable[[Sample], object]
"""Raises where a person can be read but not used."""


class Readable:
    """Reads the persons of a set, and remembers who cannot be read."""

    def __init__(
        self, data: PoseSet, check: Check, tell: Callable[[str], None] = lambda line: None
    ) -> None:
        """``tell`` gets at once what is to be said of a person; ``kept`` says it of the first."""
        self._data, self._check, self._tell = data, check, tell
        self.skipped: dict[int, str] = {}
        """Position → what is wrong."""

    def samples(self, positions: Iterable[int]) -> Iterator[Sample]:
        """The persons at some positions, without those who cannot be read.

        Raises:
            DataError: LOST in a row cannot.
        """
        in_a_row = 0
        for position in positions:
            try:
                sample = self._data[position]
                self._check(sample)
            except MisgivingError as error:
                in_a_row += 1
                self._skip(position, error, in_a_row)
                continue
            in_a_row = 0
            yield sample

    def kept(self) -> PoseSet:
        """The set without those who could not be read; the first are named, and all counted.

        Raises:
            DataError: more than MOST of it could not be read.
        """
        data, count = self._data, len(self.skipped)
        if not count:
            return data
        check_share(data.spec, count, len(data), next(iter(self.skipped.values())))
        for position, why in list(self.skipped.items())[:NAMED]:
            progress.print_line(_line(data.ids[position], why))
        progress.print_line(
            f"{data.spec}: {count} of {len(data)} persons are left out, they cannot be read"
        )
        return subset(data, [i for i in range(len(data)) if i not in self.skipped])

    def _skip(self, position: int, error: MisgivingError, in_a_row: int) -> None:
        name = self._data.ids[position]
        self._tell(_line(name, error))
        self.skipped[position] = str(error)
        if in_a_row == LOST:
            raise DataError(
                f"{LOST} persons in a row cannot be read, the last is {name} ({error}); "
                "expected a bad image now and then. Is the disk there? Mend it and give the "
                "same command again: it goes on before them"
            ) from error


def asked_window(sample: Sample, rule: CropRule) -> Window:
    """The part of the image that the runtime would cut for this person.

    Raises:
        RegionError: the person's box has no area or lies outside the image.
    """
    height, width = sample.image.shape[:2]
    return geometry.window_of(sample.asked_region, height, width, rule)


def readable_part(data: PoseSet, rule: CropRule) -> PoseSet:
    """A set without those who cannot be read or cut; everybody is read once for it."""
    reader = Readable(data, lambda sample: asked_window(sample, rule))
    for _ in reader.samples(progress.counted(len(data), "reading")):
        pass
    return reader.kept()


def check_share(spec: str, skipped: int, count: int, why: str) -> None:
    """Raise DataError where more than MOST of a set cannot be read; ``why`` is of the first."""
    if skipped > MOST * count:
        raise DataError(
            f"{skipped} of {count} persons of {spec} cannot be read, the first: {why}. "
            f"At most {MOST:.0%} are left out. Is this the folder, and the disk there?"
        )


def _line(name: str, why: object) -> str:
    return f"{name} is skipped: {why}"
