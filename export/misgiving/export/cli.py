"""Verbs of the joining part: a checkpoint becomes a bundle; bundles are calibrated, timed, signed.

Imports torch and onnx only inside them.
"""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from misgiving.collector.format_names import NAMES, Format
from misgiving.export.next_cycle_cli import next_cycle
from misgiving.export.signing_cli import pack, sign
from misgiving.runtime.verbs import options as runtime
from misgiving.trainer.specs import SPECS

if TYPE_CHECKING:
    from misgiving.runtime import Bundle, Manifest

app = typer.Typer()

FlagRate = Annotated[
    list[float] | None,
    typer.Option(
        metavar="SHARE",
        help="Threshold that flags at most this share of all frames, 0 to 1. May be given more "
        "than once; the first is the bundle's default.",
    ),
]
MissRate = Annotated[
    list[float] | None,
    typer.Option(
        metavar="SHARE",
        help="Threshold that misses at most this share of the failures. May be given more than "
        "once; the first is the default where there is no --flag-rate.",
    ),
]
Confidence = Annotated[
    float, typer.Option(metavar="SHARE", help="With which each threshold keeps what it promises.")
]
Checkpoint = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT", help="Folder from 'misgiving train', 'attach' or 'cycle'."
    ),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="The bundle's folder; must be new.")]
Validation = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="At least 256 persons that trained nothing; the checkpoint's own validation data "
        f"by default. {SPECS}.",
    ),
]
Reports = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SPEC",
        help="Data that trained and calibrated nothing: how good the bundle is on it goes into "
        "its manifest. May be given more than once.",
    ),
]
Name = Annotated[str, typer.Option(metavar="NAME", help="Name of the model.")]
Version = Annotated[str, typer.Option(metavar="TEXT", help="Version of the model.")]
Head = Annotated[
    str | None, typer.Option(metavar="NAME", help="Loss head, the checkpoint's first by default.")
]
Licence = Annotated[str, typer.Option(metavar="TEXT", help="Licence of the weights.")]
Precisions = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Beside fp32: fp16, int8 (for CPUs) or int8-trt (for TensorRT); may be given more "
        "than once.",
    ),
]
Release = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Number that rises with each release of the model; this minute in UTC, as in "
        "202611222153, by default.",
    ),
]
Expires = Annotated[
    str | None,
    typer.Option(
        metavar="YYYY-MM-DD", help="Last day on which a runtime with keys starts the bundle."
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, metavar="N", help="CPU threads of torch.")]


@app.command()
def export(
    checkpoint: Checkpoint,
    out: Out,
    val: Validation = None,
    report: Reports = None,
    name: Name = "misgiving",
    version: Version = "0.1.0",
    head: Head = None,
    flag_rate: FlagRate = None,
    miss_rate: MissRate = None,
    confidence: Confidence = 0.9,
    licence: Licence = "not stated",
    precision: Precisions = None,
    release: Release = None,
    expires: Expires = None,
    threads: Threads = None,
) -> None:
    """Export a checkpoint to a bundle that answers alike. Refuses where it does not.

    Calibrates it on --val, as 'misgiving calibrate' does; without a rate, by --flag-rate 0.1.

    A lower precision that is asked for must find the joints that fp32 finds and order the persons
    by predicted loss as it does, or there is no bundle. int8 is calibrated on a sample of the
    checkpoint's training data, which must be readable here; where it misses, the layers that
    harm most stay in fp32.

    Example: misgiving export runs/first --out bundles/first --val synthetic:2,256
    """
    from misgiving.export import ExportConfig, Targets, export_bundle
    from misgiving.trainer import Compute, open_data
    from misgiving.trainer.checkpoint import load_record

    targets = Targets(
        flag_rates=tuple(flag_rate or ([] if miss_rate else [0.1])),
        miss_rates=tuple(miss_rate or ()),
        confidence=confidence,
    )
    record = load_record(checkpoint)
    validation = open_data(val or record.validation_data, record.keypoints)
    reports = [open_data(spec, record.keypoints) for spec in report or ()]
    config = ExportConfig(
        name=name,
        version=version,
        head=head,
        targets=targets,
        licence=licence,
        precisions=tuple(dict.fromkeys(precision or ())),
        release=release,
        expires=_day(expires) if expires else None,
    )
    compute = Compute(device="cpu", threads=threads)
    _print_exported(export_bundle(checkpoint, validation, out, config, compute, reports), out)


