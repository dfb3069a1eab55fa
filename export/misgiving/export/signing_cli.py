"""The verbs ``sign`` and ``pack``: a bundle on its way to vehicles."""

from pathlib import Path
from typing import Annotated

import typer


def sign(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    key: Annotated[
        Path, typer.Option(metavar="FILE", help="Private key; the public one is FILE.pub.")
    ],
    new_key: Annotated[
        bool,
        typer.Option(
            "--new-key",
            help="Make FILE and FILE.pub first; they must be new. A FILE.pem becomes P-256.",
        ),
    ] = False,
) -> None:
    """Sign a bundle for runtimes that trust the key. Other keys' signatures stay.

    Keep FILE where nobody else reads it, and copy FILE.pub into the vehicles' --trust DIR.
    A P-256 key in PEM signs as OpenSSF Model Signing does, in model.sig; that holds one signature.

    Example: misgiving sign bundle --key release.key --new-key
    """
    from misgiving.runtime import sign_bundle

    id = sign_bundle(bundle, key, new=new_key)
    if new_key:
        typer.echo(f"new key {id} in {key}, its public half in {key}.pub")
    typer.echo(f"{bundle} signed by key {id}")


def pack(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The zip; must be new.")],
) -> None:
    """Write a bundle as one zip, for transport. Every --bundle takes that too.

    Example: misgiving pack bundle --out bundle.zip
    """
    from misgiving.runtime import pack_bundle

    pack_bundle(bundle, out)
    typer.echo(f"{out}: {out.stat().st_size:,} bytes")
