"""The score file: what a bundle says of a pool, a row for each person.

Columns ``id``, ``predicted_loss``, one for each signal of the bundle, and the embedding: in
Parquet one list, in CSV ``embedding_0`` and so on. The file's record (below) is the value of
``misgiving`` in Parquet's key-value metadata, and in CSV the first row's value of a last column
of that name, so that every reader of CSV takes the file; files of before have it as a first line,
behind ``# ``. Numbers are float32 and read back as the same bits, NaN as NaN.

Axes: N persons, D embedding.
"""

import csv as rows_of
import os
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from misgiving.runtime.bundles.manifest import Signal
from misgiving.runtime.errors import DataError, first_problem

if TYPE_CHECKING:  # it imports torch, and choosing from a file needs none
    from misgiving.trainer.answers.asking import Answers

SUFFIXES = (".parquet", ".csv")
Column = NDArray[np.float32]

_KEY, _MARK = b"misgiving", b"# "
_COLUMN = _KEY.decode()
_AGAIN = "It was altered or cut short: copy it, or score the pool, again"


class ScoreRecord(BaseModel):
    """What was scored, and by what; see :func:`score_pool`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1]
    bundle: str
    """Name, version and precision."""
    bundle_digest: str
    pool: str
    """Data spec without folders."""
    count: int = Field(gt=0)
    """Rows."""
    skipped: int
    """Persons of the pool without a row, because they could not be read."""
    signals: tuple[Signal, ...]
    embedding_size: int = Field(gt=0)


def schema_of(signals: Sequence[Signal], embedding_size: int) -> pa.Schema:
    """The columns, with the embedding as one."""
    numbers = [(name, pa.float32()) for name in ("predicted_loss", *(s.name for s in signals))]
    embedding = ("embedding", pa.list_(pa.float32(), embedding_size))
    return pa.schema([("id", pa.string()), *numbers, embedding])


def as_table(answers: "Sequence[Answers]", schema: pa.Schema) -> pa.Table:
    """Answers of one bundle as rows; there may be none."""
    batches = [
        pa.RecordBatch.from_arrays(
            [
                pa.array(part.ids, pa.string()),
                pa.array(part.predicted_loss),
                *(pa.array(column) for column in part.signals.T),
                pa.FixedSizeListArray.from_arrays(
                    part.embedding.ravel(), type=schema.field("embedding").type
                ),
            ],
            schema=schema,
        )
        for part in answers
    ]
    return pa.Table.from_batches(batches, schema).combine_chunks()


def check_suffix(path: Path) -> None:
    """Raise DataError unless the file's name says Parquet or CSV."""
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} ends with {path.suffix!r}; expected {' or '.join(SUFFIXES)}")


def write_scores(
    file: BinaryIO, suffix: str, record: ScoreRecord, tables: Iterable[pa.Table]
) -> None:
    """Write a whole score file, table by table.

    Args:
        file: open for writing, and empty.
        suffix: one of SUFFIXES.
        record: of the file.
        tables: from ``as_table``.
    """
    schema, text = schema_of(record.signals, record.embedding_size), record.model_dump_json()
    if suffix == ".csv":
        with csv.CSVWriter(file, _with_record(_flat_schema(schema))) as writer:
            for table in tables:
                writer.write_table(_flat(table, text))
                text = "" if len(table) else text
    else:
        schema = schema.with_metadata({_KEY: text})
        with parquet.ParquetWriter(file, schema, use_dictionary=False) as writer:
            for table in tables:
                writer.write_table(table)


@dataclass(frozen=True)
class ScoreFile:
    """A score file that has a record and the columns that it promises; see :func:`select`."""

    path: Path
    record: ScoreRecord

    def columns(self) -> tuple[list[str], dict[str, Column]]:
        """Ids, and by name predicted_loss and the signals, each (N,).

        Raises:
            DataError: the rows cannot be read, or are not as many as the record says.
        """
        names = ["predicted_loss", *(signal.name for signal in self.record.signals)]
        ids: list[str] = []
        values = np.empty((self.record.count, len(names)), np.float32)
        for rows, batch in self._batches(["id", *names]):
            ids += batch.column(0).to_pylist()
            values[rows] = _numbers(batch.columns[1:])
        return ids, dict(zip(names, values.T, strict=True))

    def embedding(self) -> Column:
        """(N, D); raises as ``columns``."""
        others = 2 + len(self.record.signals)
        names = _promised(self.path, self.record).names[others:]
        values = np.empty((self.record.count, self.record.embedding_size), np.float32)
        for rows, batch in self._batches(names):
            values[rows] = _numbers(batch.columns)
        return values

    def _batches(self, names: list[str]) -> Iterator[tuple[slice, pa.RecordBatch]]:
        """Some columns, batch by batch, and where the rows of each belong."""
        read = _read_csv if self.path.suffix == ".csv" else _read_parquet
        at, count = 0, self.record.count
        try:
            for batch in read(self.path, _promised(self.path, self.record), names):
                if at + len(batch) <= count:
                    yield slice(at, at + len(batch)), batch
                at += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path} cannot be read: {_line(error)}. {_AGAIN}") from error
        if at != count:
            raise DataError(f"{self.path} has {at} rows; its record says {count}. {_AGAIN}")


