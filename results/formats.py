"""A query's answer as text or bytes: an aligned table for people, csv and json for programs, parquet for more queries.

Written as it comes, a batch of rows at a time. What is meant for people's eyes has no character that steers a terminal;
files of csv and parquet hold the data as they are.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.shown import json_text, one_line

Rows: TypeAlias = pa.Table | pa.RecordBatchReader

FORMATS = ("table", "csv", "json", "parquet")
TABLE_ROWS = 200
_PIECE_ROWS = 4096  # turned into text at a time


def write(rows: Rows, form: str, stream: BinaryIO) -> None:
    """Writes `rows` to `stream` in one of FORMATS. Raises InputError for another, and for parquet on a terminal."""
    if form not in FORMATS:
        raise InputError(f"unknown format {form!r}; available: {', '.join(FORMATS)}")
    if form == "parquet":
        if stream.isatty():
            raise InputError("parquet is not for a terminal; redirect it: `format='parquet'` > FILE.parquet")
        with pq.ParquetWriter(stream, rows.schema, compression="zstd") as writer:
            for batch in _batches(rows):
                writer.write_batch(batch)
        return
    pieces: dict[str, Callable[[], Iterator[str]]] = {
        "table": lambda: _table_pieces(rows),
        "csv": lambda: _csv_pieces(rows, one_line if stream.isatty() else str),
        "json": lambda: _json_pieces(rows),
    }
    for piece in pieces[form]():
        stream.write(piece.encode("utf-8"))


def as_text(rows: Rows) -> str:
    """An aligned table of at most TABLE_ROWS rows; numbers to the right, nulls as `-`, control characters escaped."""
    return "".join(_table_pieces(rows))


def _batches(rows: Rows) -> Iterator[pa.RecordBatch]:
    return iter(rows.to_batches() if isinstance(rows, pa.Table) else rows)


def _table_pieces(rows: Rows) -> Iterator[str]:
    batches = _batches(rows)
    numeric = [
        pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
        for field in rows.schema
    ]
    shown: list[list[str]] = []
    n_more = 0
    for batch in batches:
        taken = batch.slice(0, TABLE_ROWS - len(shown))
        shown += [[_cell(value) for value in row] for row in _tuples(taken)]
        n_more += batch.num_rows - taken.num_rows
    lines = aligned([rows.schema.names, *shown], numeric)
    if n_more:
        lines.append(f"... {n_more} more rows; csv, json and parquet hold all")
    yield "\n".join(lines) + "\n"


def _csv_pieces(rows: Rows, text: Callable[[str], str]) -> Iterator[str]:
    """Comma-separated with a header line; nulls are empty. Cells are the data to the letter, formulas of spreadsheets too."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(text, rows.schema.names))
    yield out.getvalue()
    for batch in _batches(rows):
        values = _tuples(batch)
        while some := list(islice(values, _PIECE_ROWS)):
            out.seek(0)
            out.truncate()
            writer.writerows([text(value) if isinstance(value, str) else value for value in row] for row in some)
            yield out.getvalue()


def _json_pieces(rows: Rows) -> Iterator[str]:
    """A list of objects, one per row and line; null where a number is not finite."""
    before = "["
    names = rows.schema.names
    for batch in _batches(rows):
        values = _tuples(batch)
        while some := list(islice(values, _PIECE_ROWS)):
            lines = (json_text({n: _finite(v) for n, v in zip(names, row, strict=True)}, default=str) for row in some)
            yield before + ",\n ".join(lines)
            before = ",\n "
    yield "[]\n" if before == "[" else "]\n"


def _tuples(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    if not batch.num_columns:
        return iter(())
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


def aligned(rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> list[str]:
    """The rows as lines with columns under each other, two spaces apart; numeric columns to the right.

    Cells may hold data: what steers a terminal is escaped.
    """
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(row, widths, numeric, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}" if math.isfinite(value) and (value == 0 or 1e-3 <= abs(value) < 1e7) else f"{value:.4g}"
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
