"""The keys of misgiving.toml, a class for each of its tables.

The docstring below a key is what docs/configuration.md and errors say of it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    Field,
    NonNegativeInt,
    ValidationInfo,
    model_validator,
)

from misgiving.runtime.flags.budgets import DAY, HOUR, MINUTE, Budget, Unit
from misgiving.runtime.flags.streams import NEAR_DUPLICATE
from misgiving.runtime.geometry import MAX_REGIONS, Region, check_area
from misgiving.runtime.net.listening import check_address, check_exposed, check_plain
from misgiving.runtime.settings.fleet import FleetTable
from misgiving.runtime.settings.privacy import PrivacyTable
from misgiving.runtime.settings.table import Bytes, Location, Table, beside_the_file
from misgiving.runtime.settings.uploading import UploadTable


def _address(text: str) -> str:
    check_address(text)
    return text


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"audit rate is {value:g}; expected a share from 0 to 1, for example 0.01")
    return value


def _utf8(text: object) -> object:
    try:
        str(text).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"device id is {text!r}, with bytes that are not UTF-8; expected text, "
            "which collected frames carry. Name the device in UTF-8"
        ) from error
    return text


def _box(numbers: list[float]) -> list[float]:
    check_area(Region(*numbers))
    return numbers


def _recording_beside_the_file(source: str, info: ValidationInfo) -> str:
    """Cameras and URLs are meant as they are."""
    if info.context is None or "://" in source or source.startswith("env:") or source.isdecimal():
        return source
    return str(beside_the_file(Path(source), info))


Box = Annotated[list[float], Field(min_length=4, max_length=4), AfterValidator(_box)]
Address = Annotated[str, AfterValidator(_address)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Share = Annotated[float, AfterValidator(_share)]
Frames = Annotated[int, Field(ge=2)]
Around = Annotated[float, Field(ge=0, le=60)]


class ServerTable(Table):
    """Where the server is found, and what it is called."""

    listen: Address = "127.0.0.1:50051"
    """HOST:PORT to listen on; port 0 takes a free one."""
    device_id: Annotated[str, BeforeValidator(_utf8)] = ""
    """Name of this device in collected frames."""
    shared_memory: Annotated[ByteSize, Field(ge=0)] = ByteSize(256 << 20)
    """Bytes of shared memory that clients on this machine may have for raw frames, all together, or
    a size such as "256MiB"; 0 for none."""
    max_message_bytes: Bytes = ByteSize(32 << 20)
    """Bytes of the largest request, or a size such as "8MiB"; raw RGB of 4096 × 2160 px fits."""
    max_in_flight_bytes: Bytes = ByteSize(1 << 30)
    """Bytes of requests at once, which take up to four times as much memory; each stream counts as
    the largest request, and as four of those that it sends. By default 31 streams of JPEGs fit."""

    @model_validator(mode="after")
    def _a_message_fits(self) -> "ServerTable":
        if self.max_in_flight_bytes < self.max_message_bytes:
            raise ValueError(
                f"max_in_flight_bytes is {self.max_in_flight_bytes:,}; expected at least "
                f"max_message_bytes, {self.max_message_bytes:,}, or nothing is taken. Raise it"
            )
        return self


class BundleTable(Table):
    """Which bundle answers, and on what."""

    path: Location | None = None
    """Folder or zip of the bundle; without it the package's own."""
    device: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    """One of cpu, cuda, tensorrt."""
    precision: str = "fp32"
    """fp32, or another that the bundle has: fp16, int8."""
    threads: NonNegativeInt = 0
    """CPU threads within one inference; 0 for half of the usable cores."""
    trust: Location | None = None
    """Folder of trusted keys (`*.pub`), or one such key; without it every bundle is taken."""
    slower: Annotated[float, Field(gt=1)] = 2.0
    """How many times as long as the former's batches those of a bundle on probation may take, above
    1; beyond that the former comes back."""