def open_scores(path: Path) -> ScoreFile:
    """Read a score file's record, and check that its columns are there.

    Raises:
        DataError: it cannot be read, or 'misgiving score' did not write it.
    """
    check_suffix(path)
    expected = "expected a file from 'misgiving score'"
    try:
        text, there = (_head_of_csv if path.suffix == ".csv" else _head_of_parquet)(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {_line(error)}; {expected}") from error
    if not text:
        raise DataError(f"{path} names neither a bundle nor a pool; {expected}")
    try:
        record = ScoreRecord.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}; {expected}") from error
    promised = [(field.name, field.type) for field in _promised(path, record)]
    if missing := [name for name, kind in promised if there.get(name) != kind]:
        raise DataError(
            f"{path} lacks the column {missing[0]!r} of its record, or has it as another type. "
            f"{_AGAIN}"
        )
    return ScoreFile(path, record)


def _promised(path: Path, record: ScoreRecord) -> pa.Schema:
    schema = schema_of(record.signals, record.embedding_size)
    return _flat_schema(schema) if path.suffix == ".csv" else schema


def _head_of_parquet(path: Path) -> tuple[bytes, dict[str, pa.DataType]]:
    """The record's text, empty where there is none, and the columns' types."""
    with path.open("rb") as file:
        schema = parquet.read_schema(file)
    return (schema.metadata or {}).get(_KEY, b""), {field.name: field.type for field in schema}


def _head_of_csv(path: Path) -> tuple[bytes, dict[str, pa.DataType]]:
    """As of Parquet; every column there is has the type that is asked of it."""
    with path.open("rb") as file:
        first = file.readline().removeprefix(BOM_UTF8) if _is_of_before(file) else b""
        rows = rows_of.reader(line.decode("utf-8-sig", "replace") for line in file)
        names, row = next(rows, []), next(rows, [])
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 1))
        if file.read() not in (b"", b"\n"):  # half a number may look like a whole one
            raise DataError(f"{path} ends within a row. {_AGAIN}")
    text = dict(zip(names, row, strict=False)).get(_COLUMN, "").encode()
    columns = {name: pa.string() if name == "id" else pa.float32() for name in names}
    return first[len(_MARK) :] or text, columns


def _is_of_before(file: BinaryIO) -> bool:
    """Whether the record is the first line, which is what is read next."""
    found = file.read(len(BOM_UTF8 + _MARK)).removeprefix(BOM_UTF8).startswith(_MARK)
    file.seek(0)
    return found


def _read_parquet(path: Path, schema: pa.Schema, names: list[str]) -> Iterator[pa.RecordBatch]:
    # Opened here, as everywhere: pyarrow takes no name that is no UTF-8.
    with path.open("rb") as content, parquet.ParquetFile(content) as file:
        for batch in file.iter_batches(columns=names):
            yield batch.select(names)


def _read_csv(path: Path, schema: pa.Schema, names: list[str]) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        batches = csv.open_csv(
            file,
            read_options=csv.ReadOptions(skip_rows=int(_is_of_before(file))),
            convert_options=csv.ConvertOptions(column_types=schema, include_columns=names),
        )
        with batches:
            yield from batches


def _numbers(columns: Sequence[pa.Array]) -> Column:
    """Columns side by side, (N, …); a list is as many as it is long."""
    parts = []
    for column in columns:
        nested = pa.types.is_fixed_size_list(column.type)
        flat = column.flatten() if nested else column
        width = column.type.list_size if nested else 1
        parts.append(flat.to_numpy(zero_copy_only=False).reshape(-1, width))
    return np.hstack(parts)


def _flat_schema(schema: pa.Schema) -> pa.Schema:
    """With a column for each number of the embedding, which is the last one."""
    *others, embedding = schema
    names = [f"embedding_{i}" for i in range(embedding.type.list_size)]
    return pa.schema([*others, *((name, pa.float32()) for name in names)])


def _with_record(schema: pa.Schema) -> pa.Schema:
    return schema.append(pa.field(_COLUMN, pa.string()))


def _flat(table: pa.Table, text: str) -> pa.Table:
    """As CSV has it, with the file's record in the first row; empty for none."""
    *others, embedding = table.columns
    numbers = _numbers([embedding.combine_chunks()])
    record = pa.array([text or None, *[None] * len(table)][: len(table)], pa.string())
    columns = [*others, *(pa.array(column) for column in numbers.T), record]
    return pa.table(columns, schema=_with_record(_flat_schema(table.schema)))


def _line(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())
