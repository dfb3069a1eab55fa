"""The process around the verbs: what goes wrong becomes one line on stderr and an exit code.

====  ==========================================================================
0     done
1     part of the work failed (a frame, an image, whoever read stdout), or misgiving itself,
      with a traceback
2     nothing was done, for a reason that the user can mend
130   stopped by SIGINT (Ctrl-C)
143   stopped by SIGTERM
====  ==========================================================================

Only the standard library is imported before the signals are ours: Ctrl-C may come at any time.
"""

import contextlib
import errno
import importlib.util
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from importlib import metadata
from io import TextIOWrapper
from types import FrameType
from typing import Any, NoReturn

from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.public import EXTRAS

NEEDS = {
    "evaluate": ("cpu", "train"),
    "score": ("cpu", "train"),
    "prelabel": ("cpu", "train", "collector"),
    "export": ("cpu", "train", "export"),
    "demo": ("cpu", "train", "export", "collector"),
}
"""Verb → its extras, where they are more than one: all that lack are told at once."""

LONGEST = 1000
"""Characters of a message; of a longer one, such as a path, the middle is left out."""

PATIENCE_S = 10.0
"""How long one of torchrun's processes waits, before it speaks, for another one's end to end it."""

_TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Variable that torchrun sets for each process that it starts."""

READERS = ("frames", "source")
"""Names of the threads that read frames, see sending.py and live.py."""

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


class Stopped(SystemExit):
    """SIGINT or SIGTERM; unwinds the verb, which removes what is half-written."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


def main() -> None:
    """Run the command that this process was started with."""
    _open_streams()
    if _speaks():
        take_signals()
    else:  # writes nothing, so that it may end anywhere, even where Python would not hear of it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.excepthook = _thread_ended
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # our own line says what is wrong
    whole, wheels = opencv()
    if wheels:
        _say(wheels)
    # Two wheels of one version work, and other packages ask for the second.
    _end(run(sys.argv[1:]) if whole else 2)


def take_signals() -> None:
    """Let the next SIGINT or SIGTERM raise Stopped in the main thread."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    sys.unraisablehook = _unraisable


def run(arguments: Sequence[str]) -> int:
    """Run a verb, say on stderr what went wrong, and give the exit code."""
    try:
        code = _invoke(arguments)
        sys.stdout.flush()  # a full disk or a closed pipe shows here at the latest
        return code
    except Stopped as stop:
        return _say(f"stopped by {stop.name}; what was finished is kept", int(str(stop.code)))
    except MisgivingError as error:
        return _say(str(error))
    except BrokenPipeError:  # as in `| head`: nobody is there to be told
        _drop_stdout()
        return 1
    except Exception as error:
        if text := _mendable(error, arguments):
            _drop_stdout()
            return _say(text)
        if _TORCHRUN in os.environ:  # perhaps another process ended, and has said why
            time.sleep(PATIENCE_S)
        traceback.print_exc()
        return _say("that is a fault of misgiving; report it with the lines above", 1)


def _open_streams() -> None:
    """Streams that were closed lead nowhere, else the next file would take their number; what a
    terminal cannot show is escaped: a name must not end an hour's work."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _end(code: int) -> NoReturn:
    """End the process; at once where a thread is still in a decoder, which would abort it else."""
    if any(thread.name in READERS for thread in threading.enumerate()):
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _invoke(arguments: Sequence[str]) -> int:
    if not all(arguments) or any(re.fullmatch("--[a-z-]+=", one) for one in arguments):
        return _say("an argument is empty; expected a value. Is a shell variable not set?")
    from misgiving.runtime.verbs import cli

    cli.mount_verbs()
    try:
        return cli.app(arguments, prog_name="misgiving", standalone_mode=False) or 0
    except cli.UsageError as error:
        return _say_usage(error, arguments)