def _print_exported(bundle: "Bundle", out: Path) -> None:
    from misgiving.export.describing import summary
    from misgiving.export.gates import lines

    typer.echo("\n".join(summary(bundle)))
    _print_calibration(bundle.manifest)
    if bundle.manifest.precisions:
        typer.echo("\n".join(lines(bundle)))
    typer.echo(f"digest {bundle.digest} (next: misgiving serve --bundle {out})")


@app.command()
def demo(
    data: Annotated[
        str, typer.Option(metavar="SPEC", help=f"Labelled data to start from: {SPECS}.")
    ] = "synthetic:1,500,0-0.5",
    pool: Annotated[
        str,
        typer.Option(metavar="SPEC", help="Data to select from, stream, validate and test on."),
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
    """Run the whole loop here: train, serve, collect, train on.
    The steps: train, select, export, serve, flag, collect, label, train on.

    Example: misgiving demo --data lsp:data/lsp#1-1000 --pool lspet:data/lspet --out runs/real
    """
    from misgiving.export.demo import DemoConfig, run_demo
    from misgiving.export.demo.run import summary_table

    chosen = recipe or ("demo" if data.startswith("synthetic:") else "cpu")
    config = DemoConfig(data=data, pool=pool, out=out, recipe=chosen, threads=threads)
    typer.echo(summary_table(run_demo(config)))
    typer.echo(f"pictures: {out / 'report.html'}, numbers: {out / 'summary.json'}")


@app.command()
def calibrate(
    data: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            help="Labelled persons that trained nothing, drawn as the promises are to hold for: "
            f"{SPECS}. labels: brings the weights and devices of a fleet's audit sample along.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new bundle's folder; must be new.")],
    bundle: runtime.Bundle = None,
    report_data: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Other persons to measure the probability on; else folds of --data.",
        ),
    ] = None,
    flag_rate: FlagRate = None,
    miss_rate: MissRate = None,
    confidence: Confidence = 0.9,
    unit: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What is drawn independently: image, device or stream. By default device where "
            "the data names any, else image; persons of one unit are taken for alike.",
        ),
    ] = None,
    device: runtime.Device = "cpu",
    threads: runtime.Threads = 0,
) -> None:
    """Turn a score into probabilities and thresholds.
    Adds a probability of failure, and thresholds that keep a named rate.

    Writes a new bundle with the same graph. The promises hold for frames drawn like those of
    --data. Under shift, and for the correlated frames of a video, there is no such guarantee:
    calibrate again on a labelled audit sample of the fleet. Without a rate, the bundle's own.

    Example: misgiving calibrate --data "lspet:DATA/lspet#8001-9000" --flag-rate 0.1
    --miss-rate 0.05 --out bundles/calibrated
    """
    from misgiving.export import Targets, calibrate_bundle
    from misgiving.runtime import Estimator
    from misgiving.runtime.durable import check_new
    from misgiving.trainer import open_data

    check_new(out)
    targets = Targets(
        flag_rates=tuple(flag_rate or ()), miss_rates=tuple(miss_rate or ()), confidence=confidence
    )
    estimator = Estimator.load(bundle, device=device, threads=threads)
    keypoints = estimator.bundle.manifest.keypoints
    persons = open_data(data, keypoints)
    others = open_data(report_data, keypoints) if report_data else None
    made = calibrate_bundle(estimator, persons, out, targets, report_data=others, unit=unit)
    _print_calibration(made.manifest)
    typer.echo(f"bundle {out}, digest {made.digest} (next: misgiving serve --bundle {out})")


