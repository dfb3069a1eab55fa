"""The verb ``review``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from misgiving.collector.options import DatabaseOption, ObjectsOption, OpenWith, StoreOption

app = typer.Typer(rich_markup_mode=None)


@app.command()
def review(
    store: StoreOption = Path("collected"),
    database: DatabaseOption = None,
    objects: ObjectsOption = None,
    listen: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Address to listen on; port 0 takes a free one."),
    ] = "127.0.0.1:8080",
    open_with: OpenWith = None,
    behind_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-proxy",
            help="A proxy adds TLS, and says who asks in X-Forwarded-*; a login is needed.",
        ),
    ] = False,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Listen without TLS where other machines can reach it."),
    ] = False,
    add_user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Make an account, or give it another password, and end; the password is asked "
            "for, or read from stdin.",
        ),
    ] = None,
    remove_user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Take an account away, and end.")
    ] = None,
) -> None:
    """Look at the collected frames in a browser, and mark them.

    Without a login on this machine alone; elsewhere who looks needs an account.

    \b
    Example:
        misgiving review --store /data/collected --listen 127.0.0.1:8080
    """
    from misgiving.collector import Store
    from misgiving.collector.review.accounts import Accounts
    from misgiving.collector.review.serving import access_of, serve_review
    from misgiving.runtime.wire.sealing import read_opening_keys

    access = access_of(listen, behind_proxy=behind_proxy, insecure=insecure)
    keys = read_opening_keys(open_with or [])
    with Store(store, database, objects, create=False, keys=keys) as opened:
        if add_user is not None:
            Accounts(opened.database).add(add_user, _password())
            typer.echo(f"{add_user} may log in")
        if remove_user is not None:
            Accounts(opened.database).remove(remove_user)
            typer.echo(f"{remove_user} may not log in any more")
        if add_user is None and remove_user is None:
            serve_review(listen, opened, access)


def _password() -> str:
    """Asked for twice at a terminal, else the first line of stdin."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")
