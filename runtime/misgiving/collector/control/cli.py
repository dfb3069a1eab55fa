"""The verbs ``fleet``: how vehicles do, and what they are asked to keep."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from misgiving.collector.control.release_cli import app as release
from misgiving.collector.control.revocations_cli import app as revocations
from misgiving.collector.frames.options import of_metadata

if TYPE_CHECKING:
    from misgiving.collector.store import Store

app = typer.Typer(
    help="How vehicles do, and what they are asked to keep.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
campaign = typer.Typer(
    help="What some vehicles are to keep for a while.", rich_markup_mode=None, no_args_is_help=True
)
app.add_typer(campaign, name="campaign")
app.add_typer(release, name="release")
app.add_typer(revocations, name="revocations")


@app.command()
@of_metadata
def status(
    store: "Store",
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Only this device; with * at its end, all that begin so."
        ),
    ] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON record a line.")] = False,
) -> None:
    """Say how each vehicle does, by its last report, and which reports were lost.

    \b
    Example:
        misgiving fleet status --store /data/collected
    """
    import json
    import time

    from misgiving.collector.control.control import Control
    from misgiving.collector.control.overview import devices_of, lines_of, record_of
    from misgiving.runtime.errors import printable
    from misgiving.runtime.net.roles import fits

    devices = devices_of(Control(store.database).runs())
    found = {name: one for name, one in devices.items() if fits(device, name)}
    if not found:
        typer.echo("no vehicle has reported", err=True)
    for name, one in found.items():
        if as_json:
            typer.echo(json.dumps(record_of(name, one)))
        else:
            for line in lines_of(name, one, time.time_ns()):
                typer.echo(printable(line))


@campaign.command("set")
@of_metadata
def set_(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The campaign.")],
    store: "Store",
) -> None:
    """Give a campaign to the vehicles that it is for; one of the same name is replaced.

    \b
    Example:
        misgiving fleet campaign set storm.toml --store /data/collected
    """
    from misgiving.collector.control.campaign_toml import read_campaign_file
    from misgiving.collector.control.control import Control

    made = Control(store.database).set_campaign(read_campaign_file(file))
    typer.echo(f"campaign {made.name}, revision {made.revision}, for {', '.join(made.devices)}")


@campaign.command("list")
@of_metadata
def list_(
    store: "Store",
) -> None:
    """Say which campaigns there are, and how many vehicles run or refuse each.

    \b
    Example:
        misgiving fleet campaign list --store /data/collected
    """
    import time

    from misgiving.collector.control.control import Control
    from misgiving.collector.control.overview import campaign_lines, devices_of
    from misgiving.runtime.errors import printable

    control = Control(store.database)
    devices = devices_of(control.runs())
    if not (campaigns := control.campaigns()):
        typer.echo("no campaign is set", err=True)
    for line in campaign_lines(campaigns, devices, time.time_ns()):
        typer.echo(printable(line))


@campaign.command()
@of_metadata
def end(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the campaign.")],
    store: "Store",
) -> None:
    """Take a campaign back; its vehicles return to their own settings.

    \b
    Example:
        misgiving fleet campaign end storm --store /data/collected
    """
    from misgiving.collector.control.control import Control

    Control(store.database).end_campaign(name)
    typer.echo(f"campaign {name} has ended; vehicles learn so with their next report")