def _print_calibration(manifest: "Manifest") -> None:
    for threshold in manifest.calibration.thresholds:
        typer.echo(
            f"{threshold.name}: predicted_loss from {threshold.predicted_loss:.5g} on {threshold}"
        )
    if fitted := manifest.calibration.failure_probability:
        said = manifest.calibration.said(fitted.likely)
        typer.echo(f"likely: predicted_loss from {fitted.likely:.5g} on, the default: {said}")
        error = fitted.error
        typer.echo(
            f"failure_probability: {len(fitted.predicted_loss)} knots from {fitted.failures} "
            f"failures and {fitted.persons - fitted.failures} others of {fitted.data}, "
            f"{fitted.left_out} left out without a labelled torso; expected calibration error "
            f"{error.value:.3f} [{error.low:.3f} {error.high:.3f}] on {error.measured_on}"
        )


app.command()(sign)
app.command()(pack)
app.command("next-cycle")(next_cycle)


@app.command()
def prelabel(
    data: Annotated[
        str, typer.Option(metavar="SPEC", help=f"Persons to label, as select picked them: {SPECS}.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="New folder for images and annotations.")
    ],
    format: Annotated[
        Format, typer.Option(metavar="NAME", help=f"What the annotation tool reads: {NAMES}.")
    ] = Format.COCO,
    bundle: runtime.Bundle = None,
    device: runtime.Device = "cpu",
    threads: runtime.Threads = 0,
    precision: runtime.Precision = "fp32",
) -> None:
    """Write persons of a pool for an annotation tool.
    A bundle's answers are the pre-labels; 'misgiving annotations import' takes the folder back.

    Example: misgiving prelabel --data images:frames#@picked.txt --out batch-1 --format cvat
    """
    from misgiving.export import prelabel as run
    from misgiving.runtime import Estimator
    from misgiving.trainer import open_data

    estimator = Estimator.load(bundle, device=device, threads=threads, precision=precision)
    persons = open_data(data, estimator.bundle.manifest.keypoints)
    counts = run(estimator, persons, out, format=format.value)
    typer.echo(
        f"{out}: {counts.images} images, {counts.persons} persons. Correct {counts.corrected}"
    )


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}; expected a day such as 2027-12-31") from error


@app.command()
def bench(
    bundle: runtime.Bundle = None,
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="cpu, or cuda with whatever of TensorRT is there; tensorrt for --long.",
        ),
    ] = "cpu",
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
        float | None,
        typer.Option(
            metavar="S",
            help="To measure each row in each of three rounds, else 2; with --long, else 600.",
        ),
    ] = None,
    long: Annotated[
        bool,
        typer.Option(
            "--long",
            help="Load one engine for minutes instead, with 1 and with 8 persons a query, in "
            "MLPerf's manner; check its answers meanwhile.",
        ),
    ] = False,
    precision: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For --long: fp32, or another that the bundle has."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="New folder for the page, all calls (JSON) and a plot."),
    ] = None,
) -> None:
    """Time a bundle on this machine, beside other ways.
    Runs its graphs on every engine that is installed, and what others would run instead of one
    pass (no score, 10 passes, an ensemble). Prints a Markdown page that says what the machine is,
    a Jetson's power mode and clocks too.

    Example: misgiving bench --batch 1 --seconds 0.5 --out bench
    """
    from misgiving.export.bench.output import run, run_long

    if long and batch:
        raise typer.BadParameter("--batch with --long, which takes 1 and 8 persons; leave one out")
    if precision and not long:
        raise typer.BadParameter("--precision without --long; add that, or leave this out")
    if long:
        from misgiving.export.bench.long import MLPERF_S, LongConfig

        lasting = LongConfig(
            device=device,
            precision=precision or "fp32",
            threads=threads,
            seconds=MLPERF_S if seconds is None else seconds,
        )
        run_long(bundle, lasting, out)
        return
    from misgiving.export.bench.run import BenchConfig

    config = BenchConfig(
        device=device,
        threads=threads,
        batches=tuple(batch or (1, 8)),
        seconds=2.0 if seconds is None else seconds,
    )
    run(bundle, config, out)
