"""The keys of [fleet]."""

from pydantic import model_validator

from misgiving.runtime.settings.table import Location, Table


class FleetTable(Table):
    """What the collector is told, and may ask for."""

    reports: bool = True
    """Whether the collector is told once a minute how the device does, in counts."""
    campaigns: bool = False
    """Whether the collector's campaigns may change what is flagged and kept, within the limits of
    `[flags]`."""
    releases: Location | None = None
    """Folder for bundles that the collector releases to this device; the newest that is trusted
    answers instead of `bundle.path`. Without it none is taken."""

    @model_validator(mode="after")
    def _acknowledged(self) -> "FleetTable":
        if (self.campaigns or self.releases) and not self.reports:
            raise ValueError(
                "campaigns or releases are taken and nothing is reported; expected reports, which "
                "acknowledge them. Leave fleet.reports out, or these"
            )
        return self

    def check(self, *, collector: bool, trust: bool) -> None:
        """Raise ValueError where there is no collector to follow, or no key for a release."""
        if (self.campaigns or self.releases) and not collector:
            raise ValueError(
                "campaigns or releases are taken and there is no collector; expected one that they "
                "come from. Add --collector HOST:PORT"
            )
        if self.releases and not trust:
            raise ValueError(
                "releases are taken and no key is trusted; expected the keys whose bundles this "
                "device takes. Add --trust DIR"
            )
