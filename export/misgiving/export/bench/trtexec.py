"""TensorRT's own timing tool, where it is present: what others quote.

Untested on hardware: no GPU was at hand. It builds an engine anew each time, so its start is left
out of the table.
"""

import json
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from misgiving.export.bench.cases import Case
from misgiving.export.bench.worker import Timing
from misgiving.runtime.bundles.bundle import MODEL, Bundle
from misgiving.runtime.errors import EngineError

JETPACK = "/usr/src/tensorrt/bin"
"""Where JetPack puts it, which is on nobody's PATH."""
TIMEOUT_S = 1800.0
_NAN = float("nan")


def find() -> str | None:
    """Its path, None where it is not here."""
    return shutil.which("trtexec") or shutil.which("trtexec", path=JETPACK)


def measure(tool: str, case: Case, bundle: Bundle, seconds: float) -> Timing:
    """Build an engine and time it, as ``trtexec`` does: without transfers, as a CUDA graph.

    Raises:
        EngineError: it failed.
    """
    rule = bundle.manifest.crop
    shapes = f"--shapes=image:{case.batch}x{rule.height}x{rule.width}x3"
    with TemporaryDirectory() as folder:
        times = Path(folder) / "times.json"
        command = [
            tool,
            f"--onnx={bundle.path / case.file}",
            # Of a graph of one batch size, trtexec takes no shapes; it supposes 1 where it may.
            *([] if bundle.manifest.max_batch == 1 else [shapes]),
            "--useCudaGraph",
            "--useSpinWait",
            "--noDataTransfers",
            f"--duration={max(1, round(seconds))}",
            f"--exportTimes={times}",
            # Typed graphs need no flag since TensorRT 11; before it, a flag allows the precision.
            *([] if case.file == MODEL else _flags(tool)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode or not times.exists():
            said = [line for line in done.stdout.splitlines() if "[E]" in line]
            raise EngineError(f"trtexec failed: {said[0] if said else 'no message'}")
        calls = latencies(times.read_text(encoding="utf-8"))
    return Timing(start_s=_NAN, first_ms=_NAN, calls_ms=calls, peak_mib=_NAN)


def latencies(text: str) -> tuple[float, ...]:
    """Milliseconds of each call in a file of ``--exportTimes``.

    >>> latencies('[{"computeMs": 0.41, "latencyMs": 0.52}, {"computeMs": 0.4, "latencyMs": 0.5}]')
    (0.52, 0.5)
    """
    return tuple(float(call["latencyMs"]) for call in json.loads(text))


def _flags(tool: str) -> list[str]:
    """``--fp16`` where this version has it."""
    told = subprocess.run([tool, "--help"], capture_output=True, text=True).stdout
    return ["--fp16"] if "--fp16" in told else []
