"""Runs of version 1 of the tables, read as if they were of this version: an identity and rows in today's words.

Version 1 wrote a budget as its kind and a number, had other names for the losses that gains are counted from, and for the
contexts. Knows nothing of what the numbers are for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from duo_oracle.oracle.contexts import stored_context
from duo_oracle.results.store.columns import COLUMNS, OLD_NAMES

_NEW_NAMES = {table: {new: old for old, new in names.items()} for table, names in OLD_NAMES.items()}


def converted_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What version 1's run.json says decides its tables, in the words of this version."""
    values = {key: value for key, value in identity.items() if key != "n_layers"}
    return values | {"n_letters": identity["n_layers"], "context": stored_context(identity["context"])}


class ConvertedDataset:
    """A table of some part files of version 1, lazily: what readers ask of an Arrow dataset, with this version's columns.

    `schema` is this version's. Columns and filters are applied to converted rows, batch by batch, so memory stays as flat as
    a dataset's own.
    """

    def __init__(self, files: Sequence[str], table: str, schema: pa.Schema, n_letters: int) -> None:
        self.schema = schema
        self._files, self._table, self._n_letters = list(files), table, n_letters

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **more: Any) -> ds.Scanner:
        """As a dataset's: the rows that `filter` admits, these columns of them."""
        if columns is None and filter is None:
            return self._converting()
        reader = pa.RecordBatchReader.from_batches(self.schema, self._converting().to_batches())
        return ds.Scanner.from_batches(reader, columns=columns, filter=filter, **more)

    def to_table(self, columns: Sequence[str] | None = None, filter: Any = None, **more: Any) -> pa.Table:
        return self.scanner(columns, filter, **more).to_table()

    def to_batches(self, columns: Sequence[str] | None = None, filter: Any = None, **more: Any) -> Iterator[pa.RecordBatch]:
        return self.scanner(columns, filter, **more).to_batches()

    def count_rows(self) -> int:
        return self._stored().count_rows()

    def _converting(self) -> ds.Scanner:
        return ds.Scanner.from_dataset(self._stored(), columns=self._expressions())

    def _stored(self) -> ds.Dataset:
        return ds.dataset(self._files, schema=pa.schema(stored_columns(self._table)), format="parquet")

    def _expressions(self) -> dict[str, ds.Expression]:
        renamed = _NEW_NAMES.get(self._table, {})
        found = {}
        for column in COLUMNS[self._table]:
            made = self._made(column.name)
            found[column.name] = ds.field(renamed.get(column.name, column.name)) if made is None else made
        return found

    def _made(self, name: str) -> ds.Expression | None:
        """A column that version 1 did not have, of those that it had."""
        kind, number = ds.field("budget_kind"), ds.field("budget")
        exact = kind == pc.scalar("exact")
        if name == "budget":
            text = number.cast(pa.string())
            atmost = pc.binary_join_element_wise(pc.scalar("atmost:"), text, pc.scalar(""))
            return pc.if_else(kind == pc.scalar("any"), pc.scalar("any"), pc.if_else(exact, text, atmost))
        if name == "budget_low":
            return pc.if_else(exact, number, _int16(0))
        if name == "budget_high":
            return pc.coalesce(number, _int16(self._n_letters))
        if name == "cost":
            return ds.field("n_big")
        return ds.field("position") if name == "context_tokens" else None


def stored_columns(table: str) -> list[tuple[str, pa.DataType]]:
    """Version 1's columns, whose order is not told: parts of its first months lack the latest ones, which read as null."""
    renamed = _NEW_NAMES.get(table, {})
    columns = {renamed.get(column.name, column.name): column.type for column in COLUMNS[table]}
    for name in ("budget_low", "budget_high", "cost", "context_tokens"):
        columns.pop(name, None)
    if "budget" in columns:
        columns |= {"budget_kind": pa.string(), "budget": pa.int16(), "n_big": pa.int16()}
    return list(columns.items())


def _int16(value: int) -> pa.Scalar:
    return pa.scalar(value, pa.int16())
