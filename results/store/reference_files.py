"""Reference files: the likeliest next tokens at positions of a text and their log-probabilities, as Parquet.

A row is a position. Columns `document` and `position` (place of the token in its document, from 0, a BOS in front not counted), or
`sequence` and `position` (as in a run's tokens table); `token_ids`, the ids of the likeliest tokens to come next, and `log_probs`,
their natural logarithms of probability, two lists of one length. `token_id`, the token at the position, may be there and is checked
then. What the listed tokens leave of the probability is not in the file. Any server's log-probabilities can be written so. Knows no
torch and no model.

Axes: N positions, K listed tokens.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from duo_oracle.oracle.base.columns import refuse_doubled
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.parquet import parquet_faults
from duo_oracle.oracle.base.places import local_path
from duo_oracle.oracle.base.remote import readable
from duo_oracle.oracle.base.threads import ready_arrow
from duo_oracle.oracle.base.whole_file import written_whole

SUFFIX = ".parquet"
_SLACK = 1e-3  # by how much a server's rounded probabilities may add up to more than 1
_SCHEMA = (
    ("document", pa.string()),
    ("position", pa.int32()),
    ("token_id", pa.int32()),
    ("token_ids", pa.list_(pa.int32())),
    ("log_probs", pa.list_(pa.float32())),
)


class Listed(NamedTuple):
    """The tokens listed at one position."""

    token_id_K: np.ndarray  # int64, distinct
    log_p_K: np.ndarray  # float64


class Rows(NamedTuple):
    """Some positions of one document, in order, to be written: all with as many listed tokens."""

    document: str
    first_position: int
    token_id_N: np.ndarray
    token_id_NK: np.ndarray
    log_p_NK: np.ndarray


def write_reference(file: str | os.PathLike[str], facts: Mapping[str, str], parts: Iterable[Rows]) -> int:
    """Writes a reference file, whole or not at all; returns how many positions it has. `facts` go to its metadata."""
    schema = pa.schema(_SCHEMA, metadata={f"duo_oracle.{key}": value for key, value in {"table": "reference", **facts}.items()})
    path, n_rows = Path(local_path(file)), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as aside, ExitStack() as opened:
        writer = opened.enter_context(pq.ParquetWriter(aside, schema, compression="zstd"))
        for rows in parts:
            n, k = rows.token_id_NK.shape
            ends = np.arange(0, n * k + 1, k, dtype=np.int32)
            columns = [
                pa.array([rows.document] * n, pa.string()),
                np.arange(rows.first_position, rows.first_position + n, dtype=np.int32),
                rows.token_id_N.astype(np.int32),
                pa.ListArray.from_arrays(ends, rows.token_id_NK.astype(np.int32).ravel()),
                pa.ListArray.from_arrays(ends, rows.log_p_NK.astype(np.float32).ravel()),
            ]
            writer.write_table(pa.Table.from_arrays([pa.array(column) for column in columns], schema=schema))
            n_rows += n
    return n_rows


class ReferenceFile:
    """A reference file, read a document (or a sequence) at a time. Raises InputError for what is not one."""

    def __init__(self, file: str | os.PathLike[str], n_vocabulary: int) -> None:
        self.path, self._n_vocabulary = readable(file), n_vocabulary
        ready_arrow()
        try:
            self._dataset = ds.dataset(str(self.path), format="parquet")
        except parquet_faults() as fault:
            raise InputError(f"{self.path} cannot be read as Parquet: {str(fault).splitlines()[0]}") from None
        names = set(self._dataset.schema.names)
        missing = [name for name in ("position", "token_ids", "log_probs") if name not in names]
        if missing or not names & {"document", "sequence"}:
            raise InputError(
                f"{self.path}: a reference file has the columns document (or sequence), position, token_ids and log_probs; "
                f"this one has {', '.join(sorted(names))}"
            )
        refuse_doubled(self._dataset.schema.names, names, str(self.path))
        self._check_types()
        self.by_document = "document" in names
        """Whether positions are a document's, or a sequence's of one run's windows."""
        self._checks_token = "token_id" in names
        self._held: tuple[object, dict[int, int], pa.Table] | None = None

    def _check_types(self) -> None:
        types = pa.types
        laws = {
            "document": (types.is_string, "texts"),
            "sequence": (types.is_integer, "whole numbers"),
            "position": (types.is_integer, "whole numbers"),
            "token_id": (types.is_integer, "whole numbers"),
            "token_ids": (types.is_integer, "lists of whole numbers"),
            "log_probs": (types.is_floating, "lists of numbers"),
        }
        for field in self._dataset.schema:
            if field.name not in laws:
                continue
            is_right, what = laws[field.name]
            kind = field.type.value_type if types.is_dictionary(field.type) else field.type
            if what.startswith("lists"):
                is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
                right = is_list and is_right(kind.value_type)
            else:
                right = is_right(kind) or (field.name == "document" and (types.is_large_string(kind) or types.is_string_view(kind)))
            if not right:
                raise InputError(f"{self.path}: the column {field.name} holds {what}; its type is {field.type}")

    def at(self, key: str | int, position: int, token_id: int) -> Listed:
        """The tokens listed behind a position of a document (or sequence) whose token is `token_id`.

        Raises InputError for a position that is missing or doubled, another token, and lists that are no probabilities.
        """
        row_of, table = self._rows(key)
        row = row_of.get(position)
        place = f"{self.path}, {'document' if self.by_document else 'sequence'} {key!r}, position {position}"
        if row is None:
            raise InputError(f"{place}: a reference file has a row for every scored position; this one is missing")
        if self._checks_token:
            held = table["token_id"][row].as_py()
            if held != token_id:
                raise InputError(f"{place}: the token there is {token_id}, and the file was made for token {held}")
        ids, log_p = table["token_ids"][row].as_py(), table["log_probs"][row].as_py()
        if not ids or not log_p or len(ids) != len(log_p) or None in ids or None in log_p:
            raise InputError(f"{place}: token_ids and log_probs are lists of one length, without nulls, and not empty")
        token_id_K, log_p_K = np.array(ids, dtype=np.int64), np.array(log_p, dtype=np.float64)
        if token_id_K.min() < 0 or token_id_K.max() >= self._n_vocabulary or len(np.unique(token_id_K)) < len(ids):
            raise InputError(f"{place}: token_ids are different tokens of the vocabulary, 0 to {self._n_vocabulary - 1}")
        total = float(np.exp(log_p_K).sum())
        if not 0 < total <= 1 + _SLACK:
            raise InputError(
                f"{place}: log_probs are natural logarithms of probabilities, which add up to more than 0 and at most 1; "
                f"these add up to {total:.6g}"
            )
        return Listed(token_id_K, log_p_K)

    def _rows(self, key: str | int) -> tuple[dict[int, int], pa.Table]:
        if self._held is None or self._held[0] != key:
            wanted = [name for name in ("position", "token_id", "token_ids", "log_probs") if name in self._dataset.schema.names]
            mine = ds.field("document" if self.by_document else "sequence") == key
            table = self._dataset.to_table(columns=wanted, filter=mine).combine_chunks()
            positions = table["position"].to_pylist()
            row_of = {position: row for row, position in enumerate(positions)}
            if len(row_of) < len(positions):
                doubled = next(position for row, position in enumerate(positions) if row_of[position] != row)
                raise InputError(f"{self.path}: {key!r}, position {doubled} stands there twice")
            self._held = (key, row_of, table)
        return self._held[1], self._held[2]
