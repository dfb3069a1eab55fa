"""The verb ``attach``. Torch is imported only inside it."""

from pathlib import Path
from typing import Annotated

import typer

from misgiving.runtime.durable import check_new
from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.options import Device, Threads
from misgiving.trainer.specs import SPECS


def attach(
    net: Annotated[
        Path,
        typer.Argument(
            metavar="NET.toml", help="What the network is; with --describe its ONNX file."
        ),
    ],
    describe: Annotated[
        bool,
        typer.Option(
            "--describe", help="Print a NET.toml to start from for an ONNX file, and do no more."
        ),
    ] = False,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC", help=f"Persons to learn from: {SPECS}. May be given more than once."
        ),
    ] = None,
    val: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Data to measure on, apart from the training data."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Checkpoint to write; must be new.")
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="KIND-OBJECTIVE, as train's; evidence-miss by default. May be given more than "
            "once; the first is exported unless another is asked for.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How often each person is seen.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed.")] = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train loss heads on a pose network of somebody else.

    The network stays as it is; the checkpoint goes into export like any other. NET.toml says what
    cannot be told from its ONNX file: how pixels go in, and what its outputs mean.

    A NET.toml to start from: misgiving attach --describe blazepose.onnx > blazepose.toml

    Example: misgiving attach blazepose.toml --data "lspet:DATA/lspet#1-8000" --val
    "lspet:DATA/lspet#8001-9000" --out runs/blazepose
    """
    if describe:
        from misgiving.trainer.foreign.describe import describe as run

        typer.echo(run(net), nl=False)
        return
    if not data or val is None or out is None:
        raise InvalidInput("attach got no --data, --val or --out; expected all three. See --help")
    check_new(out)

    from misgiving.trainer import head_named, join, open_data, read_net, score_table

    heads = tuple(head_named(name) for name in head or ("evidence-miss",))
    what = read_net(net)
    sets = join([open_data(spec, what.keypoints) for spec in data])
    validation = open_data(val, what.keypoints)

    from misgiving.trainer import Compute
    from misgiving.trainer import attach as train_heads

    compute = Compute(device=device, threads=threads)
    trained = train_heads(
        what, sets, validation, out, compute, heads=heads, epochs=epochs, seed=seed
    )
    typer.echo(score_table(trained.validation))
    typer.echo(f"checkpoint {out} (next: misgiving export {out} --out BUNDLE)")
