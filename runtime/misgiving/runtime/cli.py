"""The command ``misgiving``: the runtime's verbs, and those that the other parts mount."""

import sys
from importlib import metadata
from typing import Annotated

import typer

from misgiving.runtime.errors import MisgivingError

EXTRAS = {
    "onnxruntime": "cpu",
    "torch": "train",
    "safetensors": "train",
    "scipy": "train",
    "tensorboard": "train",
    "matplotlib": "train",
    "onnx": "export",
    "onnxscript": "export",
    "sqlalchemy": "collector",
}
"""Module → the extra that brings it."""

app = typer.Typer(
    name="misgiving",
    help="Human pose estimation that knows when it is wrong.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"misgiving {metadata.version('misgiving')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Human pose estimation that knows when it is wrong."""


def _mount_verbs() -> None:
    for entry in metadata.entry_points(group="misgiving.verbs"):
        part: typer.Typer = entry.load()
        app.registered_commands.extend(part.registered_commands)
        app.registered_groups.extend(part.registered_groups)


def main() -> None:
    """Run the command; what a user can mend comes as one line on stderr, and exit code 2."""
    _mount_verbs()
    try:
        app()
    except MisgivingError as error:
        sys.exit(_say(str(error)))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        sys.exit(_say(f"{error.name} is not installed; run: pip install 'misgiving[{extra}]'"))


def _say(message: str) -> int:
    typer.echo(f"misgiving: {message}", err=True)
    return 2