def opencv() -> tuple[bool, str]:
    """Whether OpenCV's files are there, and what is wrong with its wheels, which share these."""
    names = ("opencv-python", "opencv-contrib-python")
    found = [name for name in (*names, *(f"{n}-headless" for n in names)) if _installed(name)]
    cv2 = importlib.util.find_spec("cv2")
    whole = cv2 is not None and cv2.origin is not None  # else an empty folder may be left
    if whole and len(found) < 2:
        return True, ""
    what = f"{' and '.join(found) or 'no wheel of OpenCV'} {'are' if len(found) > 1 else 'is'} "
    what += "installed" + ("" if whole else " and its files are gone" if found else "")
    remove = f"pip uninstall -y {' '.join(found)}, then: " if found else ""
    return whole, (
        f"{what}; expected one wheel of OpenCV, since all write the same files. "
        f"Run: {remove}pip install --force-reinstall opencv-python-headless"
    )


def _installed(wheel: str) -> bool:
    try:
        metadata.version(wheel)
    except metadata.PackageNotFoundError:
        return False
    return True


def _say_usage(error: Any, arguments: Sequence[str]) -> int:
    if not str(error.message).startswith("Usage:"):  # without a command, that is its whole help
        path = error.ctx.command_path if error.ctx else f"misgiving {arguments[0]}"
        return _say(f"{error.format_message().rstrip('.')}; see '{path} --help'")
    print(error.message, file=sys.stderr)
    return 2


def _mendable(error: Exception, arguments: Sequence[str]) -> str:
    """What the user can do about an error of another library; empty where it is ours."""
    if isinstance(error, ImportError) and error.name == "cv2":
        return f"OpenCV does not load: {error}. See the line above, or reinstall it"
    if isinstance(error, ModuleNotFoundError):
        return _missing((error.name or "").partition(".")[0], arguments)
    if isinstance(error, OSError) and error.errno in _DISK:
        return (
            f"{error.filename or 'output'} cannot be written: {error.strerror}; "
            "expected a sound disk with room. Free some, or write elsewhere"
        )
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"{error.filename}: {error.strerror}; expected a path that can be used. Name another, "
            "or change its rights"
        )
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return (
            f"{ascii(error.object)} is not UTF-8, which a library that is used here expects of "
            "names. Rename it or, where the name is UTF-8 and the locale is not, set LC_ALL=C.UTF-8"
        )
    if isinstance(error, MemoryError):
        return f"out of memory ({error}); expected to have enough. Name less data, or a smaller net"
    return ""


def _missing(module: str, arguments: Sequence[str]) -> str:
    if module not in EXTRAS:
        return ""
    extras = NEEDS.get(arguments[0], ())
    if EXTRAS[module] not in extras:
        extras = (*extras, EXTRAS[module])
    needed = [name for name, extra in EXTRAS.items() if extra in extras]
    lacking = [name for name in needed if importlib.util.find_spec(name) is None] or [module]
    be = "is" if len(lacking) == 1 else "are"
    return (
        f"{', '.join(lacking)} {be} not installed; run: pip install 'misgiving[{','.join(extras)}]'"
    )


def _speaks() -> bool:
    """Of the processes that torchrun starts, the first speaks for all: they do the same."""
    return _TORCHRUN not in os.environ or os.environ["RANK"] == "0"


def _say(message: str, code: int = 2) -> int:
    if not _speaks():
        time.sleep(PATIENCE_S)
    line = " ".join(message.splitlines())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    from misgiving.runtime.telemetry.logs import say

    say(f"misgiving: {line}", "ERROR")
    return code


def _drop_stdout() -> None:
    """Let nothing more be written: the interpreter would try to at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop(number: int, frame: FrameType | None) -> None:
    """The first signal unwinds, a second one ends the process at once."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)
    raise Stopped(number)


def _unraisable(args: Any) -> None:
    """A signal in the middle of a destructor, which swallows it, comes again a little later."""
    if isinstance(args.exc_value, Stopped):
        take_signals()
        again = os.getpid(), signal.Signals[args.exc_value.name]
        threading.Timer(0.05, os.kill, again).start()
    else:
        sys.__unraisablehook__(args)


def _thread_ended(args: threading.ExceptHookArgs) -> None:
    """A full disk, met by a library's thread, is told by the thread that waits for it."""
    if not (isinstance(args.exc_value, OSError) and args.exc_value.errno in _DISK):
        threading.__excepthook__(args)


if __name__ == "__main__":
    main()
