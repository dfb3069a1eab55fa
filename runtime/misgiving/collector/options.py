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

DeclineRepeats = Annotated[
    bool,
    typer.Option(
        "--decline-repeats", help="Decline frames whose picture is stored of the same device."
    ),
]
DeclineNearer = Annotated[
    float | None,
    typer.Option(
        metavar="DISTANCE",
        help="Decline frames whose embedding is nearer than this cosine distance to one that is "
        "stored of the same device and bundle; 0.006 suits the bundle in the package.",
    ),
]
DeclineWithin = Annotated[int, typer.Option(metavar="N", help="Of how many of the newest frames.")]
KeepDays = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Erase frames N days after their arrival, but for those with labels, and notes of "
        "declined ones.",
    ),
]
KeepLabelledDays = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Erase frames with labels N days after their arrival, too."
    ),
]
DeviceBytes = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="What one device may send in 24 hours, such as 2GiB."),
]
DeviceFrames = Annotated[int | None, typer.Option(min=1, metavar="N", help="The same in frames.")]
AnyDevice = Annotated[
    bool,
    typer.Option(
        "--any-device",
        help="Take frames of whatever device_id from whoever has a certificate, as gateways send "
        "them.",
    ),
]
