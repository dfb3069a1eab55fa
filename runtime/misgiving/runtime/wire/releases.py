"""A bundle that the fleet side gives to vehicles, and as a message."""

from dataclasses import asdict, dataclass

from misgiving.v1 import control_pb2 as wire


@dataclass(frozen=True, slots=True)
class Release:
    """A bundle as a zip."""

    digest: str
    """sha256 of the bundle's manifest, in hex."""
    name: str
    version: str
    release: int
    size_bytes: int
    """Of the zip."""
    sha256: str
    """Of the zip, in hex."""


def to_release_message(release: Release) -> wire.Release:
    """As it travels."""
    return wire.Release(**asdict(release))


def to_release(message: wire.Release) -> Release:
    """What a message holds."""
    return Release(
        message.digest,
        message.name,
        message.version,
        message.release,
        message.size_bytes,
        message.sha256,
    )
