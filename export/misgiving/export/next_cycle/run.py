"""A cycle taken as far as it goes now: the plan first, then one step after another."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from misgiving.export.next_cycle.asked import Asked
from misgiving.export.next_cycle.models import labels_spec
from misgiving.export.next_cycle.record import LABELS, Cycle, cycle_in, seen_cycle
from misgiving.export.next_cycle.steps import ALL, Run
from misgiving.export.next_cycle.tasks import TRAIN
from misgiving.trainer import Compute

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Planned:
    """Where one step stands."""

    name: str
    state: str
    """``done``, ``next``, ``waits for you`` or ``later``."""
    said: str

    def __str__(self) -> str:
        return f"{self.name:10} {self.state:14} {self.said}"


def plan(run: Run) -> list[Planned]:
    """Where each step stands, with the figures that are known now."""
    state, planned = "next", []
    for step in ALL:
        if step.name in run.cycle.done:
            planned.append(Planned(step.name, "done", run.came(step.name, "said")))
            continue
        waits = step.waits(run) if state == "next" else ""
        if waits:
            planned.append(Planned(step.name, "waits for you", waits))
            state = "later"
        else:
            planned.append(Planned(step.name, state, step.ahead(run)))
    return planned


def run_plan(
    asked: Asked, out: Path, compute: Compute, labels: Path | None, release: bool
) -> list[Planned]:
    """What the next call would do; nothing is written.

    Raises:
        MisgivingError: it would end with an error.
    """
    return plan(run_of(asked, seen_cycle(out, asked), compute, labels, release))


def next_cycle(
    asked: Asked,
    out: Path,
    compute: Compute,
    *,
    labels: Path | None = None,
    release: bool = False,
    say: Say = print,
) -> list[Planned]:
    """Take a cycle's next steps, up to where a person has to do or to decide something.

    A call that was killed is made good by the next one.

    Args:
        asked: the file.
        out: folder of the cycle, new or going on.
        compute: where it trains.
        labels: where the annotators' work is; ``OUT/labels`` by default.
        release: whether the new bundle shall go out; taken only where the comparison was there
            before this call.
        say: takes lines for people: the plan, and what comes of each step.

    Returns:
        Where each step stands now.

    Raises:
        InUse: another process has the folder.
        MisgivingError: a step cannot be taken; those before it stay done.
    """
    with cycle_in(out, asked) as cycle:
        run = run_of(asked, cycle, compute, labels, release)
        say(f"{out}, cycle {cycle.id}")
        for number, one in enumerate(plan(run), 1):
            say(f"{number} {one}")
        if release and not run.release and "compare" not in cycle.done:
            say("--release is taken once the comparison is there to be looked at")
        for step in ALL:
            if step.name in cycle.done:
                continue
            if waits := step.waits(run):
                say(f"{step.name} waits: {waits}")
                break
            came = step.do(run)
            cycle.finish(step.name, came)
            for line in [*came.get("notes", ()), *came.get("lines", ())]:
                say(line)
            say(f"{step.name}: {came['said']}")
        else:
            say(_after(run))
        return plan(run)


def run_of(asked: Asked, cycle: Cycle, compute: Compute, labels: Path | None, release: bool) -> Run:
    return Run(
        asked=asked,
        cycle=cycle,
        compute=compute,
        labels=labels or cycle.out / LABELS,
        release=release and "compare" in cycle.done,
    )


def _after(run: Run) -> str:
    begins = f", and init = {str(run.out / 'checkpoint')!r}" if run.asked.train else ""
    return (
        f"the cycle is done. The next one: another --out, {labels_spec(run.out, TRAIN)!r} among "
        f"the data{begins}"
    )
