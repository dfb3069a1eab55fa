"""The verbs ``frames``: what the fleet side has, and what becomes of it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from misgiving.collector.frames.options import of_store
from misgiving.collector.frames.words import Order

if TYPE_CHECKING:
    from misgiving.collector.frames.selection import FrameSelection
    from misgiving.collector.store import Store

app = typer.Typer(
    help="The frames that were collected.", rich_markup_mode=None, no_args_is_help=True
)

OrderOption = Annotated[
    Order,
    typer.Option(
        metavar="NAME",
        help="What comes first: newest, worst by its loss, drawn at random, or diverse: the worst, "
        "spread over what they show.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON record a line.")]


@app.command("list")
@of_store
def list_(
    selection: "FrameSelection",
    store: "Store",
    order: OrderOption = Order.NEWEST,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="Most frames; 0 for all.")] = 50,
    json: Json = False,
) -> None:
    """List frames, the newest first.

    \b
    Example:
        misgiving frames list --store /data/collected --device "car-*" --since 2h --unreviewed
    """
    from misgiving.collector.frames.listing import print_frames

    print_frames(store.database, selection, order, limit, json)


@app.command()
@of_store
def show(
    store: "Store",
    digest: Annotated[
        str, typer.Argument(metavar="DIGEST", help="Of the frame, or how it begins.")
    ],
    json: Json = False,
    image: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the picture with its persons drawn, .png or .jpg."
        ),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Write the picture as it came instead.")
    ] = False,
) -> None:
    """Show one frame: who sent it, what was said of it, where it stands.

    \b
    Example:
        misgiving frames show 5f2e --store /data/collected --image frame.png
    """
    from misgiving.collector.frames.listing import print_frame

    print_frame(store, digest, as_json=json, image=image, plain=plain)


@app.command()
@of_store
def export(
    selection: "FrameSelection",
    store: "Store",
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder for pictures and records.")],
    order: OrderOption = Order.NEWEST,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="Most frames; 0 for all.")] = 0,
    repeats: Annotated[
        bool, typer.Option("--repeats", help="Take every frame that has the same picture.")
    ] = False,
) -> None:
    """Write pictures, records and checksums for machines.

    Of frames with the same picture it takes one. For annotators there is annotations export.

    \b
    Example:
        misgiving frames export --store /data/collected --out worst --order worst --limit 1000
    """
    from misgiving.collector.frames.exporting import export_frames
    from misgiving.collector.frames.words import spoken_size

    done = export_frames(store, out, selection, order=order, limit=limit, repeats=repeats)
    typer.echo(
        f"{out}: {done.frames:,} frames, {spoken_size(done.size_bytes)}; {done.repeats:,} "
        f"repeated pictures left out; {done.unreadable:,} frames unreadable"
    )


@app.command()
@of_store
def erase(
    selection: "FrameSelection",
    store: "Store",
    all_: Annotated[
        bool, typer.Option("--all", help="Every frame, when nothing is asked.")
    ] = False,
    keep_labelled: Annotated[
        bool,
        typer.Option("--keep-labelled", help="But for frames that have come back with labels."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase frames for good, and prove that nothing of them is left.

    Objects, rows, marks and unfinished uploads go. Label sets made of the frames, and exports with
    copies of them, are named; the exit code is then 1.

    \b
    Example:
        misgiving frames erase --store /data/collected --device car-7 --yes
    """
    from dataclasses import replace

    from misgiving.collector.frames.erasing import erase, to_be_erased
    from misgiving.runtime.errors import InvalidInput

    if not selection.narrow and not all_:
        raise InvalidInput(
            "frames erase without a selection would erase every frame; expected --device, --until "
            "or another. Add one, or --all"
        )
    selection = replace(selection, unlabelled=keep_labelled)
    if not yes:
        _confirm(str(to_be_erased(store, selection)))
    done = erase(store, selection)
    typer.echo(
        f"{store.folder}: {done}, {done.uploads:,} unfinished uploads and "
        f"{done.declined:,} notes of declined frames are erased; none is left"
    )
    if not store.database.files:  # then collectors have folders of their own
        typer.echo(
            "unfinished uploads at other collectors are in their --store: give this there as well",
            err=True,
        )
    for line in done.kept_elsewhere:
        typer.echo(line, err=True)
    if done.kept_elsewhere:
        raise typer.Exit(1)


@app.command()
@of_store
def status(selection: "FrameSelection", store: "Store", json: Json = False) -> None:
    """Show where frames stand: collected, reviewed, exported, labelled.

    \b
    Example:
        misgiving frames status --store /data/collected --since 4w
    """
    from misgiving.collector.frames.listing import print_status

    print_status(store.database, selection, json)


def _confirm(what: str) -> None:
    from misgiving.runtime.errors import InvalidInput

    if not sys.stdin.isatty():
        raise InvalidInput(f"{what} would be erased, for good; expected --yes. Add it to do so")
    if not typer.confirm(f"Erase {what}, for good?"):
        raise InvalidInput("nothing is erased; expected y. Say so, or add --yes")
