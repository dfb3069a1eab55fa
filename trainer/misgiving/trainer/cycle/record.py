"""What a cycle keeps on disk, so that it goes on after a kill and can be shown.

``<out>/cycle.json`` says what is run; ``<out>/seed-S/base`` is the base model of a repeat,
``base-scores.npz`` what it says of the pool; ``<out>/seed-S/METHOD/results.json`` grows with every
stage of a run, beside that run's own checkpoints.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from misgiving.runtime.durable import check_new, locked_folder, write_durably
from misgiving.runtime.errors import DataError
from misgiving.trainer.restart import difference

CYCLE, RESULTS = "cycle.json", "results.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class StageResult:
    """What one stage of one run of :func:`run_cycle` did."""

    stage: int
    checkpoint: str
    """Folder below the cycle's."""
    labels: int
    test: dict[str, float]
    selected: tuple[str, ...]
    """Ids of the pool's persons, as the sampler picked them."""
    selected_pck: float | None
    """PCK@0.2 of the selected, by the network that selected them; lower is a better find."""
    pool_pck: float | None
    """Of all that it selected from."""
    selected_loss: float
    """Mean true loss of the selected, in the paper's units; higher is a better find."""
    selected_loss_sd: float
    pool_loss: float
    seconds: float


@dataclass(frozen=True, slots=True)
class CycleRun:
    """One method of one repeat; what :func:`run_cycle` gives several of."""

    seed: int
    method: str
    stages: tuple[StageResult, ...]


_STAGES = TypeAdapter(list[StageResult])


def run_folder(out: Path, seed: int, method: str) -> Path:
    """Where a run's results and later checkpoints are."""
    return seed_folder(out, seed) / method.replace(":", "-")


def seed_folder(out: Path, seed: int) -> Path:
    """Where a repeat's base model and its runs are."""
    return out / f"seed-{seed}"


def claim(out: Path, header: dict[str, Any]) -> None:
    """Make ``out`` this cycle's, or find that it is.

    Raises:
        DataError: it is of another cycle, or holds something else.
    """
    path = out / CYCLE
    with locked_folder(out, wait=True):  # several processes may begin a cycle at once
        if not path.exists():
            check_new(out)
            write_durably(path, (json.dumps(header, indent=2) + "\n").encode())
            return
        try:
            content = json.loads(path.read_bytes())
            found = difference(_fixed(content), _fixed(header))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no record of a cycle; name another --out") from error
    if found:
        raise DataError(
            f"{path} is of a cycle with another {found}; give the same options to go on with it, "
            "or name another --out"
        )


def _fixed(header: dict[str, Any]) -> dict[str, Any]:
    """What may not change: a cycle can be given more methods, stages and repeats."""
    recipe = dict(header["recipe"])
    for name in ("name", "methods", "stages", "repeats"):
        del recipe[name]
    recipe["training"] = {key: recipe["training"][key] for key in ("model", "fit", "augment")}
    return {**header, "recipe": recipe}


def read_stages(folder: Path) -> list[StageResult]:
    """The finished stages of a run, none where it has not begun.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / RESULTS
    if not path.exists():
        return []
    try:
        return _STAGES.validate_json(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is no record of a run; name another --out") from error


def write_stages(folder: Path, stages: Sequence[StageResult]) -> None:
    """Replace the record of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps([asdict(stage) for stage in stages], indent=2) + "\n"
    write_durably(folder / RESULTS, content.encode())
