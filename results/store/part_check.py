"""Whether a part is the one that the run wrote: its size, its checksum, its rows, and the sequences that they are of.

The one check, before anything is read (`reader.py`) and before a run goes on (`writer.py`). Knows no table's meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from duo_oracle.oracle.base.parquet import parquet_faults
from duo_oracle.results.store.columns import COLUMNS, REQUIRED
from duo_oracle.results.store.manifest import file_sha256, part_path
from duo_oracle.results.store.records import UnitRecord
from duo_oracle.results.store.version1 import stored_columns


def part_fault(directory: Path, table: str, record: UnitRecord) -> str | None:
    """What is wrong with the unit's part of `table`, as the rest of a sentence that begins with its path; None if nothing."""
    path, part = part_path(directory, table, record.unit), record.parts.get(table)
    if part is None:
        return "is missing: the manifest names it for other units, not for this one"
    if not path.is_file():
        return "is named by the run and missing"
    n_bytes = path.stat().st_size
    if n_bytes != part.bytes:
        return f"is not the part that the run wrote: {n_bytes:,} bytes, of {part.bytes:,}"
    found = file_sha256(path)
    if found != part.sha256:
        return f"is not the part that the run wrote: its sha256 is {found[:12]}, not {part.sha256[:12]}"
    try:
        with pq.ParquetFile(path) as file:
            n_rows, said = file.metadata.num_rows, _columns_fault(file, table)
    except parquet_faults() as fault:
        return f"is no Parquet file that can be read: {str(fault).splitlines()[0]}"
    if said is not None:
        return said
    if n_rows != part.rows or (table == "tokens" and n_rows != record.tokens):
        return f"has {n_rows:,} rows, of {record.tokens if table == 'tokens' else part.rows:,}"
    return None


def order_fault(directory: Path, table: str, records: Sequence[UnitRecord]) -> str | None:
    """The same of all units' parts of `table` together: each is of sequences of its own, in the order of the units."""
    before = -1
    for record in records:
        path = part_path(directory, table, record.unit)
        span = _sequences(path)
        if span is None:
            continue
        first, last = span
        if first <= before:
            return f"{path} is of sequences {first}-{last}, which do not follow {before}, the last of the parts before it"
        if table == "tokens" and last - first >= record.sequences:
            return f"{path} is of sequences {first}-{last}, which are more than the unit's {record.sequences}"
        before = last
    return None


def letters_fault(directory: Path, table: str, record: UnitRecord, n_letters: int) -> str | None:
    """The same of a part whose patterns, by its first row, have another number of letters than the run says."""
    with pq.ParquetFile(part_path(directory, table, record.unit)) as file:
        if "pattern" not in file.schema_arrow.names:
            return None
        first = next(file.iter_batches(batch_size=1, columns=["pattern"]), None)
    pattern = None if first is None or not first.num_rows else first.column(0)[0].as_py()
    if pattern is None or len(pattern) == n_letters:
        return None
    return f"has patterns of {len(pattern)} letters, and the run's manifest says {n_letters}"


def wrote_part(path: Path, run_id: str) -> bool:
    """Whether a Parquet file says that it is a part of that run."""
    try:
        return (pq.read_schema(path).metadata or {}).get(b"duo_oracle.run_id") == run_id.encode()
    except parquet_faults():
        return False


def _columns_fault(file: pq.ParquetFile, table: str) -> str | None:
    """What is wrong with a part's columns: of another type, doubled, missing, or null where they must not be."""
    schema = file.schema_arrow
    first = (schema.metadata or {}).get(b"duo_oracle.schema_version") == b"1"
    types = dict(stored_columns(table)) if first else {column.name: column.type for column in COLUMNS[table]}
    required = () if first else REQUIRED[table]
    leaves = _leaves(file)
    for name, kind in types.items():
        found = [schema.field(place).type for place in schema.get_all_field_indices(name)]
        if len(found) > 1:
            return f"has two columns {name}"
        if not found and name in required:
            return f"has no column {name}"
        if found and found[0] != kind:
            return f"has the column {name} as {found[0]}, not {kind}"
        known = _statistics(file, name) if name in required and name in leaves else []
        if any(each.has_null_count and each.null_count for each in known):
            return f"has a null in the column {name}"
    return None


def _leaves(file: pq.ParquetFile) -> list[str]:
    """The names of the columns of numbers that Parquet keeps."""
    return [file.metadata.schema.column(number).path for number in range(file.metadata.num_columns)]


def _statistics(file: pq.ParquetFile, name: str) -> list[pq.Statistics]:
    """What the footer says of a column's values, by row group, where it says so. Raises as Arrow does for a column of no sense.

    A row is read first: an entry of the footer that contradicts itself is an exception there, and ends the process where the
    entry itself is asked for (pyarrow 26 lets a C++ exception through).
    """
    column, found = _leaves(file).index(name), []
    for group in range(file.num_row_groups):
        next(file.iter_batches(batch_size=1, row_groups=[group], columns=[name]), None)
        found.append(file.metadata.row_group(group).column(column).statistics)
    return [each for each in found if each is not None]


def _sequences(path: Path) -> tuple[int, int] | None:
    """The least and greatest sequence of a part, by the statistics in its footer; None where it has none."""
    with pq.ParquetFile(path) as file:
        known = [each for each in _statistics(file, "sequence") if each.has_min_max]
    return (min(each.min for each in known), max(each.max for each in known)) if known else None
