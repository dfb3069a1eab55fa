"""A process that times one case and ends: so memory and start are the case's own.

Called by :mod:`misgiving.export.bench.run` with a case as JSON; prints a :class:`Timing` as JSON,
or, where the case cannot run here, why.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from misgiving.export.bench.cases import Case, prepare
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.errors import MisgivingError

WARM_UP_SHARE, LEAST_CALLS = 0.2, 5
"""Of the time that is measured; and however slow it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """One process of one case."""

    start_s: float
    """From the bundle to an engine that is ready, its libraries' import included."""
    first_ms: float
    """The first inference."""
    calls_ms: tuple[float, ...]
    """Those after the warm-up."""
    peak_mib: float
    """Highest resident size of the process, libraries included."""


def main() -> None:
    """Time the case that the command line gives."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    try:
        timing = measure(Case(**asked["case"]), Path(asked["bundle"]), asked["seconds"])
    except MisgivingError as error:
        print(json.dumps({"error": str(error)}))
        return
    print(json.dumps(asdict(timing)))


def measure(case: Case, path: Path, seconds: float) -> Timing:
    """Load, answer once, warm up, and measure for some seconds.

    Raises:
        MisgivingError: the case cannot run here.
    """
    bundle = Bundle.load(path)
    begun = time.perf_counter()
    call = prepare(case, bundle)
    start = time.perf_counter() - begun
    first = _timed(call, 0.0, 1)[0]
    _timed(call, WARM_UP_SHARE * seconds, LEAST_CALLS)
    calls = _timed(call, seconds, LEAST_CALLS)
    return Timing(start_s=start, first_ms=first, calls_ms=tuple(calls), peak_mib=_peak_mib())


def _timed(call: Any, seconds: float, least: int) -> list[float]:
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < least or time.perf_counter() < end:
        begun = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - begun))
    return taken


def _peak_mib() -> float:
    """VmHWM, not ru_maxrss: that begins with the size of the parent."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
