"""Options that the collector's verbs share: which frames, and what opens them."""

from pathlib import Path
from typing import Annotated

import typer

StoreOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the collected frames.")]

OpenWith = Annotated[
    list[Path] | None,
    typer.Option(
        "--open-with",
        metavar="FILE",
        help="The fleet's private key, which opens sealed frames; again for each further one.",
        envvar="MISGIVING_OPEN_WITH",
        show_default=False,
    ),
]
