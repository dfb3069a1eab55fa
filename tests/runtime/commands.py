"""``misgiving`` as a user starts it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from shared import tiny

COMMAND = [sys.executable, "-m", "misgiving"]


@contextmanager
def server(*arguments: object) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """``misgiving serve`` as a process, and its address once it says that it is ready."""
    command = [*COMMAND, "serve", "--listen", "127.0.0.1:0", "--bundle", str(tiny.BUNDLE)]
    command += [str(argument) for argument in arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert line.startswith("serving bright-spots 1 on 127.0.0.1:"), line
            assert line.endswith(" with onnxruntime CPUExecutionProvider fp32\n")
            flagging = process.stderr.readline()
            assert flagging.startswith("flags from predicted_loss "), flagging
            licence = process.stderr.readline()
            assert licence == "weights of bright-spots, their licence: Apache-2.0\n"
            yield process, line.split()[4]
        finally:
            process.kill()
