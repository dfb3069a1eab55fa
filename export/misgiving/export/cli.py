"""Verbs of the joining part: ``export`` and ``demo``. Imports torch and onnx only inside them."""

from pathlib import Path
from typing import Annotated

import typer

from misgiving.runtime import cli as runtime
from misgiving.trainer.specs import SPECS

app = typer.Typer()


@app.command()
def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Folder from 'misgiving train' or 'cycle'.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The bundle's folder; must be new.")],
    val: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="At least 256 persons that trained nothing; the checkpoint's own validation data "
            f"by default. {SPECS}.",
        ),
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the model.")] = "misgiving",
    version: Annotated[str, typer.Option(metavar="TEXT", help="Version of the model.")] = "0.1.0",
    head: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Loss head, the checkpoint's first by default."),
    ] = None,
    flag_rate: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Share of persons like --val's that the threshold flags, 0 to 1."
        ),
    ] = 0.1,
    licence: Annotated[
        str, typer.Option(metavar="TEXT", help="Licence of the weights.")
    ] = "not stated",
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="CPU threads of torch.")
    ] = None,
) -> None:
    """Export a checkpoint to a bundle, and refuse where the graph answers otherwise than torch.

    Example: misgiving export runs/first --out bundles/first --val synthetic:2,256
    """
    from misgiving.export import ExportConfig, export_bundle
    from misgiving.trainer import Compute, load_checkpoint, open_data

    record = load_checkpoint(checkpoint)[2]
    validation = open_data(val or record.validation_data, record.keypoints)
    config = ExportConfig(
        name=name, version=version, head=head, flag_rate=flag_rate, licence=licence
    )
    compute = Compute(device="cpu", threads=threads)
    bundle = export_bundle(checkpoint, validation, out, config, compute)
    measured = bundle.manifest.parity["fp32"]
    typer.echo(
        f"bundle {out}: parity over {measured.n} persons of {measured.data}: keypoints "
        f"{measured.keypoint_drift_px_p999:.1e} input px, predicted_loss "
        f"{measured.predicted_loss_drift:.1e} sd, Spearman {measured.predicted_loss_spearman:.6f}; "
        f"end to end {measured.end_to_end_keypoint_px_p999:.1e} image px, "
        f"{measured.end_to_end_predicted_loss_drift:.1e} sd"
    )
    typer.echo(f"digest {bundle.digest} (next: misgiving serve --bundle {out})")


@app.command()
def demo(
    data: Annotated[
        str, typer.Option(metavar="SPEC", help=f"Labelled data to start from: {SPECS}.")
    ] = "synthetic:1,500,0-0.5",
    pool: Annotated[
        str,
        typer.Option(
            metavar="SPEC", help="Data out there: selected from, streamed, validated and tested on."
        ),
    ] = "synthetic:2,1400",
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder to write; an earlier demo's is replaced.")
    ] = Path("demo"),
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="demo for synthetic data, cpu for other, by default."),
    ] = None,
    threads: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="CPU threads of torch; more help large networks on idle cores."
        ),
    ] = 1,
) -> None:
    """Run the whole loop here: train, select, export, serve, flag, collect, label, train on.

    Example: misgiving demo --data lsp:data/lsp#1-1000 --pool lspet:data/lspet --out runs/real
    """
    from misgiving.export.demo import DemoConfig, run_demo
    from misgiving.export.demo.run import summary_table

    chosen = recipe or ("demo" if data.startswith("synthetic:") else "cpu")
    config = DemoConfig(data=data, pool=pool, out=out, recipe=chosen, threads=threads)
    typer.echo(summary_table(run_demo(config)))
    typer.echo(f"pictures: {out / 'report.html'}, numbers: {out / 'summary.json'}")


@app.command()
def bench(
    bundle: runtime.Bundle = None,
    device: runtime.Device = "cpu",
    threads: Annotated[
        int, typer.Option(min=1, metavar="N", help="CPU threads within one inference.")
    ] = 1,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            min=1, metavar="N", help="Persons in a call; may be given more than once; else 1 and 8."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(metavar="S", help="To measure each row in each of three rounds.")
    ] = 2.0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="New folder for the page, all single calls (JSON) and a plot."
        ),
    ] = None,
) -> None:
    """Time a bundle on this machine: its graphs on every engine that is installed, and what others
    would run instead of one pass (no score, 10 passes, an ensemble).

    Prints a Markdown page that says what the machine is, a Jetson's power mode and clocks too.

    Example: misgiving bench --batch 1 --seconds 0.5 --out bench
    """
    from misgiving.export.bench.output import run
    from misgiving.export.bench.run import BenchConfig

    config = BenchConfig(
        device=device, threads=threads, batches=tuple(batch or (1, 8)), seconds=seconds
    )
    run(bundle, config, out)
