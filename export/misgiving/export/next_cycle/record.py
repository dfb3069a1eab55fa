"""What a cycle has done, so that it goes on after a kill.

::

    OUT/cycle.json             what it was asked, and each finished step with what came of it
    OUT/selected/              picks.json: whom somebody is to label; field.zip: what vehicles run
    OUT/tasks/BATCH/           what goes to the annotators
    OUT/labels/                what comes back from them
    OUT/labelset/ train.txt audit.txt
                               the labels, and who of them trains and who calibrates
    OUT/checkpoint/ bundle/ calibrated/
    OUT/comparison.json
    OUT/release/               the signed bundle, as a folder and as a zip
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from misgiving.export.next_cycle.asked import Asked
from misgiving.runtime.durable import check_new, locked_folder, write_durably
from misgiving.runtime.errors import DataError, InvalidInput, first_problem

STEPS = (
    *("select", "tasks", "import", "train", "export", "calibrate", "compare", "sign"),
    "release",
)
_RECORD, SELECTED, LABELS = "cycle.json", "selected", "labels"
_BEGUN = (SELECTED, f".{_RECORD}.")
"""What a call leaves that is killed in the first step."""
_LAST_USE = {
    **{"store": "release", "select": "select", "field": "select", "annotators": "tasks"},
    **{"train": "train", "attach": "train", "export": "export", "calibrate": "train"},
    **{"measure": "compare", "sign": "release", "release": "release"},
    "annotators.trust_untouched": "import",
    **{f"calibrate.{key}": "export" for key in ("flag_rate", "miss_rate", "confidence")},
}
"""Table or key → the step after which a change of it would mean nothing."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    asked: dict[str, Any]
    done: dict[str, dict[str, Any]] = {}


class Cycle:
    """A cycle's folder, held against other processes; see :func:`cycle_in`.

    Args:
        out: the folder.
        record: what it has done.
    """

    def __init__(self, out: Path, record: _Record) -> None:
        self.out = out
        self._record = record

    @property
    def id(self) -> str:
        """Names the cycle and its batch, for ever."""
        return self._record.id

    @property
    def done(self) -> dict[str, dict[str, Any]]:
        """Each finished step, with what came of it; ``said`` is a line for people."""
        return self._record.done

    @property
    def tasks(self) -> Path:
        """What goes to the annotators."""
        return self.out / "tasks" / self.id

    def finish(self, step: str, came: dict[str, Any]) -> None:
        """Note durably that a step is done."""
        self._record.done[step] = came
        self._write()

    def follow(self, asked: Asked) -> None:
        """Take what the file says by now; raises as :meth:`check`."""
        self.check(asked)
        changed = asked.keys() != self._record.asked
        self._record.asked = asked.keys()
        if changed and self.done:
            self._write()

    def check(self, asked: Asked) -> None:
        """Raise InvalidInput where a file asks for something else of a step that is done."""
        now = asked.keys()
        for key in sorted(now.keys() | self._record.asked.keys()):
            before, after = self._record.asked.get(key), now.get(key)
            step = _LAST_USE.get(key) or _LAST_USE[key.partition(".")[0]]
            if before != after and step in self.done:
                raise InvalidInput(
                    f"{key} is {after!r}, and {self.out} was begun with {before!r}, which it has "
                    f"used: {step} is done; expected the same. Change it back, or name another "
                    "--out"
                )

    def _write(self) -> None:
        text = self._record.model_dump_json(indent=2) + "\n"
        write_durably(self.out / _RECORD, text.encode())


@contextmanager
def cycle_in(out: Path, asked: Asked) -> Iterator[Cycle]:
    """The cycle of a folder, new or going on, held until the block ends; its record is there once
    a step is finished.

    Raises:
        InUse: another process holds it.
        DataError: the folder has something else.
        InvalidInput: see :meth:`Cycle.check`.
    """
    seen_cycle(out, asked)
    with locked_folder(out):
        cycle = seen_cycle(out, asked)
        cycle.follow(asked)
        yield cycle


def seen_cycle(out: Path, asked: Asked) -> Cycle:
    """The same to look at; nothing is written. Raises as above, but for InUse."""
    path = out / _RECORD
    if path.exists():
        cycle = Cycle(out, _read(path))
        cycle.check(asked)
        return cycle
    if not out.is_dir() or any(not one.name.startswith(_BEGUN) for one in out.iterdir()):
        check_new(out)
    return Cycle(out, _Record(id=f"{out.resolve().name}-{secrets.token_hex(3)}", asked={}))


def _read(path: Path) -> _Record:
    try:
        return _Record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else first_problem(error)
        raise DataError(
            f"{path}: {why}; expected the record of a cycle. Name another --out"
        ) from error
