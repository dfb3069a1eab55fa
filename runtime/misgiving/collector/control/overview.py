"""How the fleet does, for people and as records: pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from misgiving.collector.control.control import Run, SetCampaign
from misgiving.runtime.verbs.status import duration
from misgiving.runtime.wire.records import finite
from misgiving.runtime.wire.reports import Report


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of one device."""

    newest: Run
    """Of its processes, the one that reported last."""
    runs: int
    lost: int
    """Reports of all its processes that never came."""


def devices_of(runs: Sequence[Run]) -> dict[str, Device]:
    """By name: how each device does.

    Args:
        runs: in the order in which they reported last.
    """
    lost, count = Counter[str](), Counter[str]()
    newest: dict[str, Run] = {}
    for run in runs:
        name = run.report.device_id
        lost[name] += run.lost
        count[name] += 1
        newest[name] = run
    return {name: Device(newest[name], count[name], lost[name]) for name in sorted(newest)}


def record_of(name: str, device: Device) -> dict[str, object]:
    """A device for a program: its newest report, and what is known around it."""
    record: dict[str, Any] = asdict(device.newest.report)
    if running := record["running"]:
        running["threshold"] = finite(running["threshold"])
    return {
        "device": name,
        "received_time_unix_nano": device.newest.received_time_unix_nano,
        "runs": device.runs,
        "lost_reports": device.lost,
        "report": record,
    }


def lines_of(name: str, device: Device, now_ns: int) -> Iterator[str]:
    """A device for people."""
    report = device.newest.report
    ago = max(0, now_ns - device.newest.received_time_unix_nano) / 1e9
    yield f"{name or '(no name)'}: last report {duration(ago)} ago, up {duration(report.uptime_s)}"
    if running := report.running:
        yield (
            f"  {running.name} {running.version} ({running.bundle_digest[:12]}) on "
            f"{running.engine}, misgiving {report.software_version}"
        )
    else:
        yield f"  nothing is loaded, misgiving {report.software_version}"
    yield f"  {_counts(report)}"
    if report.budgets:
        left = (f"{one.left:,} {one.unit} this {one.period}" for one in report.budgets)
        yield f"  budget left: {', '.join(left)}"
    if report.spool:
        spool = report.spool
        yield (
            f"  spool: {spool.pending:,} frames wait, {spool.lost:,} lost, {spool.evicted:,} "
            f"evicted, {spool.refused:,} refused"
        )
    if report.drifting:
        yield "  DRIFT: predicted losses have left the bundle's reference"
    if report.last_exchange:
        yield f"  exchange: {report.last_exchange}"
    if campaign := report.campaign:
        state = f"refused: {campaign.refusal}" if campaign.refusal else "runs"
        yield f"  campaign {campaign.name}, revision {campaign.revision}: {state}"
    if release := report.release:
        why = f": {release.why}" if release.why else ""
        yield f"  release {release.digest[:12]}: {release.state}{why}"
    if (revocations := report.revocations) and revocations.refusal:
        yield f"  revocations {revocations.sha256[:12]}: refused: {revocations.refusal}"
    if device.lost:
        yield f"  GAPS: {device.lost:,} reports never came"


def _counts(report: Report) -> str:
    failed = report.failed or {}
    why = ", ".join(f"{count:,} {status}" for status, count in failed.items() if count)
    kept = ", ".join(f"{count:,} {reason}" for reason, count in (report.kept or {}).items())
    return (
        f"{report.answered:,} frames answered (p99 {report.answered_in.quantile(0.99):.3f} s), "
        f"{report.dropped:,} dropped, {sum(failed.values()):,} failed"
        + (f" ({why})" if why else "")
        + f"; {report.persons:,} persons, {report.flagged:,} flagged; kept: {kept or 'none'}"
    )


def campaign_lines(
    campaigns: Sequence[SetCampaign], devices: Mapping[str, Device], now_ns: int
) -> Iterator[str]:
    """What each campaign is, and what vehicles say of it."""
    for one in campaigns:
        campaign = one.campaign
        said = [
            state
            for device in devices.values()
            if (state := device.newest.report.campaign)
            and (state.name, state.revision) == (campaign.name, campaign.revision)
        ]
        refused = [state.refusal for state in said if state.refusal]
        flags = ", ".join(f"{key} = {value}" for key, value in (campaign.flags or {}).items())
        yield (
            f"{campaign.name}, revision {campaign.revision}, {state_of(one, now_ns)}: "
            f"{flags}; for {', '.join(campaign.devices)}; "
            f"devices that run it: {len(said) - len(refused)}, that refuse it: {len(refused)}"
            + (f" ({refused[0]})" if refused else "")
        )


def state_of(one: SetCampaign, now_ns: int) -> str:
    """A word for it."""
    if one.ended_time_unix_nano is not None:
        return "ended"
    return "running" if one.campaign.runs_at(now_ns) else "expired"
