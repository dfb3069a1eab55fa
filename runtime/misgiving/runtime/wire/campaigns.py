"""What some vehicles are to keep for a while, and as a message."""

from collections.abc import Mapping
from dataclasses import dataclass

from misgiving.v1 import control_pb2 as wire

_NUMBERS_OR_NAMES = ("threshold", "release")
_NUMBERS = (
    *("audit_rate", "repeat_s", "interval_s", "near_duplicate"),
    *("frames_per_minute", "frames_per_hour", "frames_per_day"),
    *("bytes_per_minute", "bytes_per_hour", "bytes_per_day"),
)
KEYS = (*_NUMBERS_OR_NAMES, *_NUMBERS)
"""Of [flags], those that a campaign may set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What some vehicles are to keep for a while."""

    name: str
    revision: int = 1
    """Counts how often it was set."""
    devices: tuple[str, ...]
    """One that ends in ``*`` stands for all that begin so."""
    expiry_time_unix_nano: int
    """When it ends by itself."""
    flags: Mapping[str, float | str] | None = None
    """Values of KEYS; what is left out stays the vehicle's."""

    def runs_at(self, unix_nano: int) -> bool:
        """Whether it has not expired."""
        return unix_nano < self.expiry_time_unix_nano


def to_campaign_message(campaign: Campaign) -> wire.Campaign:
    """As it travels."""
    message = wire.Campaign(
        name=campaign.name,
        revision=campaign.revision,
        devices=campaign.devices,
        expiry_time_unix_nano=campaign.expiry_time_unix_nano,
    )
    message.flags.SetInParent()
    for key, value in (campaign.flags or {}).items():
        setattr(message.flags, f"{key}_name" if isinstance(value, str) else key, value)
    return message


def to_campaign(message: wire.Campaign) -> Campaign:
    """What a message holds; what a later release has added is left out."""
    flags: dict[str, float | str] = {}
    for key in KEYS:
        for field in (key, f"{key}_name") if key in _NUMBERS_OR_NAMES else (key,):
            if message.flags.HasField(field):  # type: ignore[arg-type]
                flags[key] = getattr(message.flags, field)
    return Campaign(
        name=message.name,
        revision=message.revision,
        devices=tuple(message.devices),
        expiry_time_unix_nano=message.expiry_time_unix_nano,
        flags=flags,
    )


def serialised(campaign: Campaign) -> bytes:
    """As it is stored."""
    return to_campaign_message(campaign).SerializeToString(deterministic=True)


def read_campaign(body: bytes) -> Campaign:
    """What :func:`serialised` made."""
    return to_campaign(wire.Campaign.FromString(body))
