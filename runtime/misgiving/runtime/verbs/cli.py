"""The command ``misgiving``: the runtime's verbs, and those that the other parts mount."""

from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from misgiving.runtime.verbs.options import (
    AuditRate,
    Bundle,
    ClientTls,
    Collector,
    CollectorTls,
    Config,
    Detector,
    Device,
    DeviceId,
    Insecure,
    Precision,
    Scraped,
    SpoolDays,
    SpoolFolder,
    SpoolQuota,
    Threads,
    Threshold,
    Tls,
    Trust,
    given,
)
from misgiving.runtime.verbs.roles import ByRole
from misgiving.runtime.verbs.watch_cli import watch

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""click's; typer carries a click of its own, or not, by its version."""

app = typer.Typer(
    name="misgiving",
    cls=ByRole,
    help="Human pose estimation that knows when it is wrong.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"misgiving {_version()}")
        raise typer.Exit


def _version() -> str:
    try:
        return metadata.version("misgiving")
    except metadata.PackageNotFoundError:
        return "(not installed)"


config = typer.Typer(
    help="The file of settings, misgiving.toml.", rich_markup_mode=None, no_args_is_help=True
)
app.add_typer(config, name="config")


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Human pose estimation that knows when it is wrong."""


@app.command()
def serve(
    context: typer.Context,
    config: Config = None,
    bundle: Bundle = None,
    listen: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Address to listen on; port 0 takes a free one."),
    ] = "127.0.0.1:50051",
    device: Device = "cpu",
    threads: Threads = 0,
    precision: Precision = "fp32",
    detector: Detector = None,
    threshold: Threshold = None,
    audit_rate: AuditRate = 0.01,
    spool: SpoolFolder = None,
    spool_quota: SpoolQuota = None,
    spool_days: SpoolDays = None,
    collector: Collector = None,
    collector_tls: CollectorTls = None,
    device_id: DeviceId = "",
    trust: Trust = None,
    metrics: Scraped = None,
    tls: Tls = None,
    insecure: Insecure = False,
) -> None:
    """Answer frames over gRPC until Ctrl-C or SIGTERM.

    Example: misgiving serve --listen 127.0.0.1:50051 --spool /var/spool/misgiving
    """
    from misgiving.runtime import run_server
    from misgiving.runtime.settings.reading import Sources

    sources = Sources(config, given(context))
    run_server(sources.settings(), sources.settings if config else None)


app.command()(watch)


@app.command()
def status(
    server: Annotated[
        str, typer.Argument(metavar="[HOST:PORT]", help="Of the server.")
    ] = "127.0.0.1:50051",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON record.")] = False,
    tls: ClientTls = None,
) -> None:
    """Say how a running server does: health, rates, times, spool.

    Exit code 0 only if it answers frames; 1 while it loads or ends.

    Example: misgiving status 127.0.0.1:50051
    """
    from misgiving.runtime.verbs.status import status as run

    raise typer.Exit(run(server, json, tls))


@app.command()
def stream(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of images, image or video file; camera (0 or /dev/video0); rtsp://, "
            "rtsps:// or MJPEG over http(s)://; env:NAME for a variable that holds such a URL."
        ),
    ],
    server: Annotated[str, typer.Option(help="HOST:PORT of the server.")] = "127.0.0.1:50051",
    live: Annotated[
        bool,
        typer.Option(
            "--live", help="Pace a recording like a camera, whose newest frame always wins."
        ),
    ] = False,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second of --live; else the video's, or 25.")
    ] = None,
    regions: Annotated[
        Path | None, typer.Option(help="JSON file: frame name to list of [x,y,w,h].")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="File to write, with one JSON line for each reply.")
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Longest wait for a server that is not there yet, or has gone; 0 fails at once.",
        ),
    ] = 60.0,
    tls: ClientTls = None,
) -> None:
    """Send a recording or a camera to a server, and count replies.

    A camera or stream that is lost is opened again until SIGINT or SIGTERM; a password in its
    URL is shown nowhere, but env:NAME keeps it out of the process list too. A server that is
    lost is waited for: a recording then goes on where it was, live frames are dropped until it
    is back. Exit code 0 only if every frame was read and answered or, live, dropped and
    counted; 1 if a frame was not; 128 + its number after a signal.

    Example: misgiving stream rtsp://camera.example/stream1 --json replies.jsonl
    """
    from misgiving.runtime.verbs.stream import StreamOptions
    from misgiving.runtime.verbs.stream import stream as run

    options = StreamOptions(
        source=source,
        server=server,
        live=live,
        fps=fps,
        regions=regions,
        json=json,
        wait_s=wait,
        tls=tls,
    )
    raise typer.Exit(run(options))


@app.command()
def infer(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="JPEG or PNG files, folders of them, or videos."),
    ],
    bundle: Bundle = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y,W,H",
            help="A person's box in image px, for every image; may be given more than once. "
            "Without it the whole image, with a closer look where the person is small in it.",
        ),
    ] = None,
    detector: Detector = None,
    threshold: Threshold = None,
    device: Device = "cpu",
    threads: Threads = 0,
    precision: Precision = "fp32",
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line for each image.")
    ] = False,
    draw: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write each image there, with its keypoints drawn."),
    ] = None,
    trust: Trust = None,
) -> None:
    """Answer images and videos without a server.
    Exit code 1 if an image failed; the others are answered.

    Example: misgiving infer runner.jpg --region 40,10,120,200 --draw drawn/
    """
    from misgiving.runtime.verbs.infer import InferOptions, parse_region
    from misgiving.runtime.verbs.infer import infer as run

    options = InferOptions(
        paths=tuple(images),
        bundle=bundle,
        regions=tuple(parse_region(text) for text in region or ()),
        detector=detector,
        threshold=threshold,
        device=device,
        threads=threads,
        precision=precision,
        json=json,
        draw=draw,
        trust=trust,
    )
    raise typer.Exit(run(options))


@app.command()
def build(
    bundle: Bundle = None,
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="fp32, fp16 or int8-trt, as the bundle has it.")
    ] = "fp32",
    min_batch: Annotated[
        int, typer.Option(metavar="N", help="Smallest batch; fewer persons are padded to it.")
    ] = 1,
    opt_batch: Annotated[
        int,
        typer.Option(metavar="N", help="Batch to tune for: as many persons as come at a time."),
    ] = 1,
    max_batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Largest batch.",
            show_default="8, as a server forms, or what the graph takes",
        ),
    ] = None,
) -> None:
    """Build TensorRT's engine of a bundle on this device. --device tensorrt runs it.

    It is kept in MISGIVING_CACHE, else in the user's cache folder, and built again when the
    bundle, the GPU, its driver or TensorRT has changed.

    Example: misgiving build --bundle bundle --precision fp32 --opt-batch 2
    """
    from misgiving.runtime.verbs.build import build as run

    typer.echo(run(bundle, precision, (min_batch, opt_batch, max_batch)))


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
    """Say whether a runtime that trusts these keys takes a bundle.

    Example: misgiving verify bundle.zip --trust keys
    """
    from misgiving.runtime.verbs.verify import verify as run

    typer.echo(run(bundle, trust))


@config.command("check")
def check_config(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The misgiving.toml.")],
) -> None:
    """Say what 'serve' or 'watch' with this file would run with.
    Exit code 1 where something is wrong, and what.

    Example: misgiving config check misgiving.toml
    """
    from misgiving.runtime import MisgivingError
    from misgiving.runtime.verbs.config import check as run

    try:
        typer.echo(run(file))
    except MisgivingError as error:
        typer.echo(f"misgiving: {error}", err=True)
        raise typer.Exit(1) from error


@cache
def mount_verbs() -> None:
    """Add the other parts' verbs to the command, once a process."""
    for entry in metadata.entry_points(group="misgiving.verbs"):
        try:
            part: typer.Typer = entry.load()
        except ImportError as error:  # a broken part must not keep a vehicle from serving
            text = f"verbs of {entry.name} are missing: {error}; install misgiving again"
            typer.echo(f"misgiving: {text}", err=True)
            continue
        app.registered_commands.extend(part.registered_commands)
        app.registered_groups.extend(part.registered_groups)
