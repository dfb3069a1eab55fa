"""The verb ``next-cycle``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from misgiving.runtime.errors import InvalidInput
from misgiving.trainer.options import Device, Threads


def next_cycle(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE.toml", help="What the cycle is; see --describe."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the cycle: new, or this cycle's."),
    ] = None,
    describe: Annotated[
        bool, typer.Option("--describe", help="Print a FILE.toml to start from, and do no more.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what comes next, and do nothing.")
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="What the annotators' tool has exported; DIR/labels by default."
        ),
    ] = None,
    release: Annotated[
        bool,
        typer.Option(
            "--release", help="Sign the new bundle and release it, once the comparison is there."
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print where each step stands as one JSON record.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Take the next step of active learning from the collector.

    The steps: select frames, export them to annotators, take the labels, train or attach, export,
    calibrate, compare with the bundle in the field, sign, release to the first ring. It says what
    it will do, does what can be done, and stops where a person has to label or to decide; the same
    command goes on from there, and after a kill.

    A FILE.toml to start from: misgiving next-cycle --describe > fleet.toml

    Example: misgiving next-cycle fleet.toml --out runs/week-48
    """
    from misgiving.export.next_cycle.asked import TEMPLATE, read_asked

    if describe:
        typer.echo(TEMPLATE, nl=False)
        return
    if file is None or out is None:
        raise InvalidInput("next-cycle got no FILE.toml or no --out; expected both. See --help")
    asked = read_asked(file)

    from misgiving.export.next_cycle.run import next_cycle, run_plan
    from misgiving.trainer import Compute

    compute = Compute(device=device, threads=threads)
    if plan:
        planned = run_plan(asked, out, compute, labels, release)
        if not json:
            typer.echo("\n".join(f"{number} {one}" for number, one in enumerate(planned, 1)))
    else:
        say = (lambda line: None) if json else typer.echo
        planned = next_cycle(asked, out, compute, labels=labels, release=release, say=say)
    if json:
        from json import dumps

        typer.echo(dumps([asdict(one) for one in planned], ensure_ascii=False))
