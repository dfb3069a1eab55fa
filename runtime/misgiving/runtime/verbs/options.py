"""Options that verbs share: which bundle answers, and on what; who is flagged, what is kept."""

from pathlib import Path
from typing import Annotated

import typer

Bundle = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Bundle to answer with, folder or zip; else MISGIVING_BUNDLE, else the package's own.",
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda or tensorrt.")]
Threads = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="CPU threads within one inference; 0 for half of the usable cores."
    ),
]
Detector = Annotated[
    Path | None,
    typer.Option(
        metavar="TOML",
        help="Person detector: a TOML that describes its ONNX file. It finds the persons of images "
        "without a region; without it one person is looked for.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(metavar="NAME", help="fp32, or another that the bundle has: fp16, int8."),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        metavar="LOSS|NAME",
        help="Flag a person from this predicted_loss on, or by one of the bundle's thresholds, for "
        "example flag_rate=0.1; without it by likely: failure is more likely than not.",
    ),
]
Tls = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of tls.crt and tls.key, for TLS, and of ca.crt, by which clients then need a "
        "certificate; read again when they change.",
    ),
]
Insecure = Annotated[
    bool,
    typer.Option("--insecure", help="Listen without TLS where other machines can reach it."),
]
Trust = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of trusted keys (*.pub), or one such key: take only bundles that one of them "
        "signed; else MISGIVING_TRUST, else every bundle.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="misgiving.toml; what is given beside it on this line wins."),
]
AuditRate = Annotated[
    float,
    typer.Option(
        metavar="SHARE", help="Share of persons to keep at random, flagged or not, 0 to 1."
    ),
]
SpoolFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder in which kept frames wait for their upload; without it none is kept.",
    ),
]
SpoolQuota = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Bytes of frames that may wait, for example 2GiB; beyond it the least valuable go.",
    ),
]
SpoolDays = Annotated[
    float | None, typer.Option(metavar="DAYS", help="How long a frame may wait; older ones go.")
]
Collector = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Upload the spool there; needs --spool.")
]
CollectorTls = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of ca.crt, by which the collector's certificate must be, and of tls.crt "
        "and tls.key to show it.",
    ),
]
ClientTls = Annotated[
    Path | None,
    typer.Option(
        "--tls",
        metavar="DIR",
        help="Folder of ca.crt, by which the server's certificate must be, and of tls.crt and "
        "tls.key where it asks for one.",
    ),
]
Scraped = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Answer Prometheus there, over HTTP.")
]
DeviceId = Annotated[
    str, typer.Option(metavar="NAME", help="Name of this device in collected frames.")
]


def size_of(text: str, option: str) -> int:
    """The bytes of a size such as 2GiB; raises InvalidInput where it is none, or 0."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    from misgiving.runtime.errors import InvalidInput

    try:
        size = TypeAdapter(ByteSize).validate_python(text)
    except ValidationError:
        size = ByteSize(0)
    if size < 1:
        raise InvalidInput(f"{option} is {text!r}; expected a size above 0, such as 500MB or 2GiB")
    return size


def given(context: typer.Context) -> dict[str, object]:
    """The options that stand on the command line; the others are left to a file."""
    names = [name for name in context.params if name not in ("config", "sources")]
    return {
        name: context.params[name]
        for name in names
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
