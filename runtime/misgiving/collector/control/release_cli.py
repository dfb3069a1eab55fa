"""The verbs ``fleet release``: bundles to vehicles, ring by ring."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from misgiving.collector.frames.options import of_metadata

if TYPE_CHECKING:
    from misgiving.collector.store import Store

app = typer.Typer(
    help="Bundles to vehicles, ring by ring.", rich_markup_mode=None, no_args_is_help=True
)

Digest = Annotated[
    str, typer.Argument(metavar="HEX", help="What the digest of the bundle begins with.")
]


@app.command()
@of_metadata
def announce(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE.zip", help="Signed, and packed.")],
    store: "Store",
    trust: Annotated[
        Path, typer.Option(metavar="PATH", help="Folder of the keys that the vehicles trust.")
    ],
    advance_after: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="HOURS",
            help="Go from ring to ring by itself, so long after the one before, once a device has "
            "proved it and unless it is halted; by hand by default.",
        ),
    ] = None,
) -> None:
    """Release a bundle to the first ring: 1 % of the vehicles, and one at least.

    \b
    Example:
        misgiving fleet release announce bundle.zip --store /data/collected --trust trusted
    """
    from misgiving.collector.control.releases import Releases

    made = Releases(store.database).announce(bundle, trust, advance_after)
    typer.echo(f"release {made.version} of {made.name} ({made.digest[:12]}) for the first ring")


@app.command("list")
@of_metadata
def list_(store: "Store") -> None:
    """Say how far each release has come.

    \b
    Example:
        misgiving fleet release list --store /data/collected
    """
    from misgiving.collector.control.releases import Releases
    from misgiving.collector.control.rings import RINGS
    from misgiving.runtime.errors import printable

    releases = Releases(store.database)
    if not (announced := releases.announced()):
        typer.echo("no release is announced", err=True)
    for one in announced:
        states = releases.states(one.release.digest)
        said = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        release, hours = one.release, one.advance_after_hours
        line = f"{release.digest[:12]} {release.name} {release.version}, "
        line += f"ring of {RINGS[one.ring]:.0%}: {said or 'no device yet'}"
        if hours and not one.halted and one.ring + 1 < len(RINGS):
            line += f"; {hours:g} h in each ring"
        line += "; its bytes are deleted" if one.dropped else ""
        line += f"; HALTED: {one.halted}" if one.halted else ""
        typer.echo(printable(line))


@app.command()
@of_metadata
def advance(digest: Digest, store: "Store") -> None:
    """Release a bundle to the next ring, once a device has proved it.

    \b
    Example:
        misgiving fleet release advance 3f1c --store /data/collected
    """
    from misgiving.collector.control.releases import Releases

    share = Releases(store.database).advance(digest)
    typer.echo(f"released to {share:.0%} of the vehicles")


@app.command()
@of_metadata
def halt(digest: Digest, store: "Store") -> None:
    """Release a bundle to nobody else; vehicles that have it keep it.

    \b
    Example:
        misgiving fleet release halt 3f1c --store /data/collected
    """
    from misgiving.collector.control.releases import Releases

    Releases(store.database).halt(digest, "by hand")
    typer.echo("halted; what is announced next is given to vehicles again")