class ShadowTable(Table):
    """A second bundle, which answers silently; ``bundle.trust`` holds for it too."""

    path: Location | None = None
    """Folder or zip of a bundle that answers some frames too, after their replies have left;
    without it none does."""
    device: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    """One of cpu, cuda, tensorrt."""
    precision: str = "fp32"
    """fp32, or another that this bundle has: fp16, int8."""
    threads: NonNegativeInt = 1
    """CPU threads within one inference of this bundle; 0 for half of the usable cores."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of frames that it is asked about, 0 to 1."""
    disagreement: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of a person's joints, 0 to 1; where more than these are apart by over 0.2 of the torso,
    the two disagree."""
    keep: bool = False
    """Whether a frame on which they disagree is kept."""


class FlagsTable(Table):
    """Who is flagged, and what is kept."""

    threshold: float | str | None = None
    """Predicted loss from which on a person is flagged, or the name of one of the bundle's
    thresholds; without it `likely`."""
    audit_rate: Share = 0.01
    """Share of persons to keep at random, 0 to 1, whatever else is decided of them."""
    release: float | str | None = None
    """Predicted loss, or the name of one of the bundle's thresholds, below which everybody in a
    frame is when an event is over; of an event one frame is kept; without it each flagged one."""
    repeat_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which an event that lasts is kept again; without it never."""
    interval_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds that are at least between flagged frames of a stream that are kept."""
    near_duplicate: Annotated[float, Field(ge=0, le=2)] | None = None
    """Cosine distance of embeddings, 0 to 2, up to which a flagged person resembles one that was
    kept, which is not kept again; without it none is compared."""
    frames_per_minute: Frames | None = None
    """Frames that the device keeps in any minute at most, 2 or more; without it no limit."""
    frames_per_hour: Frames | None = None
    """Frames that the device keeps in any hour at most, 2 or more; without it no limit."""
    frames_per_day: Frames | None = None
    """Frames that the device keeps in any day at most, 2 or more; without it no limit."""
    bytes_per_minute: Bytes | None = None
    """Bytes of kept frames in any minute at most, or a size such as "5MB"; without it no limit."""
    bytes_per_hour: Bytes | None = None
    """Bytes of kept frames in any hour at most, or a size such as "50MB"; without it no limit."""
    bytes_per_day: Bytes | None = None
    """Bytes of kept frames in any day at most, or a size such as "500MB"; without it no limit."""
    audit_reserve: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of these budgets that only the frames kept at random take, between 0 and 1."""

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """Those that are set."""
        every: tuple[tuple[int | None, Unit, float], ...] = (
            (self.frames_per_minute, "frames", MINUTE),
            (self.frames_per_hour, "frames", HOUR),
            (self.frames_per_day, "frames", DAY),
            (self.bytes_per_minute, "bytes", MINUTE),
            (self.bytes_per_hour, "bytes", HOUR),
            (self.bytes_per_day, "bytes", DAY),
        )
        return tuple(
            Budget(amount, unit, seconds) for amount, unit, seconds in every if amount is not None
        )


class PersonsTable(Table):
    """Who is looked for in frames that come without regions."""

    detector: Location | None = None
    """TOML of a person detector; without it one person is looked for in the whole frame."""
    follow: NonNegativeInt = 0
    """Frames of a stream from one full look to the next; in between, persons are looked for where
    they were. 0 follows nobody."""
    fixed: dict[str, Annotated[list[Box], Field(min_length=1, max_length=MAX_REGIONS)]] = {}
    """Regions of each camera, by its stream id: a list of [x, y, width, height] in image pixels."""


class SpoolTable(Table):
    """Where kept frames wait, and where they go."""

    folder: Location | None = None
    """Folder in which kept frames wait for their upload; without it none is kept."""
    quota: Bytes = ByteSize(1 << 30)
    """Bytes of frames that may wait, 1 or more, or a size such as "2GiB"; beyond it the least
    valuable go."""
    days: Annotated[float, Field(gt=0)] | None = None
    """Days that a frame may wait, above 0; one that is older goes; without it no limit."""
    near_duplicate: Annotated[float, Field(ge=0, le=2)] = NEAR_DUPLICATE
    """Cosine distance of embeddings, 0 to 2, up to which a frame is nearly the same as another one
    that was kept, and goes before those that are alone."""
    seal_to: Location | None = None
    """PEM of the fleet's public X25519 key, for which frames are sealed on their way to the disk;
    without it they are not."""
    jpeg: Annotated[int, Field(ge=1, le=100)] | None = None
    """Quality, 1 to 100, of the JPEG that a raw or redacted picture is kept as; without it a PNG,
    which loses nothing. A picture that comes encoded is not encoded again."""
    collector: Address | None = None
    """HOST:PORT that the spool is uploaded to."""
    collector_tls: Location | None = None
    """Folder of `ca.crt`, by which the collector's certificate must be, and of `tls.crt` and
    `tls.key` to show it; without it there is no TLS."""


class TlsTable(Table):
    """Who may reach the server, and what they may call."""

    folder: Location | None = None
    """Folder of `tls.crt` and `tls.key`, for TLS, and of `ca.crt`, by which clients then need a
    certificate; read again when they change."""
    insecure: bool = False
    """Whether to listen without TLS, or answer Prometheus, where other machines can reach it."""
    infer: Names | None = None
    """DNS and URI names in the SAN of certificates that may ask for answers; one that ends in `*`
    stands for all that begin so. Without it everybody who comes through the handshake may."""
    admin: Names = ()
    """The same, for calls that change the server; these may infer too."""


class WatchTable(Table):
    """What `watch` shows and keeps beside the spool."""

    show: Address | None = None
    """HOST:PORT of this machine alone, where a browser sees the annotated pictures."""
    draw: Location | None = None
    """Folder for an annotated picture of each flagged event; beyond 1 GiB the oldest go."""
    clips: Location | None = None
    """Folder for a clip of each flagged event; beyond 1 GiB the oldest go."""
    before: Around = 5.0
    """Seconds that a clip shows before its event, 0 to 60."""
    after: Around = 5.0
    """Seconds that a clip shows after its event, 0 to 60."""


