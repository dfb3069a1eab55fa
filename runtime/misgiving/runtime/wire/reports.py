"""What a vehicle reports to the fleet side, and as a message."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from google.protobuf.message import DecodeError

from misgiving.runtime.errors import DataError, InvalidInput
from misgiving.runtime.status import SpoolStatus
from misgiving.runtime.wire.status import to_spool, to_spool_message
from misgiving.v1 import control_pb2 as wire

_MOST_BOUNDS = 200
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class Running:
    """What answers on a vehicle."""

    name: str
    version: str
    bundle_digest: str
    engine: str
    threshold: float
    """The predicted_loss from which on a person is flagged."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often numbers were in each of some ranges."""

    bounds: tuple[float, ...] = ()
    """Upper bounds of the buckets but the last, which has none; rising."""
    counts: tuple[int, ...] = (0,)
    """One more than bounds."""

    def quantile(self, share: float) -> float:
        """A quantile for a share in [0, 1], as PromQL's histogram_quantile has it.

        Returns:
            Between the bounds of its bucket, in proportion; 0 of an empty histogram. Beyond the
            last bound it is that bound.
        """
        rank, below, before = share * sum(self.counts), 0.0, 0
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            if count and before + count >= rank:
                part = (rank - before) / count
                return below if math.isinf(bound) else below + (bound - below) * part
            below, before = bound, before + count
        return 0.0


@dataclass(frozen=True, slots=True)
class BudgetLeft:
    """What a budget of kept frames still allows."""

    unit: str
    """``frames`` or ``bytes``."""
    period: str
    """``minute``, ``hour`` or ``day``."""
    left: int


@dataclass(frozen=True, slots=True)
class CampaignState:
    """A campaign that a vehicle has been given."""

    name: str
    revision: int
    refusal: str = ""
    """Why it does not run; empty where it does."""


@dataclass(frozen=True, slots=True)
class ReleaseState:
    """What became of a release on a vehicle."""

    digest: str
    state: str
    """``fetching``, ``loading``, ``probation``, ``proved``, ``refused`` or ``back``."""
    why: str = ""

    @property
    def bad(self) -> bool:
        """Whether the vehicle does without it."""
        return self.state in ("refused", "back")


@dataclass(frozen=True, slots=True)
class RevocationsState:
    """A list of revocations that a vehicle has been given."""

    sha256: str
    refusal: str = ""
    """Why it does not mind it; empty where it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one process of a vehicle has counted since its start; the later one says all that the
    earlier one did.
    """

    device_id: str
    run_id: str
    """Of the process: 32 hexadecimal digits."""
    sequence: int
    """1, 2, 3 … within a run: a number that is missing is a report that was lost."""
    taken_time_unix_nano: int
    """By the vehicle's clock."""
    uptime_s: float = 0.0
    software_version: str = ""
    running: Running | None = None
    """None while nothing is loaded."""
    drifting: bool = False
    last_exchange: str = ""
    """What became of the last bundle that came while the process ran."""
    received: int = 0
    """Frames: answered + dropped + failed + those under way."""
    answered: int = 0
    dropped: int = 0
    failed: Mapping[str, int] | None = None
    """By gRPC status."""
    persons: int = 0
    flagged: int = 0
    """Persons whose score flags them."""
    kept: Mapping[str, int] | None = None
    """Frames to be kept, by the strongest reason of their persons."""
    withheld: Mapping[str, int] | None = None
    """Persons not to be kept, by the rule that said so."""
    answered_in: Histogram = Histogram()
    """From receipt to answer, in seconds."""
    predicted_loss: Histogram = Histogram()
    """Of each person, with all bundles that the process had."""
    spool: SpoolStatus | None = None
    """None where nothing is collected."""
    budgets: tuple[BudgetLeft, ...] = ()
    campaign: CampaignState | None = None
    release: ReleaseState | None = None
    revocations: RevocationsState | None = None


