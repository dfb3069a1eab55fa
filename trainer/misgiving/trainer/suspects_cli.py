"""The verb ``suspects``. Torch is imported only inside it."""

from pathlib import Path
from typing import Annotated

import typer

from misgiving.trainer.options import Device, Threads
from misgiving.trainer.specs import RECIPE_NAMES, SPECS


def suspects(
    data: Annotated[
        list[str],
        typer.Option(
            metavar="SPEC", help=f"Labelled persons: {SPECS}. May be given more than once."
        ),
    ],
    recipe: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"Of each net: {', '.join(RECIPE_NAMES)}, or a recipe's JSON file.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write: new, or this run's.")],
    folds: Annotated[
        int, typer.Option(metavar="K", help="Nets to train, each on all folds but one.")
    ] = 3,
    pictures: Annotated[
        int, typer.Option(min=0, metavar="N", help="Persons on the page, the most suspect first.")
    ] = 60,
    keypoints: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE.toml", help="Map all data to this set, as train does."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Epochs of each net, instead of the recipe's.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Seed of nets and folds, instead of the recipe's."),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Find persons whose label may be wrong.

    Contradicted joints, or left and right exchanged. Trains K nets and asks each about the
    persons that it never saw. Writes suspects.csv (all persons, the most suspect first),
    report.html with pictures, keep.txt (the others, for SPEC#@keep.txt) and mended.json (labels
    with sides exchanged back, for coco:). With several --data, keep and mended are numbered. A
    mended label is a proposal: look at it. The data itself is not changed. Stopped, even killed,
    the same command goes on where it was.

    Example: misgiving suspects --data "lspet:DATA/lspet#1-8000" --recipe lite --epochs 4
    --out runs/suspects
    """
    from misgiving.trainer import keypoints_named, open_data, recipe_named

    chosen = recipe_named(recipe, epochs, seed)
    target = keypoints_named(keypoints) if keypoints else None
    parts = [open_data(spec, target) for spec in data]

    from misgiving.trainer import Compute, find_suspects

    compute = Compute(device=device, threads=threads)
    found = find_suspects(chosen, parts, out, compute, folds=folds, pictures=pictures)
    typer.echo("\n".join(found.lines()))
    typer.echo(f"all in {out / 'suspects.csv'}, pictures in {out / 'report.html'}")
    typer.echo("to train without them, and with the exchanged ones that you have looked at:")
    typer.echo("  misgiving train" + "".join(f" --data {spec}" for spec in found.specs))
