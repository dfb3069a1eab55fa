"""The collector's verbs: ``collect`` and ``annotations``."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from misgiving.runtime.verbs.options import Insecure, Tls

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
annotations = typer.Typer(
    help="Frames out to annotators, labels back in.", rich_markup_mode=None, no_args_is_help=True
)
app.add_typer(annotations, name="annotations")

StoreOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the collected frames.")]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Database of the frames, sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME; "
        "without it, a file in --store.",
        show_default=False,
    ),
]
ObjectsOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where their bytes are, s3://BUCKET/PREFIX; without it, in --store.",
        show_default=False,
    ),
]


class Format(str, Enum):
    COCO = "coco"


@app.command()
def collect(
    listen: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Address to listen on; port 0 takes a free one."),
    ] = "127.0.0.1:50052",
    store: StoreOption = Path("collected"),
    database: DatabaseOption = None,
    objects: ObjectsOption = None,
    tls: Tls = None,
    insecure: Insecure = False,
) -> None:
    """Take flagged frames from vehicles, until Ctrl-C or SIGTERM.

    \b
    Example:
        misgiving collect --listen 0.0.0.0:50052 --store /data/collected --tls /etc/misgiving
    """
    import asyncio
    import logging

    from misgiving.collector import Store, serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with Store(store, database, objects) as opened:
        asyncio.run(serve(listen, opened, tls=tls, insecure=insecure))


@annotations.command()
def export(
    store: StoreOption,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="New folder for images and annotations.")
    ],
    format: Annotated[
        Format, typer.Option(metavar="NAME", help="What the annotation tool reads: coco.")
    ] = Format.COCO,
    bundle: Annotated[
        str,
        typer.Option(metavar="HEX", help="Only frames of the bundle whose digest begins with HEX."),
    ] = "",
    database: DatabaseOption = None,
    objects: ObjectsOption = None,
) -> None:
    """Write the collected frames as a folder for an annotation tool.

    \b
    Example:
        misgiving annotations export --store /data/collected --out batch-1 --format coco
    """
    from misgiving.collector import Store, export_coco

    with Store(store, database, objects, create=False) as opened:
        counts = export_coco(opened, out, bundle=bundle)
    typer.echo(
        f"{out}: {counts.images} images, {counts.persons} persons, {counts.flagged} flagged, "
        f"{counts.audited} audited; "
        f"{counts.unusable} frames unusable. Correct {out / 'annotations.json'}"
    )


@annotations.command("import")
def import_(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="An export whose annotations.json is corrected.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder for the label set.")],
    trust_untouched: Annotated[
        bool,
        typer.Option(
            "--trust-untouched", help="Take pre-labels that nobody changed for labels as well."
        ),
    ] = False,
) -> None:
    """Take corrected annotations back as a label set.

    Persons who came back just as they were exported are left out and counted: nobody has looked
    at them, as far as the file tells. Persons whom annotators added are labels too.

    \b
    Example:
        misgiving annotations import batch-1 --out labels-1
    """
    from misgiving.collector import read_corrected, write_labels

    corrected = read_corrected(folder, trust_untouched=trust_untouched)
    write_labels(corrected.labels, folder, out)
    for line in corrected.said:
        typer.echo(line, err=True)
    labels = corrected.labels
    typer.echo(
        f"{out}: version {labels.version}, {len(labels.persons)} persons, "
        f"{corrected.added} of them added; {corrected.deleted} deleted, "
        f"{corrected.untouched} untouched and left out"
    )