class CameraTable(Table):
    """One camera of `watch`."""

    source: Annotated[str, AfterValidator(_recording_beside_the_file)]
    """Camera (0 or /dev/video0), URL, env:NAME of a variable that holds one, or a recording."""
    fps: Annotated[float, Field(ge=0.001, le=10_000)] | None = None
    """Frames per second of a recording; without it its own, or 25."""
    frozen_after: Annotated[float, Field(gt=0)] = 10.0
    """Seconds without a frame after which the camera counts as frozen."""
    clips: bool = True
    """Whether flagged events of this camera become clips, where watch.clips is given."""


class MetricsTable(Table):
    """What Prometheus may ask."""

    listen: Address | None = None
    """HOST:PORT that answers Prometheus over HTTP; without it nobody is answered."""


class LogTable(Table):
    """What is said on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "warning"
    """One of debug, info, warning, error: the least that is logged."""
    format: Literal["text", "json"] = "text"
    """text, or json: a JSON record a line, for a collector of logs."""


class Settings(Table):
    """All of misgiving.toml; what is left out has its default.

    >>> settings = Settings.model_validate({"server": {"listen": "127.0.0.1:50051"}})
    >>> settings.flags.audit_rate
    0.01
    """

    server: ServerTable = ServerTable()
    bundle: BundleTable = BundleTable()
    shadow: ShadowTable = ShadowTable()
    flags: FlagsTable = FlagsTable()
    persons: PersonsTable = PersonsTable()
    spool: SpoolTable = SpoolTable()
    fleet: FleetTable = FleetTable()
    privacy: PrivacyTable = PrivacyTable()
    upload: UploadTable = UploadTable()
    watch: WatchTable = WatchTable()
    camera: dict[str, CameraTable] = {}
    """By name."""
    metrics: MetricsTable = MetricsTable()
    tls: TlsTable = TlsTable()
    log: LogTable = LogTable()

    @model_validator(mode="after")
    def _collector_has_a_spool(self, info: ValidationInfo) -> "Settings":
        if self.spool.collector and not self.spool.folder and info.context is None:
            raise ValueError(
                f"collector is {self.spool.collector} and there is no spool; uploads start from a "
                "spool. Add --spool DIR, or spool.folder in the file"
            )
        if info.context is None:
            self.fleet.check(collector=bool(self.spool.collector), trust=bool(self.bundle.trust))
        return self

    @model_validator(mode="after")
    def _pictures_beside_are_whole(self) -> "Settings":
        hidden = [key for key in ("crop", "blur_heads", "hook") if getattr(self.privacy, key)]
        beside = [key for key in ("draw", "clips") if getattr(self.watch, key)]
        if hidden and beside:
            raise ValueError(
                f"privacy.{hidden[0]} hides what watch.{beside[0]} would write to a folder; "
                "expected one of the two. Leave the other out"
            )
        return self

    @model_validator(mode="after")
    def _others_come_by_tls(self, info: ValidationInfo) -> "Settings":
        if info.context is not None:  # a file alone, which options may complete
            return self
        check_exposed(self.server.listen, self.tls.folder, self.tls.insecure)
        if self.metrics.listen:
            check_plain(self.metrics.listen, self.tls.insecure)
        if self.tls.folder is None and (self.tls.infer is not None or self.tls.admin):
            raise ValueError(
                "names have roles and there is no TLS; expected certificates that tell who calls. "
                "Add --tls DIR, or tls.folder in the file"
            )
        if self.spool.collector_tls and not self.spool.collector:
            raise ValueError(
                f"certificates of {self.spool.collector_tls} are for a collector, and there is "
                "none; expected where to upload to. Add --collector HOST:PORT"
            )
        return self


def keys_of(table: Table, above: str = "") -> Iterator[tuple[str, Any]]:
    """Each key with the tables that it is in, and its value."""
    for name in type(table).model_fields:
        value = getattr(table, name)
        if isinstance(value, Table):
            yield from keys_of(value, f"{above}{name}.")
        elif name == "camera":
            for which, one in value.items():
                yield from keys_of(one, f"{above}{name}.{which}.")
        else:
            yield above + name, value


def described() -> Iterator[str]:
    """The rows of the page's table: key, default, meaning."""
    for key, value in keys_of(Settings(camera={"NAME": CameraTable(source="")})):
        default = "–" if value in (None, "", {}) else f"`{value}`"
        yield f"| `{key}` | {default} | {meaning_of(key)} |"


def meaning_of(key: str) -> str:
    """What a key is, as a phrase; empty of a table."""
    table: type[BaseModel] = Settings
    if key.startswith("camera."):  # with a name
        table, key = CameraTable, key.split(".", 2)[-1]
    if key.startswith("persons.fixed."):
        key = "persons.fixed"
    for part in key.split("."):
        if part not in table.model_fields:
            return ""
        field = table.model_fields[part]
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            table = field.annotation
    text = " ".join((field.description or "").split()).rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
