"""What all tables of misgiving.toml have in common."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, ValidationInfo


class Table(BaseModel):
    """Refuses keys that it does not know, and values of another type."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


def beside_the_file(path: Path, info: ValidationInfo) -> Path:
    if "\0" in str(path):
        raise ValueError(f"{str(path)!r} has a zero byte; expected a path")
    return info.context / path if info.context is not None else path


Location = Annotated[Path, Field(strict=False), AfterValidator(beside_the_file)]
"""A path; a relative one in a file is meant from that file's folder."""
Bytes = Annotated[ByteSize, Field(ge=1)]
