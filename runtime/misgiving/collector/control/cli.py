"""The verbs ``fleet``: how vehicles do, and what they are asked to keep."""

from pathlib import Path
from typing import Annotated

import typer

from misgiving.collector.control.release_cli import app as release
from misgiving.collector.control.revocations_cli import app as revocations
from misgiving.collector.options import DatabaseOption, ObjectsOption, StoreOption

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
def status(
    store: StoreOption,
    database: DatabaseOption = None,
    objects: ObjectsOption = None,
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
    from misgiving.collector.store import Store
    from misgiving.runtime.errors import printable
    from misgiving.runtime.net.roles import fits

    with Store(store, database, objects, create=False) as opened:
        devices = devices_of(Control(opened.database).runs())
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
def set_(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The campaign.")],
    store: StoreOption,
    database: DatabaseOption = None,
    objects: ObjectsOption = None,
) -> None:
    """Give a campaign to the vehicles that it is for; one of the same name is replaced.

    \b
    Example:
        misgiving fleet campaign set storm.toml --store /data/collected
    """
    from misgiving.collector.control.campaign_toml import read_campaign_file
    from misgiving.collector.control.control import Control
    from misgiving.collector.store import Store

    asked = read_campaign_file(file)
    with Store(store, database, objects, create=False) as opened:
        made = Control(opened.database).set_campaign(asked)
    typer.echo(f"campaign {made.name}, revision {made.revision}, for {', '.join(made.devices)}")


@campaign.command("list")
def list_(
    store: StoreOption,
    database: DatabaseOption = None,
    objects: ObjectsOption = None,
) -> None:
    """Say which campaigns there are, and how many vehicles run or refuse each.

    \b
    Example:
        misgiving fleet campaign list --store /data/collected
    """
    import time

    from misgiving.collector.control.control import Control
    from misgiving.collector.control.overview import campaign_lines, devices_of
    from misgiving.collector.store import Store
    from misgiving.runtime.errors import printable

    with Store(store, database, objects, create=False) as opened:
        control = Control(opened.database)
        devices = devices_of(control.runs())
        for line in campaign_lines(control.campaigns(), devices, time.time_ns()):
            typer.echo(printable(line))


@campaign.command()
def end(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the campaign.")],
    store: StoreOption,
    database: DatabaseOption = None,
    objects: ObjectsOption = None,
) -> None:
    """Take a campaign back; its vehicles return to their own settings.

    \b
    Example:
        misgiving fleet campaign end storm --store /data/collected
    """
    from misgiving.collector.control.control import Control
    from misgiving.collector.store import Store

    with Store(store, database, objects, create=False) as opened:
        Control(opened.database).end_campaign(name)
    typer.echo(f"campaign {name} has ended; vehicles learn so with their next report")
