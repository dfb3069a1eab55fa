"""The verbs ``fleet release``: bundles to vehicles, ring by ring."""

from pathlib import Path
from typing import Annotated

import typer

from misgiving.collector.options import DatabaseOption, ObjectsOption, StoreOption

app = typer.Typer(
    help="Bundles to vehicles, ring by ring.", rich_markup_mode=None, no_args_is_help=True
)

Digest = Annotated[
    str, typer.Argument(metavar="HEX", help="What the digest of the bundle begins with.")
]


@app.command()
def announce(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE.zip", help="Signed, and packed.")],
    store: StoreOption,
    trust: Annotated[
        Path, typer.Option(metavar="PATH", help="Folder of the keys that the vehicles trust.")
    ],
    database: DatabaseOption = None,
    objects: ObjectsOption = None,
) -> None:
    """Release a bundle to the first ring: 1 % of the vehicles, and one at least.

    \b
    Example:
        misgiving fleet release announce bundle.zip --store /data/collected --trust trusted
    """
    from misgiving.collector.control.releases import Releases
    from misgiving.collector.store import Store

    with Store(store, database, objects, create=False) as opened:
        made = Releases(opened.database).announce(bundle, trust)
    typer.echo(f"release {made.version} of {made.name} ({made.digest[:12]}) for the first ring")


@app.command("list")
def list_(
    store: StoreOption,
    database: DatabaseOption = None,
    objects: ObjectsOption = None,
) -> None:
    """Say how far each release has come.

    \b
    Example:
        misgiving fleet release list --store /data/collected
    """
    from misgiving.collector.control.releases import Releases
    from misgiving.collector.control.rings import RINGS
    from misgiving.collector.store import Store
    from misgiving.runtime.errors import printable

    with Store(store, database, objects, create=False) as opened:
        releases = Releases(opened.database)
        for one in releases.announced():
            states = releases.states(one.release.digest)
            said = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            halted = f"; HALTED: {one.halted}" if one.halted else ""
            release = one.release
            line = f"{release.digest[:12]} {release.name} {release.version}, "
            line += f"ring of {RINGS[one.ring]:.0%}: {said or 'no device yet'}{halted}"
            typer.echo(printable(line))


@app.command()
def advance(
    digest: Digest,
    store: StoreOption,
    database: DatabaseOption = None,
    objects: ObjectsOption = None,
) -> None:
    """Release a bundle to the next ring, once a device has proved it.

    \b
    Example:
        misgiving fleet release advance 3f1c --store /data/collected
    """
    from misgiving.collector.control.releases import Releases
    from misgiving.collector.store import Store

    with Store(store, database, objects, create=False) as opened:
        share = Releases(opened.database).advance(digest)
    typer.echo(f"released to {share:.0%} of the vehicles")


@app.command()
def halt(
    digest: Digest,
    store: StoreOption,
    database: DatabaseOption = None,
    objects: ObjectsOption = None,
) -> None:
    """Release a bundle to nobody else; vehicles that have it keep it.

    \b
    Example:
        misgiving fleet release halt 3f1c --store /data/collected
    """
    from misgiving.collector.control.releases import Releases
    from misgiving.collector.store import Store

    with Store(store, database, objects, create=False) as opened:
        Releases(opened.database).halt(digest, "by hand")
    typer.echo("halted; what is announced next is given to vehicles again")
