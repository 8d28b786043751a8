"""Tables that a finished run gets when it is asked for them: Parquet files in a folder of the table's name, beside the parts.

A file is one question's answer (of effects: one base and length), and whole at any time. It grows by sequences, so what was
interrupted goes on. Its metadata names the run; a file of another run in the same directory is not read. Knows no torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.parquet import parquet_faults
from duo_oracle.oracle.base.threads import ready_arrow
from duo_oracle.oracle.base.whole_file import written_whole
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.schemas import schema


def beside(run: StoredRun, table: str, names: Sequence[str] | None = None) -> ds.Dataset | None:
    """The rows of all files of `table`, or of those of `names`, read when they are asked for; None where there are none.

    Raises InputError for a file that is no Parquet.
    """
    ready_arrow()
    wanted = schema(table, run.manifest.run_id)
    if run.remote is not None:
        for name in run.remote.sizes(table):
            if names is None or Path(name).stem in names:
                run.remote.fetch(name, run.path / name)
    known = [path for path in sorted((run.path / table).glob("*.parquet")) if not path.name.startswith(".")]  # . while written
    files = [path for path in known if (names is None or path.stem in names) and _is_of(path, wanted)]
    return ds.dataset([os.fspath(path) for path in files], schema=wanted, format="parquet") if files else None


class GrowingTable:
    """The file `NAME.parquet` of a run's `table`, to which rows are added a whole sequence at a time."""

    def __init__(self, run: StoredRun, table: str, name: str) -> None:
        self._schema = schema(table, run.manifest.run_id)
        self._remote = run.remote
        self.path = run.path / table / f"{name}.parquet"
        found = beside(run, table, (name,))
        self._parts = [self._schema.empty_table() if found is None else found.to_table().cast(self._schema)]

    @property
    def sequences(self) -> frozenset[int]:
        """The sequences whose rows it holds."""
        return frozenset(number for part in self._parts for number in pc.unique(part["sequence"]).to_pylist())

    def add(self, columns: Mapping[str, np.ndarray | pa.Array]) -> None:
        """The rows of one sequence or more, in memory until `save`."""
        self._parts.append(pa.table(dict(columns)).select(self._schema.names).cast(self._schema))

    def rows(self) -> pa.Table:
        """All rows, by sequence; in a sequence, in the order in which they were added."""
        table = pa.concat_tables([part.replace_schema_metadata(self._schema.metadata) for part in self._parts])
        order = np.argsort(table["sequence"].to_numpy(), kind="stable")
        return table.take(pa.array(order))

    @property
    def place(self) -> str:
        """Where the file lies: its path, or its URI."""
        return os.fspath(self.path) if self._remote is None else f"{self._remote.uri}/{self.path.parent.name}/{self.path.name}"

    def save(self) -> None:
        """Writes the file whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = self.rows()
        self._parts = [rows]
        with written_whole(self.path) as aside:
            pq.write_table(rows, aside, compression="zstd")
        if self._remote is not None:
            self._remote.put(f"{self.path.parent.name}/{self.path.name}", self.path.read_bytes())


def _is_of(path: Path, wanted: pa.Schema) -> bool:
    """Whether the file is of this run, and has the columns of today."""
    try:
        found = pq.read_schema(path)
    except parquet_faults():
        raise InputError(f"{path} cannot be read as Parquet; remove it, and it is measured again") from None
    of_run = (found.metadata or {}).get(b"duo_oracle.run_id") == wanted.metadata[b"duo_oracle.run_id"]
    return of_run and found.equals(wanted)
