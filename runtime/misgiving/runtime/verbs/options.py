"""Options that verbs of all parts share: which bundle answers, and on what."""

from pathlib import Path
from typing import Annotated

import typer

Bundle = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Bundle to answer with, folder or zip; else MISGIVING_BUNDLE, else the package's own.",
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda or tensorrt.")]
Threads = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="CPU threads within one inference; 0 for half of the usable cores."
    ),
]
Precision = Annotated[
    str,
    typer.Option(metavar="NAME", help="fp32, or another that the bundle has: fp16, int8."),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        metavar="LOSS|NAME",
        help="Flag a person from this predicted_loss on, or by one of the bundle's thresholds, for "
        "example flag_rate=0.1; without it by likely: failure is more likely than not.",
    ),
]
Trust = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of trusted keys (*.pub), or one such key: take only bundles that one of them "
        "signed; else MISGIVING_TRUST, else every bundle.",
    ),
]
