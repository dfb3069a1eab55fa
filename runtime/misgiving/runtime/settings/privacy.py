"""The keys of [privacy]."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from misgiving.runtime.nouns import Position
from misgiving.runtime.privacy.fences import Circle, Fence, Polygon
from misgiving.runtime.settings.table import Table


def _place(degrees: list[float]) -> list[float]:
    Position(*degrees)
    return degrees


Place = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_place)]
"""Latitude and longitude, in degrees."""


_EXPECTED = (
    "expected centre with radius_m, or polygon. Write {centre = [48.1, 11.6], radius_m = 500}"
)


class FenceTable(Table):
    """A circle or a polygon on Earth."""

    centre: Place | None = None
    radius_m: float | None = None
    polygon: Annotated[tuple[Place, ...], Field(strict=False)] = ()

    @model_validator(mode="before")
    @classmethod
    def _has_no_other_key(cls, said: Any) -> Any:
        if isinstance(said, dict) and (strange := sorted(set(said) - set(cls.model_fields))):
            raise ValueError(f"a fence has {strange[0]!r}; {_EXPECTED}")
        return said

    @model_validator(mode="after")
    def _is_one(self) -> "FenceTable":
        is_circle = self.centre is not None and self.radius_m is not None
        half = (self.centre is None) != (self.radius_m is None)
        if half or is_circle == bool(self.polygon):
            raise ValueError(f"a fence is neither a circle nor a polygon; {_EXPECTED}")
        self.fence  # noqa: B018  # raises where it encloses nothing
        return self

    @property
    def fence(self) -> Fence:
        """What it encloses."""
        if self.centre is not None and self.radius_m is not None:
            return Circle(Position(*self.centre), self.radius_m)
        return Polygon(tuple(Position(*corner) for corner in self.polygon))


class PrivacyTable(Table):
    """What may be kept for the fleet, and what of it nobody shall see."""

    collect: bool = True
    """Whether frames are kept for the fleet at all."""
    crop: bool = False
    """Whether of a kept picture only the persons' windows stay, and the rest is grey."""
    blur_heads: bool = False
    """Whether heads are blurred in kept pictures, as far as the answer tells where they are."""
    hook: str | None = None
    """package.module:function that is given each picture to be kept, with its answer, and gives
    back what may be seen of it."""
    geofence: Annotated[tuple[FenceTable, ...], Field(strict=False)] = ()
    """Circles {centre = [LAT, LON], radius_m = METRES} and polygons {polygon = [[LAT, LON], …]}, in
    degrees; with one, a frame whose client does not say where it was taken is not kept."""
    geofence_keeps: Literal["outside", "inside"] = "outside"
    """Outside or inside: where, of all the fences, frames are kept."""
    position: bool = False
    """Whether a kept frame tells where it was taken."""
