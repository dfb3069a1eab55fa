"""The verbs ``fleet revocations``: what vehicles are to take no longer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from misgiving.collector.frames.options import of_metadata

if TYPE_CHECKING:
    from misgiving.collector.store import Store

app = typer.Typer(
    help="Keys, bundles and old releases that vehicles are to take no longer.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

List = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="Text: ids of keys, digests of bundles, and 'floor NAME RELEASE', one a line.",
    ),
]


@app.command()
def sign(
    file: List,
    key: Annotated[Path, typer.Option(metavar="FILE", help="Private key that signs releases.")],
) -> None:
    """Sign a list for vehicles that trust the key, into FILE.sig. Needs no store.

    \b
    Example:
        misgiving fleet revocations sign revoked.txt --key release.key
    """
    from misgiving.runtime.bundles.revocations import sign_revocations

    typer.echo(f"{file} signed by key {sign_revocations(file, key)}, in {file}.sig")


@app.command()
@of_metadata
def announce(
    file: List,
    store: "Store",
    trust: Annotated[
        Path, typer.Option(metavar="PATH", help="Folder of the keys that the vehicles trust.")
    ],
) -> None:
    """Hand a signed list out to all vehicles, which mind it for good. FILE.sig lies beside it.

    \b
    Example:
        misgiving fleet revocations announce revoked.txt --store /data/collected --trust trusted
    """
    from misgiving.collector.control.revoking import Revoking

    revoking = Revoking(store.database)
    signed, says = revoking.announce(file, trust)
    typer.echo(
        f"list {signed.sha256[:12]} for all vehicles, keys and bundles: {len(says.revoked)}, "
        f"floors: {len(says.floors)}; vehicles learn so with their next report"
    )
    if answering := revoking.said(signed).answering:
        typer.echo(
            f"{answering} vehicles answer with a bundle of it, which they do not take at their "
            "next start; expected a later release to be with them by then. Announce one",
            err=True,
        )


@app.command("list")
@of_metadata
def list_(store: "Store") -> None:
    """Say what the last list revokes, and how many vehicles mind or refuse it.

    \b
    Example:
        misgiving fleet revocations list --store /data/collected
    """
    from misgiving.collector.control.revoking import Revoking
    from misgiving.runtime.bundles.revocations import parse_revocations
    from misgiving.runtime.errors import printable

    revoking = Revoking(store.database)
    if (signed := revoking.newest()) is None:
        typer.echo("nothing is revoked", err=True)
        return
    says = parse_revocations(signed.text, "the list")
    for line in (*sorted(says.revoked), *(f"floor {x} {n}" for x, n in says.floors.items())):
        typer.echo(printable(line))
    said = revoking.said(signed)
    why = "".join(f"; {count} say: {reason}" for reason, count in said.refused.most_common())
    line = f"list {signed.sha256[:12]}: vehicles that mind it: {said.minded}, that refuse it: "
    line += f"{sum(said.refused.values())}{why}; that answer with a bundle of it: {said.answering}"
    typer.echo(printable(line), err=True)