def to_report_message(report: Report) -> wire.Report:
    """As it travels."""
    message = wire.Report(
        device_id=report.device_id,
        run_id=report.run_id,
        sequence=report.sequence,
        taken_time_unix_nano=report.taken_time_unix_nano,
        uptime_nano=round(report.uptime_s * 1e9),
        software_version=report.software_version,
        running=wire.Running(**asdict(report.running)) if report.running else None,
        drifting=report.drifting,
        last_exchange=report.last_exchange,
        frames_received=report.received,
        frames_answered=report.answered,
        frames_dropped=report.dropped,
        frames_failed=report.failed,
        persons=report.persons,
        persons_flagged=report.flagged,
        frames_kept=report.kept,
        persons_withheld=report.withheld,
        answered_in=wire.Histogram(**asdict(report.answered_in)),
        predicted_loss=wire.Histogram(**asdict(report.predicted_loss)),
        spool=to_spool_message(report.spool) if report.spool else None,
        campaign=wire.CampaignState(**asdict(report.campaign)) if report.campaign else None,
        release=wire.ReleaseState(**asdict(report.release)) if report.release else None,
        revocations=wire.RevocationsState(**asdict(report.revocations))
        if report.revocations
        else None,
    )
    for budget in report.budgets:
        message.budgets.add(**asdict(budget))
    return message


def to_report(message: wire.Report) -> Report:
    """What a message of any release holds.

    Raises:
        InvalidInput: it does not identify itself, or a histogram is none.
    """
    _check(message)
    running, campaign = message.running, message.campaign
    return Report(
        device_id=message.device_id,
        run_id=message.run_id,
        sequence=message.sequence,
        taken_time_unix_nano=message.taken_time_unix_nano,
        uptime_s=message.uptime_nano / 1e9,
        software_version=message.software_version,
        running=Running(
            running.name, running.version, running.bundle_digest, running.engine, running.threshold
        )
        if message.HasField("running")
        else None,
        drifting=message.drifting,
        last_exchange=message.last_exchange,
        received=message.frames_received,
        answered=message.frames_answered,
        dropped=message.frames_dropped,
        failed=dict(message.frames_failed),
        persons=message.persons,
        flagged=message.persons_flagged,
        kept=dict(message.frames_kept),
        withheld=dict(message.persons_withheld),
        answered_in=_to_histogram(message.answered_in),
        predicted_loss=_to_histogram(message.predicted_loss),
        spool=to_spool(message.spool) if message.HasField("spool") else None,
        budgets=tuple(BudgetLeft(one.unit, one.period, one.left) for one in message.budgets),
        campaign=CampaignState(campaign.name, campaign.revision, campaign.refusal)
        if message.HasField("campaign")
        else None,
        release=ReleaseState(message.release.digest, message.release.state, message.release.why)
        if message.HasField("release")
        else None,
        revocations=RevocationsState(message.revocations.sha256, message.revocations.refusal)
        if message.HasField("revocations")
        else None,
    )


def serialised(report: Report) -> bytes:
    """As it is stored, on both sides."""
    return to_report_message(report).SerializeToString(deterministic=True)


def read_report(body: bytes) -> Report:
    """What :func:`serialised` made.

    Raises:
        DataError: it did not make these bytes.
    """
    try:
        return to_report(wire.Report.FromString(body))
    except DecodeError as error:
        raise DataError(
            f"{len(body)} bytes are no Report: {error}; expected one as a vehicle writes it"
        ) from error


def _check(message: wire.Report) -> None:
    if len(message.run_id) != 32 or not set(message.run_id) <= set("0123456789abcdef"):
        raise InvalidInput(
            f"run_id is {message.run_id[:40]!r}; expected 32 hexadecimal digits. Draw them at the "
            "start of the process"
        )
    if not 1 <= message.sequence < 1 << 63:
        raise InvalidInput(
            f"sequence is {message.sequence}; expected the reports of a run counted from 1 on"
        )
    if len(message.device_id) > _LONGEST or "\0" in message.device_id:
        raise InvalidInput(
            f"device_id is {message.device_id[:40]!r}, {len(message.device_id):,} characters; "
            f"expected at most {_LONGEST} and no zero byte. Name the device otherwise"
        )
    for name in ("answered_in", "predicted_loss"):
        if problem := _problem(getattr(message, name)):
            raise InvalidInput(
                f"{name} has {problem}; expected rising bounds, at most {_MOST_BOUNDS}, and one "
                "count more than bounds"
            )


def _problem(message: wire.Histogram) -> str:
    bounds, counts = message.bounds, message.counts
    if len(bounds) > _MOST_BOUNDS or len(counts) != (len(bounds) + 1 if counts else 0):
        return f"{len(bounds)} bounds and {len(counts)} counts"
    if any(not a < b for a, b in zip(bounds, bounds[1:], strict=False)):
        return "bounds that do not rise"
    return ""


def _to_histogram(message: wire.Histogram) -> Histogram:
    """An empty one where it is unset."""
    return (
        Histogram(tuple(message.bounds), tuple(message.counts)) if message.counts else Histogram()
    )
