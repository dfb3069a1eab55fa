"""Verbs of the joining part: ``export`` and ``demo``. Imports torch and onnx only inside them."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

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
    release: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number that rises with each release of the model; this minute in UTC, as in "
            "202611222153, by default.",
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="YYYY-MM-DD", help="Last day on which a runtime with keys starts the bundle."
        ),
    ] = None,
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
        name=name,
        version=version,
        head=head,
        flag_rate=flag_rate,
        licence=licence,
        release=release,
        expires=_day(expires) if expires else None,
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
def sign(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    key: Annotated[
        Path, typer.Option(metavar="FILE", help="Private key; the public one is FILE.pub.")
    ],
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make FILE and FILE.pub first; they must be new.")
    ] = False,
) -> None:
    """Sign a bundle for runtimes that trust the key; other keys' signatures stay.

    Keep FILE where nobody else reads it, and copy FILE.pub into the vehicles' --trust DIR.

    Example: misgiving sign bundle --key release.key --new-key
    """
    from misgiving.runtime import Bundle, sign_bundle
    from misgiving.runtime import new_key as make

    if new_key:
        Bundle.load(bundle)  # what cannot be signed leaves no key behind
        typer.echo(f"new key {make(key)} in {key}, its public half in {key}.pub")
    typer.echo(f"{bundle} signed by key {sign_bundle(bundle, key)}")


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder or zip of the bundle.")],
    trust: Annotated[
        Path,
        typer.Option(
            metavar="PATH", help="Folder of trusted keys (*.pub, revoked), or one such key."
        ),
    ],
) -> None:
    """Say whether a runtime that trusts these keys would take a bundle here and now.

    Example: misgiving verify bundle.zip --trust keys
    """
    from misgiving.runtime import Bundle, Trust

    whole = Bundle.load(bundle, Trust.read(trust))
    manifest = whole.manifest
    typer.echo(
        f"{bundle}: {manifest.name} {manifest.version}, release {manifest.release}, "
        f"expires {manifest.expires or 'never'}; {len(manifest.files)} files as signed by key "
        f"{whole.signed_by}\ndigest {whole.digest}"
    )


@app.command()
def pack(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The zip; must be new.")],
) -> None:
    """Write a bundle as one zip, for transport; every --bundle takes that too.

    Example: misgiving pack bundle --out bundle.zip
    """
    from misgiving.runtime import pack_bundle

    pack_bundle(bundle, out)
    typer.echo(f"{out}: {out.stat().st_size:,} bytes")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}; expected a day such as 2027-12-31") from error
