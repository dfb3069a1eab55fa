"""Options that verbs of this part share."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; must be new.")]
Epochs = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Epochs of the whole training, instead of the recipe's; the heads alone keep their "
        "share of them.",
    ),
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Seed, instead of the recipe's.")]
Keypoints = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE.toml",
        help="Map all data to this set by the joints' names: lsp14, coco17, mpii16 or a file with "
        "name, names, skeleton, torso and perhaps sigmas. Without it, the first data's own.",
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")]
Threads = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="CPU threads; all cores up to 8 by default.")
]
