"""Progress on stderr: a bar on a terminal, a line an epoch elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, TextColumn, track

if TYPE_CHECKING:  # data sets print a line, and are opened without torch
    from misgiving.trainer.fit import EpochLog, Reporter

_console = Console(stderr=True)


def counted(count: int, what: str) -> Iterator[int]:
    """The numbers below ``count``, with a bar named ``what`` on a terminal."""
    hidden = not _console.is_terminal
    yield from track(range(count), what, console=_console, disable=hidden, transient=True)


def be_silent() -> None:
    """Show nothing from now on: another process shows the same."""
    _console.quiet = True


@contextmanager
def epochs(count: int, what: str) -> "Iterator[Reporter]":
    """Gives a reporter that shows losses, PCK and images per second of each epoch."""
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[state]}"))
    with Progress(*columns, console=_console, disable=not _console.is_terminal) as bar:
        task = bar.add_task(what, total=count, state="")

        def report(log: "EpochLog") -> None:
            bar.update(task, completed=log.epoch + 1, state=_state(log))
            if not _console.is_terminal:
                print_line(f"{what}: epoch {log.epoch + 1}/{count}  {_state(log)}")

        yield report


def print_line(text: str) -> None:
    """One line on stderr, past a bar where there is one."""
    _console.print(text, highlight=False, markup=False, soft_wrap=True)


def print_lines(*texts: str) -> None:
    """A line for each text that is not empty."""
    for text in filter(None, texts):
        print_line(text)


def print_step(text: str) -> None:
    """One line on stderr where no bar shows the same."""
    if not _console.is_terminal:
        print_line(text)


def _state(log: "EpochLog") -> str:
    heads = "  ".join(f"{name} {loss:.3f}" for name, loss in log.head_losses.items())
    rate = f"{log.images_per_second:.0f} images/s"
    return f"pose {log.pose_loss:.3f}  {heads}  PCK {log.pck:.3f}  {rate}"
