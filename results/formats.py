"""An answer as text or bytes: an aligned table for people, Markdown, csv and json for programs, parquet for more queries.

Written as it comes, a batch of rows at a time. What is meant for people's eyes has no character that steers a terminal;
files of csv and parquet hold the data as they are.
"""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.shown import json_text, one_line
from duo_oracle.oracle.base.terminal import fitted_columns, terminal_width

Rows: TypeAlias = pa.Table | pa.RecordBatchReader

FORMATS = ("table", "markdown", "csv", "json", "parquet")
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
        "table": lambda: _table_pieces(rows, terminal_width(stream)),
        "markdown": lambda: _markdown_pieces(rows),
        "csv": lambda: _csv_pieces(rows, one_line if stream.isatty() else str),
        "json": lambda: _json_pieces(rows),
    }
    for piece in pieces[form]():
        stream.write(piece.encode("utf-8"))


def as_text(rows: Rows, width: int | None = None) -> str:
    """An aligned table of at most TABLE_ROWS rows; numbers to the right, nulls as `-`, control characters escaped.

    Where it is wider than `width`, long texts are cut, then columns left out; a last line says so.
    """
    return "".join(_table_pieces(rows, width))


def of_rows(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table with a column for every name in any of them; null where a row lacks it, text where their types differ."""
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            columns[name] = pa.array([None if value is None else str(value) for value in values])
    return pa.table(columns)


def _batches(rows: Rows) -> Iterator[pa.RecordBatch]:
    return iter(rows.to_batches() if isinstance(rows, pa.Table) else rows)


def _numeric(schema: pa.Schema) -> list[bool]:
    return [
        pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type) for field in schema
    ]


def _table_pieces(rows: Rows, width: int | None) -> Iterator[str]:
    batches = _batches(rows)
    numeric = _numeric(rows.schema)
    shown: list[list[str]] = []
    n_more = 0
    for batch in batches:
        taken = batch.slice(0, TABLE_ROWS - len(shown))
        shown += [[_cell(value) for value in row] for row in _tuples(taken)]
        n_more += batch.num_rows - taken.num_rows
    cells, note = [rows.schema.names, *shown], ""
    if width is not None:
        cells, note = fitted_columns([[one_line(cell) for cell in row] for row in cells], numeric, width)
    lines = aligned(cells, numeric[: len(cells[0])])
    if n_more:
        lines.append(f"... {n_more} more rows; csv, json and parquet hold all")
    yield "\n".join([*lines, *(textwrap.wrap(note, width or 0) if note else [])]) + "\n"


def _markdown_pieces(rows: Rows) -> Iterator[str]:
    """All rows; numbers to the right, nulls as `-`."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(one_line(cell).replace('|', chr(92) + '|') for cell in cells)} |\n"

    yield line(rows.schema.names)
    yield "|" + "".join("---:|" if right else "---|" for right in _numeric(rows.schema)) + "\n"
    for batch in _batches(rows):
        for row in _tuples(batch):
            yield line([_cell(value) for value in row])


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
