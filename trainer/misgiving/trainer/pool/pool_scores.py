"""Score a pool into one file, in parts that outlive the process.

Beside ``<out>`` stands the folder ``<out>.part`` with ``job.json``, which says what is scored, and
a file for each PART persons that are done. Every file in it appears whole or not at all, so the
same command goes on where the last one ended, however that ended. When all parts are there they
are streamed into ``<out>``, which takes its name when it is whole, and the folder goes.

The parts are cut by position, so a run that was interrupted asks the same batches as one that was
not and writes the same bytes, on the same machine, device and threads. Where they are computed is
not said in the folder: a run that began on one machine may go on upon several (``on_ray``).
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.durable import check_new, locked_folder, sync_folder, write_durably
from misgiving.runtime.errors import DataError
from misgiving.runtime.estimator import Estimator
from misgiving.trainer import progress
from misgiving.trainer.answers.asking import ask
from misgiving.trainer.data import PoseSet
from misgiving.trainer.data.readable import MOST, Readable, asked_window, check_share
from misgiving.trainer.data.spec import without_folders
from misgiving.trainer.pool.score_file import (
    ScoreRecord,
    as_table,
    check_suffix,
    schema_of,
    write_scores,
)

PART = 1024
"""Persons; at most so many are scored again after a kill."""
Parts = Generator[tuple[range, bytes], None, None]
"""Positions, and the content of their part's file; in any order."""
Compute = Callable[[Sequence[range]], Parts]
"""Gives the parts that are missing."""

_JOB = "job.json"
_SKIPPED = b"skipped"


def score_pool(estimator: Estimator, pool: PoseSet, out: Path | str) -> ScoreRecord:
    """Write what a bundle says of each person of a pool; go on where an earlier call stopped.

    >>> record = score_pool(Estimator.load(), open_data("synthetic:3,8"), Path("pool.parquet"))
    >>> record.count, record.skipped
    (8, 0)

    A person that cannot be read is named on stderr, skipped and counted.

    Raises:
        DataError: ``out`` is there, is neither Parquet nor CSV, cannot be written, is being
            written, or was begun with another bundle or pool; nobody can be read.
    """
    out = Path(out)

    def compute(missing: Sequence[range]) -> Parts:
        bar = progress.counted(sum(map(len, missing)), "scoring")
        for part in missing:
            shown = (position for position, _ in zip(part, bar, strict=False))
            yield part, score_part(estimator, pool, shown, progress.print_line)

    return write_scored(estimator.bundle, pool, out, compute)


def write_scored(bundle: Bundle, pool: PoseSet, out: Path, compute: Compute) -> ScoreRecord:
    """:func:`score_pool` with parts that are computed anywhere, and written here."""
    check_suffix(out)
    check_new(out)
    if out.is_dir():
        raise DataError(f"{out} is a folder; expected the name of a new file")
    folder = out.with_name(out.name + ".part")
    with _writing(out, folder), locked_folder(folder):
        _begin(folder, bundle, pool)
        _write_parts(folder, len(pool), compute)
        record = _record(bundle, pool, folder)
        _merge(folder, len(pool), out, record)
    return record


@contextmanager
def _writing(out: Path, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{out} cannot be written: {error.strerror or error}; expected a folder on a disk with "
            "room. What is done is kept: mend it and give the same command again"
        ) from error
    except pa.ArrowException as error:
        raise DataError(
            f"{folder} holds a damaged part ({error}); expected what 'misgiving score' left there. "
            "Remove that folder to start anew"
        ) from error


def _begin(folder: Path, bundle: Bundle, pool: PoseSet) -> None:
    """Say in the folder what it is for, or check that it is for the same."""
    ids = hashlib.sha256("\n".join(pool.ids).encode()).hexdigest()
    job = {
        "bundle": bundle.digest,
        "precision": bundle.precision,
        "pool": pool.spec,
        "ids": ids,
        "part": PART,
    }
    path = folder / _JOB
    if not path.exists():
        write_durably(path, json.dumps(job, indent=2).encode())
        return
    try:
        begun: dict[str, object] = json.loads(path.read_bytes())
        name = next((name for name in job if begun[name] != job[name]), None)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is none of ours ({error}); expected what 'misgiving score' writes there. "
            "Give another --out, or remove that folder"
        ) from error
    if name:
        raise DataError(
            f"{folder} was begun with {name} {begun[name]}; this is {name} {job[name]}. "
            "Give another --out, or remove that folder to start anew"
        )


def _write_parts(folder: Path, persons: int, compute: Compute) -> None:
    parts = _parts(folder, persons)
    missing = [part for part, path in parts.items() if not path.exists()]
    done = persons - sum(map(len, missing))
    if done:
        progress.print_line(f"going on after {done} of {persons} persons")
    with closing(compute(missing)) as computed:
        for part, content in computed:
            write_durably(parts[part], content)
            done += len(part)
            progress.print_step(f"scored {done} of {persons} persons")


def score_part(
    estimator: Estimator, pool: PoseSet, positions: Iterable[int], tell: Callable[[str], None]
) -> bytes:
    """The file of the persons at some positions; who is skipped is told, and named in it."""
    manifest = estimator.bundle.manifest
    reader = Readable(pool, lambda sample: asked_window(sample, manifest.crop), tell)
    answers = list(ask(estimator, reader.samples(positions)))
    skipped = [pool.ids[position] for position in reader.skipped]
    table = as_table(answers, schema_of(manifest.signals, manifest.embedding_size))
    content = BytesIO()
    parquet.write_table(table.replace_schema_metadata({_SKIPPED: json.dumps(skipped)}), content)
    return content.getvalue()


def _parts(folder: Path, persons: int) -> dict[range, Path]:
    """Each part's positions and its file, which is there when the part is done."""
    starts = range(0, persons, PART)
    return {
        range(start, min(start + PART, persons)): folder / f"part-{number:06d}.parquet"
        for number, start in enumerate(starts)
    }


def _record(bundle: Bundle, pool: PoseSet, folder: Path) -> ScoreRecord:
    parts = _parts(folder, len(pool)).values()
    heads = [parquet.read_metadata(BytesIO(path.read_bytes())) for path in parts]
    skipped = sum(len(json.loads(head.metadata[_SKIPPED])) for head in heads)
    rows = sum(head.num_rows for head in heads)
    if not rows:
        shutil.rmtree(folder)
        raise DataError(f"nobody of {pool.spec} can be read; expected at least one person")
    if skipped > MOST * len(pool):
        shutil.rmtree(folder)
        check_share(pool.spec, skipped, len(pool), "see above")
    manifest = bundle.manifest
    return ScoreRecord(
        schema_version=1,
        bundle=f"{manifest.name} {manifest.version} {bundle.precision}",
        bundle_digest=bundle.digest,
        pool=without_folders(pool.spec),
        count=rows,
        skipped=skipped,
        signals=manifest.signals,
        embedding_size=manifest.embedding_size,
    )


def _merge(folder: Path, persons: int, out: Path, record: ScoreRecord) -> None:
    """The parts as one file, part by part; the folder is gone when it is there."""
    whole = folder / out.name
    try:
        with whole.open("wb") as file:
            tables = (
                parquet.read_table(BytesIO(path.read_bytes()))
                for path in _parts(folder, persons).values()
            )
            write_scores(file, out.suffix, record, tables)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        whole.unlink(missing_ok=True)  # a full disk needs the room
        raise
    check_new(out)
    os.replace(whole, out)
    sync_folder(out.parent)
    shutil.rmtree(folder)
