"""Options that the collector's verbs share: which frames, and what opens them."""

from pathlib import Path
from typing import Annotated

import typer

StoreOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the collected frames.")]

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Database of the frames, sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME; "
        "without it a file in --store.",
        show_default=False,
    ),
]

ObjectsOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where their bytes are, s3://BUCKET/PREFIX; without it in --store.",
        show_default=False,
    ),
]

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
