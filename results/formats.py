"""A query's answer as text or bytes: an aligned table for people, csv and json for programs, parquet for more queries."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.store.texts import one_line

FORMATS = ("table", "csv", "json", "parquet")
TABLE_ROWS = 200


def write(table: pa.Table, form: str, stream: BinaryIO) -> None:
    """Writes `table` to `stream` in one of FORMATS. Raises InputError for another, and for parquet on a terminal."""
    if form not in FORMATS:
        raise InputError(f"unknown format {form!r}; available: {', '.join(FORMATS)}")
    if form == "parquet":
        if stream.isatty():
            raise InputError("parquet is not for a terminal; redirect it: `format='parquet'` > FILE.parquet")
        pq.write_table(table, stream, compression="zstd")
        return
    texts: dict[str, Callable[[pa.Table], str]] = {"table": as_text, "csv": as_csv, "json": as_json}
    stream.write(texts[form](table).encode("utf-8"))


def as_text(table: pa.Table) -> str:
    """An aligned table of at most TABLE_ROWS rows; numbers to the right, nulls as `-`, control characters escaped."""
    shown = table.slice(0, TABLE_ROWS)
    columns = [[_cell(value) for value in column.to_pylist()] for column in shown.columns]
    numeric = [
        pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
        for field in table.schema
    ]
    lines = aligned([table.column_names, *(list(row) for row in zip(*columns, strict=True))], numeric)
    if table.num_rows > TABLE_ROWS:
        lines.append(f"... {table.num_rows - TABLE_ROWS} more rows; csv, json and parquet hold all")
    return "\n".join(lines) + "\n"


def as_csv(table: pa.Table) -> str:
    """Comma-separated with a header line; nulls are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.column_names)
    for batch in table.to_batches():
        writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))
    return out.getvalue()


def as_json(table: pa.Table) -> str:
    """A list of objects, one per row and line; null where a number is not finite."""
    rows = ({name: _finite(value) for name, value in row.items()} for row in table.to_pylist())
    return "[" + ",\n ".join(json.dumps(row, ensure_ascii=False, default=str) for row in rows) + "]\n"


def aligned(rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> list[str]:
    """The rows as lines with columns under each other, two spaces apart; numeric columns to the right."""
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
    return one_line(str(value))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
