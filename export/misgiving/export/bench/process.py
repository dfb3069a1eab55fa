"""A process that measures and ends, so that memory, start and speed are its own."""

import json
import subprocess
import sys
from typing import Any

from misgiving.runtime.errors import EngineError


def answer(module: str, asked: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Run a module with a question as JSON; gives the JSON that it printed last.

    Raises:
        EngineError: it answers ``{"error": …}``, or ends otherwise.
        TimeoutExpired: it takes longer.
    """
    command = [sys.executable, "-m", module, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    lines = done.stdout.splitlines()
    said: dict[str, Any] = json.loads(lines[-1]) if done.returncode == 0 and lines else {}
    if said and "error" not in said:
        return said
    last = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
    raise EngineError(said.get("error", last[-1]))
