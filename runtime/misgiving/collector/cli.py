"""The collector's verbs: ``collect``, ``frames``, ``review`` and ``annotations``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from misgiving.collector.control.cli import app as fleet
from misgiving.collector.format_names import NAMES, Format
from misgiving.collector.frames.options import of_store
from misgiving.collector.frames.words import Order
from misgiving.collector.frames_cli import app as frames
from misgiving.collector.options import (
    AnyDevice,
    DatabaseOption,
    DeclineNearer,
    DeclineRepeats,
    DeclineWithin,
    DeviceBytes,
    DeviceFrames,
    KeepDays,
    KeepLabelledDays,
    ObjectsOption,
    OpenWith,
    StoreOption,
)
from misgiving.collector.review.cli import review
from misgiving.runtime.verbs.options import Insecure, Scraped, Tls, size_of

if TYPE_CHECKING:
    from misgiving.collector.frames.selection import FrameSelection
    from misgiving.collector.store import Store

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
annotations = typer.Typer(
    help="Frames out to annotators, labels back in.", rich_markup_mode=None, no_args_is_help=True
)
app.add_typer(frames, name="frames")
app.add_typer(annotations, name="annotations")
app.command()(review)
app.add_typer(fleet, name="fleet")


@app.command()
def collect(
    listen: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Address to listen on; port 0 takes a free one."),
    ] = "127.0.0.1:50052",
    store: StoreOption = Path("collected"),
    database: DatabaseOption = None,
    objects: ObjectsOption = None,
    open_with: OpenWith = None,
    tls: Tls = None,
    insecure: Insecure = False,
    decline_repeats: DeclineRepeats = False,
    decline_nearer: DeclineNearer = None,
    decline_within: DeclineWithin = 1000,
    metrics: Scraped = None,
    keep_days: KeepDays = None,
    keep_labelled_days: KeepLabelledDays = None,
    device_bytes: DeviceBytes = None,
    device_frames: DeviceFrames = None,
    any_device: AnyDevice = False,
) -> None:
    """Take flagged frames from vehicles, until Ctrl-C or SIGTERM.

    \b
    Example:
        misgiving collect --listen 0.0.0.0:50052 --store /data/collected --tls /etc/misgiving
    """
    import asyncio
    import logging

    from misgiving.collector import Declining, Devices, Retention, Store, serve
    from misgiving.runtime.wire.sealing import read_opening_keys

    declining = Declining(pictures=decline_repeats, nearer=decline_nearer, within=decline_within)
    size = None if device_bytes is None else size_of(device_bytes, "--device-bytes")
    devices = Devices(bytes_per_day=size, frames_per_day=device_frames, any_name=any_device)
    retention = Retention(days=keep_days, labelled_days=keep_labelled_days)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)  # where it has its credentials from
    keys = read_opening_keys(open_with or [])
    with Store(store, database, objects, keys=keys) as opened:
        asyncio.run(
            serve(
                listen,
                opened,
                tls=tls,
                insecure=insecure,
                declining=declining,
                devices=devices,
                retention=retention,
                metrics=metrics,
            )
        )


@annotations.command()
@of_store
def export(
    selection: "FrameSelection",
    store: "Store",
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="New folder for images and annotations.")
    ],
    format: Annotated[
        Format,
        typer.Option(metavar="NAME", help=f"What the annotation tool reads: {NAMES}."),
    ] = Format.COCO,
    order: Annotated[
        Order | None,
        typer.Option(
            metavar="NAME",
            help="What comes first: newest, worst by its loss, or diverse: the worst, spread over "
            "what they show, away from what annotators have had. Without it, as they arrived.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="Most images; 0 for all.")] = 0,
) -> None:
    """Write the collected frames for an annotation tool.

    Each picture goes out once. The store notes them as a batch of the folder's name; --new leaves
    out what has labels, too.

    \b
    Example:
        misgiving annotations export --store /data/collected --out batch-1 --new \
            --order diverse --limit 500
    """
    from dataclasses import replace

    from misgiving.collector import export_annotations

    wanted = replace(selection, unlabelled=selection.new)
    counts = export_annotations(store, out, wanted, format=format.value, order=order, limit=limit)
    typer.echo(
        f"{out}: {counts.images} images, {counts.persons} persons, {counts.flagged} flagged, "
        f"{counts.audited} audited; {counts.unusable} frames unusable, "
        f"{counts.repeats} with the picture of another. Correct {counts.corrected}"
    )
    if set(counts.codings) - {""}:
        coded = (f"{count} {name or 'unknown'}" for name, count in sorted(counts.codings.items()))
        typer.echo(f"pictures: {', '.join(coded)}; {counts.hidden} joints covered by the vehicle")
    if counts.lost:
        typer.echo(
            f"{counts.lost} joints are hidden or outside of the image, which {format.value} cannot "
            "say; the import restores those that nobody touches",
            err=True,
        )


@annotations.command("import")
def import_(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="An export whose file of persons is corrected.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder for the label set.")],
    format: Annotated[
        Format | None,
        typer.Option(metavar="NAME", help=f"Of that file, one of {NAMES}; found by default."),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Store that the frames are of: it notes what is labelled, what people marked "
            "as false alarms counts as looked at, and near-duplicates of what is labelled are on "
            "one side of training and validation.",
        ),
    ] = None,
    database: DatabaseOption = None,
    objects: ObjectsOption = None,
    trust_untouched: Annotated[
        bool,
        typer.Option(
            "--trust-untouched", help="Take pre-labels that nobody changed for labels as well."
        ),
    ] = False,
    near: Annotated[
        float,
        typer.Option(
            metavar="DISTANCE",
            help="Cosine distance of embeddings, 0 to 2, up to which frames of --store are "
            "near-duplicates; 0.003 suits the bundle in the package.",
        ),
    ] = 0.003,
) -> None:
    """Take corrected annotations back as a label set.

    Persons who came back just as they were exported are left out and counted: nobody has looked
    at them, as far as the file tells. Persons whom annotators added are labels too.

    \b
    Example:
        misgiving annotations import batch-1 --out labels-1
    """
    from contextlib import ExitStack

    from misgiving.collector import Store, read_corrected, record_labels, write_labels

    name = format.value if format else ""
    with ExitStack() as undo:
        opened = None
        if store:
            opened = undo.enter_context(Store(store, database, objects, create=False))
        corrected = read_corrected(
            folder, format=name, trust_untouched=trust_untouched, store=opened, near=near
        )
        write_labels(corrected.labels, folder, out)
        if opened:
            record_labels(opened, corrected.labels.version, out.resolve(), corrected.frames)
    for line in corrected.said:
        typer.echo(line, err=True)
    labels = corrected.labels
    typer.echo(
        f"{out}: version {labels.version}, {len(labels.persons)} persons, "
        f"{corrected.added} of them added; {corrected.deleted} deleted, "
        f"{corrected.untouched} untouched and left out, {corrected.agreed} untouched and right"
    )
