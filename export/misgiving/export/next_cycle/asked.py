"""What a cycle is asked to do: its file, and one to start from."""

import sys
from codecs import BOM_UTF8
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from misgiving.collector.format_names import Format
from misgiving.runtime.errors import InvalidInput, first_problem

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Specs = Annotated[tuple[str, ...], Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoreTable(_Table):
    """Where the fleet's frames are; as the options of ``misgiving collect``."""

    path: Path
    database: str | None = None
    objects: str | None = None
    open_with: tuple[Path, ...] = ()


class SelectTable(_Table):
    """Which frames somebody is to label, of those that nobody has labelled or is labelling."""

    budget: int = Field(default=200, ge=1)
    """Frames of high predicted loss that differ from each other."""
    audit: int = Field(default=200, ge=0)
    """Frames besides that are drawn at random: half of the audit sample, half of the others. They
    calibrate, and train nothing."""
    device: tuple[str, ...] = ()
    stream: tuple[str, ...] = ()
    campaign: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    bundle: str = ""


class AnnotatorsTable(_Table):
    """How the frames go out and come back."""

    format: Format = Format.COCO
    trust_untouched: bool = False
    """Whether who came back unchanged has been looked at."""


class TrainTable(_Table):
    """A training of a net of ours; see :func:`misgiving.trainer.train`."""

    data: Specs
    """What is labelled already, and is trained on again with the new labels."""
    init: str | None = None
    """A checkpoint, or ``default``; without it from nothing."""
    recipe: str | None = None
    epochs: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=0)


class AttachTable(_Table):
    """Heads on a net of somebody else; see :func:`misgiving.trainer.attach`."""

    net: Path
    data: Specs
    head: Specs = ("evidence-miss",)
    epochs: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)


class ExportTable(_Table):
    """Of the new bundle; its name is that of the bundle in the field."""

    version: str | None = None
    """The name of the cycle's folder by default."""
    licence: str = "not stated"
    precision: tuple[str, ...] = ()


class CalibrateTable(_Table):
    """What the thresholds promise, and on which data where the audit sample is too small."""

    val: str
    flag_rate: tuple[Share, ...] = (0.1,)
    miss_rate: tuple[Share, ...] = ()
    confidence: Share = 0.9


class MeasureTable(_Table):
    """On what both bundles are compared."""

    data: str


class FieldTable(_Table):
    """What the vehicles run; without a bundle the newest release of the store."""

    bundle: Path | None = None


class SignTable(_Table):
    """Whose release it is."""

    key: Path
    trust: Path | None = None
    """The keys that the vehicles trust; ``KEY.pub`` by default."""


class ReleaseTable(_Table):
    """How the release goes on from the first ring; as ``fleet release announce`` has it."""

    advance_after: Annotated[float, Field(gt=0)] | None = None
    """Hours in a ring; by hand without them."""


class Asked(_Table):
    """A whole file."""

    store: StoreTable
    select: SelectTable = SelectTable()
    annotators: AnnotatorsTable = AnnotatorsTable()
    train: TrainTable | None = None
    attach: AttachTable | None = None
    export: ExportTable = ExportTable()
    calibrate: CalibrateTable
    measure: MeasureTable
    field: FieldTable = FieldTable()
    sign: SignTable
    release: ReleaseTable = ReleaseTable()

    @model_validator(mode="after")
    def _one_of_both(self) -> "Asked":
        if (self.train is None) == (self.attach is None):
            raise ValueError("expected either [train] or [attach]")
        return self

    @property
    def base(self) -> tuple[str, ...]:
        """Specs of what is labelled already."""
        chosen = self.train or self.attach
        assert chosen is not None
        return chosen.data

    def keys(self) -> dict[str, Any]:
        """``table.key`` → its value as JSON has it."""
        tables = self.model_dump(mode="json")
        return {
            f"{t}.{key}": one for t, keys in tables.items() for key, one in (keys or {}).items()
        }


def read_asked(path: Path) -> Asked:
    """Read a cycle's file.

    Raises:
        InvalidInput: it cannot be read, or a key is unknown, missing or out of range.
    """
    try:
        text = path.read_bytes().removeprefix(BOM_UTF8).decode()
        return Asked.model_validate(tomllib.loads(text))
    except OSError as error:
        raise InvalidInput(
            f"{path}: {error.strerror}; expected a cycle in TOML. {_HINT}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{path} is no TOML: {error}; expected a cycle. {_HINT}") from error
    except ValidationError as error:
        problem = first_problem(error).replace("Value error, ", "")
        expected = "" if "expected" in problem else f"; expected {_expected(error)}"
        raise InvalidInput(f"{path}: {problem}{expected}. {_HINT}") from error


_HINT = "See 'misgiving next-cycle --describe'"


def _expected(error: ValidationError) -> str:
    """The keys of the table in which the first problem is, else the tables."""
    place = error.errors()[0]["loc"]
    table = _TABLES.get(str(place[0])) if len(place) > 1 else None
    if table is None:
        return ", ".join(f"[{name}]" for name in Asked.model_fields)
    return f"{', '.join(table.model_fields)} in [{place[0]}]"


_TABLES: dict[str, type[BaseModel]] = {
    "store": StoreTable,
    "select": SelectTable,
    "annotators": AnnotatorsTable,
    "train": TrainTable,
    "attach": AttachTable,
    "export": ExportTable,
    "calibrate": CalibrateTable,
    "measure": MeasureTable,
    "field": FieldTable,
    "sign": SignTable,
    "release": ReleaseTable,
}

TEMPLATE = """\
# A cycle of active learning; 'misgiving next-cycle' FILE --out DIR takes its next step.
# Paths are as on the command line: from the folder where the command is run.

[store]
path = "collected"
# database = "postgresql://fleet@db.example/fleet"
# objects = "s3://kept-frames/fleet"
# open_with = ["fleet.key"]

[select]
budget = 200            # frames of high predicted loss that differ from each other
audit = 200             # drawn at random besides, for calibration; 0 for none
# since = "4w"          # of their arrival, as until
# device = ["car-*"]    # as stream, campaign and bundle of 'misgiving frames list'

[annotators]
format = "coco"         # cvat, label-studio, yolo or deeplabcut
# trust_untouched = true  # everybody is looked at, changed or not

[train]
data = ["lsp:DATA/lsp#1-1000"]  # labelled already: trained on again, with the new labels
init = "default"        # or a checkpoint of yours; left out, it begins from nothing
# recipe = "cpu"
# epochs = 30

# [attach]              # instead of [train]: heads on a net of somebody else
# net = "people.toml"
# data = ["lsp:DATA/lsp#1-1000"]

[calibrate]
val = "lspet:DATA/lspet#8001-9000"  # trained nothing; takes the place of a small audit sample
flag_rate = [0.1]
# miss_rate = [0.2]

[measure]
data = "lspet:DATA/lspet#9001-10000"  # neither trained nor calibrated: both bundles on it

[export]
# version = "0.2.0"     # else the name of the cycle's folder
licence = "not stated"  # of the weights

[field]
# bundle = "default"    # that in the package, or a path; else the store's newest release

[sign]
key = "release.key"     # made by 'misgiving sign BUNDLE --key release.key --new-key'
# trust = "trusted"     # else release.key.pub

[release]
# advance_after = 24    # hours in a ring, then it goes to the next by itself; else by hand
"""
