"""What all tables of misgiving.toml have in common."""

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """Refuses keys that it does not know, and values of another type."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )
