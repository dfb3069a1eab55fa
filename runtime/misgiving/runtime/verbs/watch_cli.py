"""The options of ``watch``."""

from pathlib import Path
from typing import Annotated

import typer

from misgiving.runtime.verbs.options import (
    AuditRate,
    Bundle,
    Collector,
    CollectorTls,
    Config,
    Detector,
    Device,
    DeviceId,
    Precision,
    Scraped,
    SpoolDays,
    SpoolFolder,
    SpoolQuota,
    Threads,
    Threshold,
    Trust,
    given,
)


def watch(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Cameras (0 or /dev/video0), rtsp://, rtsps:// or MJPEG over http(s)://; env:NAME "
            "for a variable that holds such a URL; recordings, paced like a camera. Without one "
            "those of --config.",
        ),
    ] = None,
    config: Config = None,
    bundle: Bundle = None,
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
    show: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Show the annotated pictures to a browser of this machine, on loopback alone.",
        ),
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write an annotated picture of each flagged event there; beyond 1 GiB the oldest "
            "go.",
        ),
    ] = None,
    clips: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write the seconds around each flagged event there, as MP4; beyond 1 GiB the "
            "oldest go. Needs misgiving[clips].",
        ),
    ] = None,
    before: Annotated[
        float,
        typer.Option(metavar="S", help="Seconds that a clip shows before its event, 0 to 60."),
    ] = 5.0,
    after: Annotated[
        float, typer.Option(metavar="S", help="Seconds that a clip shows after it, 0 to 60.")
    ] = 5.0,
) -> None:
    """Answer cameras in this process, without a client.

    A camera that is lost is opened again until Ctrl-C or SIGTERM, which ends with 0; the others
    go on. Where all sources are recordings, it ends with them: with 1 where a frame failed.

    Example: misgiving watch /dev/video0 rtsp://camera.example/stream1 --spool spool/
    """
    from misgiving.runtime.settings.model import Settings
    from misgiving.runtime.settings.reading import Sources
    from misgiving.runtime.verbs.watch import named, run_watch

    read = Sources(config, given(context)).settings

    def settings() -> Settings:
        """Sources on the command line stand for the cameras of the file."""
        cameras = {"camera": named(sources)} if sources else {}
        return read().model_copy(update=cameras)

    raise typer.Exit(run_watch(settings(), settings if config else None))
