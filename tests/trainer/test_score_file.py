"""The score file: what is written reads back as the same bits, and another file is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from misgiving.runtime.bundles.manifest import Signal
from misgiving.runtime.errors import DataError
from misgiving.trainer.answers.asking import Answers
from misgiving.trainer.pool.score_file import (
    SUFFIXES,
    ScoreRecord,
    as_table,
    open_scores,
    schema_of,
    write_scores,
)

SIGNALS = (
    Signal(name="mean_peak", higher_is="safer"),
    Signal(name="entropy", higher_is="riskier"),
)
SIZE = 3
IDS = ("plain", 'a "quoted", one', "007", "nan", "Ünï/1#2", "", "# x")


def answers(count: int, seed: int = 0) -> Answers:
    """Every bit pattern of a float32 is as likely: huge, tiny, denormal, infinite, NaN."""
    bits = np.random.default_rng(seed).integers(0, 2**32, (count, 1 + 2 + SIZE), np.uint64)
    numbers = bits.astype(np.uint32).view(np.float32)
    numbers[:1, :3] = [[np.nan, np.inf, -0.0]][:count]
    return Answers(
        ids=tuple(IDS[i] if i < len(IDS) else f"person/{seed}/{i}" for i in range(count)),
        points=np.zeros((count, 1, 2), np.float32),
        confidence=np.zeros((count, 1), np.float32),
        predicted_loss=numbers[:, 0],
        signals=numbers[:, 1:3],
        embedding=numbers[:, 3:],
        keypoint_loss=np.zeros((count, 0), np.float32),
    )


def write(path: Path, parts: list[list[Answers]]) -> ScoreRecord:
    record = ScoreRecord(
        schema_version=1,
        bundle="made 1",
        bundle_digest="d1" * 32,
        pool="lsp:lsp#1-9",
        count=sum(len(part) for table in parts for part in table),
        skipped=2,
        signals=SIGNALS,
        embedding_size=SIZE,
    )
    tables = [as_table(part, schema_of(SIGNALS, SIZE)) for part in parts]
    with path.open("wb") as file:
        write_scores(file, path.suffix, record, tables)
    return record


def same_bits(one: np.ndarray, other: np.ndarray) -> None:
    assert one.dtype == other.dtype == np.float32
    assert one.shape == other.shape
    nan = np.isnan(other)
    np.testing.assert_array_equal(np.isnan(one), nan)
    np.testing.assert_array_equal(one[~nan].view(np.uint32), other[~nan].view(np.uint32))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "sizes",
    [
        [[1]],  # one person
        [[7]],
        [[3, 4], [5]],  # batches of a table, and tables
        [[], [4], []],  # tables of nobody
        [[20_000]],  # more than any reader's batch
    ],
)
def test_round_trip(tmp_path: Path, suffix: str, sizes: list[list[int]]) -> None:
    path = tmp_path / f"scores{suffix}"
    parts = [[answers(count, seed) for seed, count in enumerate(table)] for table in sizes]
    record = write(path, parts)
    flat = [part for table in parts for part in table]
    file = open_scores(path)
    ids, columns = file.columns()
    assert file.record == record
    assert ids == [name for part in flat for name in part.ids]
    assert list(columns) == ["predicted_loss", "mean_peak", "entropy"]
    same_bits(columns["predicted_loss"], np.concatenate([part.predicted_loss for part in flat]))
    for number, name in enumerate(("mean_peak", "entropy")):
        same_bits(columns[name], np.concatenate([part.signals[:, number] for part in flat]))
    same_bits(file.embedding(), np.concatenate([part.embedding for part in flat]))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_name_that_is_no_utf_8(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"stra\udcdfe{suffix}"
    write(path, [[answers(7)]])
    file = open_scores(path)
    assert file.columns()[0] == list(IDS)
    same_bits(file.embedding(), answers(7).embedding)


def test_parquet_as_others_read_it(tmp_path: Path) -> None:
    record = write(tmp_path / "a.parquet", [[answers(7)]])
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["id", "predicted_loss", "mean_peak", "entropy", "embedding"]
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), SIZE)
    assert json.loads(table.schema.metadata[b"misgiving"]) == json.loads(record.model_dump_json())


def test_csv_as_others_read_it(tmp_path: Path) -> None:
    record = write(tmp_path / "a.csv", [[answers(7)]])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == [
        "id", "predicted_loss", "mean_peak", "entropy", "embedding_0", "embedding_1", "embedding_2",
        "misgiving",
    ]  # fmt: skip
    assert tuple(row[0] for row in rows) == IDS
    same_bits(np.array([row[4:7] for row in rows]).astype(np.float32), answers(7).embedding)
    assert json.loads(rows[0][7]) == json.loads(record.model_dump_json())
    assert {row[7] for row in rows[1:]} == {""}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_csv_of_before(tmp_path: Path, mark: bytes) -> None:
    """The record stood in a first line that is no row; an editor may have put a mark before it."""
    record = write(tmp_path / "new.csv", [[answers(7)]])
    header, *rows = (tmp_path / "new.csv").read_bytes().splitlines()
    head = record.model_copy(update={"count": 6}).model_dump_json().encode()
    # The first row has the record behind its last comma, the others have nothing there.
    old = [b"# " + head, header.removesuffix(b',"misgiving"'), *(row[:-1] for row in rows[1:])]
    (tmp_path / "old.csv").write_bytes(mark + b"\n".join([*old, b""]))
    (tmp_path / "new.csv").write_bytes(mark + (tmp_path / "new.csv").read_bytes())
    new, before = (open_scores(tmp_path / f"{name}.csv") for name in ("new", "old"))
    assert before.columns()[0] == new.columns()[0][1:] == list(IDS[1:])
    same_bits(before.embedding(), new.embedding()[1:])


def edited(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def cut(path: Path, left_off: int) -> None:
    path.write_bytes(path.read_bytes()[:-left_off])


KEEP = "expected a file from 'misgiving score'"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", r"ends with '.txt'; expected .parquet or .csv"),
        ("a", b"", r"ends with ''; expected"),
        ("a.csv", None, rf"a.csv cannot be read: No such file or directory; {KEEP}"),
        ("a.parquet", None, rf"a.parquet cannot be read: No such file or directory; {KEEP}"),
        ("a.csv", b"", rf"names neither a bundle nor a pool; {KEEP}"),
        ("a.parquet", b"", rf"cannot be read: .*0 bytes; {KEEP}"),
        ("a.csv", b"id,x\na,1\n", rf"names neither a bundle nor a pool; {KEEP}"),
        ("a.parquet", b"id,x\na,1\n", r"cannot be read: "),
        ("a.csv", b"# a comment\nid\n", r"a.csv: Invalid JSON"),
        ("a.csv", b'# {"schema_version": 2}\nid\n', r"schema_version: Input should be 1"),
        ("a.csv", b'# {"schema_version": 1}\nid\n', r"bundle: Field required"),
    ],
)
def test_other_files(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        open_scores(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"entropy",', b'"energy",', r"lacks the column 'entropy' of its record"),
        (b'"embedding_1"', b'"e"', r"lacks the column 'embedding_1' of its record"),
        (b'""count"":7', b'""count"":8', r"has 7 rows; its record says 8. It was altered or cut"),
        (b'""count"":7', b'""count"":6', r"has 7 rows; its record says 6"),
        (b'"007",', b'"007",x', r"cannot be read: .*conversion error"),
        (b'"007",', b"", r"cannot be read: .*Expected 8 columns"),
    ],
)
def test_altered_csv(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    path = tmp_path / "a.csv"
    write(path, [[answers(7)]])
    if old == b'"entropy",':  # the column, and not what the record says of it
        old, new = old + b'"embedding_0"', new + b'"embedding_0"'
    edited(path, old, new)
    with pytest.raises(DataError, match=message) as error:
        open_scores(path).columns()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("left_off", [1, 4, 200])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cut_short(tmp_path: Path, suffix: str, left_off: int) -> None:
    """Even by half a number, or by a line's end."""
    path = tmp_path / f"a{suffix}"
    write(path, [[answers(7)]])
    cut(path, left_off)
    with pytest.raises(DataError, match=r"ends within a row|cannot be read"):
        open_scores(path)


def test_a_row_fewer(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [[answers(7)]])
    lines = (tmp_path / "a.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "a.csv").write_bytes(b"".join(lines[:-1]))
    file = open_scores(tmp_path / "a.csv")
    for read in (file.columns, file.embedding):
        with pytest.raises(DataError, match="has 6 rows; its record says 7"):
            read()


def test_a_parquet_column_of_another_type(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(path, [[answers(7)]])
    table = parquet.read_table(path)
    double = table.schema.set(1, pa.field("predicted_loss", pa.float64()))
    parquet.write_table(table.cast(double), path)
    with pytest.raises(DataError, match=r"lacks the column 'predicted_loss' .* another type"):
        open_scores(path)
