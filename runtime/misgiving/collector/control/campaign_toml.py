"""A campaign as a file of a fleet engineer."""

import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from misgiving.runtime.errors import DataError, first_problem
from misgiving.runtime.settings.campaigns import flags_of
from misgiving.runtime.wire.campaigns import KEYS, Campaign

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LAST_YEAR = 2200  # nanoseconds in 64 bits end in 2262

Word = Annotated[str, Field(min_length=1, max_length=256)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Word
    devices: Annotated[tuple[Word, ...], Field(min_length=1)]
    expires: datetime
    flags: dict[str, Any]

    @field_validator("expires")
    @classmethod
    def _later(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no zone; expected one, as in {value}Z")
        if value.timestamp() <= time.time():
            raise ValueError(f"{value.isoformat()} is past; expected a time to come")
        if value.year > _LAST_YEAR:
            raise ValueError(f"{value.isoformat()} is too far; expected {_LAST_YEAR} or before")
        return value

    @field_validator("flags")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            raise ValueError(f"is empty; expected one of {', '.join(KEYS)}")
        if unknown := sorted(value.keys() - set(KEYS)):
            raise ValueError(f"{unknown[0]} is none of a campaign's; expected {', '.join(KEYS)}")
        return value


def read_campaign_file(path: Path) -> Campaign:
    """The campaign that a TOML file describes.

    Raises:
        DataError: it cannot be read, or is none.
        InvalidInput: a value is none that its key takes.
    """
    try:
        said = _File.model_validate(tomllib.loads(path.read_text("utf-8-sig")))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a campaign in TOML") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is no TOML: {error}; expected a campaign") from error
    except ValidationError as error:
        problem = first_problem(error).replace("Value error, ", "")
        if "expected" not in problem:
            problem += "; expected name, devices, expires and [flags]"
        raise DataError(f"{path}: {problem}. Correct the file") from error
    campaign = Campaign(
        name=said.name,
        devices=said.devices,
        expiry_time_unix_nano=int(said.expires.timestamp()) * 10**9,
        flags=said.flags,
    )
    flags = flags_of(campaign)  # sizes as "200MB" become numbers
    return Campaign(
        name=said.name,
        devices=said.devices,
        expiry_time_unix_nano=campaign.expiry_time_unix_nano,
        flags={key: getattr(flags, key) for key in said.flags},
    )
