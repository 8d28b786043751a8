"""Parquet files of training text, read a row group at a time, from a disk or a bucket, without a copy of the whole.

Each row is a text. Knows nothing of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from duo_oracle.models.text.documents import Document, document_of
from duo_oracle.models.text.rows import rows_in, wanted_columns
from duo_oracle.models.text.sources import DataFile, Kind, find_files
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.parquet import refused_as
from duo_oracle.oracle.base.remote import Remote, is_remote, place_of
from duo_oracle.oracle.base.threads import ready_arrow

T = TypeVar("T")
_SUFFIX = ".parquet"
_AT_ONCE = 16  # footers that are asked for at once


@dataclass(frozen=True)
class Shard:
    """One Parquet file: of this machine, or an object of a store."""

    file: DataFile
    n_bytes: int
    remote: Remote | None = None

    def through(self, use: Callable[[IO[bytes]], T]) -> T:
        """What `use` makes of the open file. Raises InputError for one that cannot be read as Parquet, and as the store does."""
        ready_arrow()
        with refused_as(self.file.shown):
            if self.remote is not None:
                return self.remote.through(self.file.path.as_posix(), use)
            with self.file.path.open("rb") as content:
                return use(content)


@dataclass(frozen=True)
class RowGroup:
    """A row group of a shard: what is read at once."""

    shard: Shard
    number: int

    @property
    def name(self) -> str:
        """What it is called where its size is kept: another file of the same name and size is taken for the same."""
        return f"{self.shard.file.shown} {self.shard.n_bytes} {self.number}"

    def documents(self) -> Iterator[Document]:
        """Its texts. Raises InputError, naming file, row group and row, for a row that is no document."""
        import pyarrow.parquet as pq

        def read(content: IO[bytes]) -> tuple[list[str], Any]:
            with pq.ParquetFile(content) as table:
                names = table.schema_arrow.names
                wanted = wanted_columns(names, self.shard.file.column, self.shard.file.shown)
                return names, table.read_row_group(self.number, columns=wanted, use_threads=False)

        names, table = self.shard.through(read)
        number = 0
        for batch in table.to_batches():
            for row in rows_in(names, batch):
                number += 1
                where = f"{self.shard.file.shown}, row group {self.number}, row {number}"
                yield document_of(row, where, self.shard.file, where)


def row_groups(source: str) -> list[RowGroup]:
    """All row groups of a source's shards, in order. Raises InputError for a source that is not Parquet files."""
    import pyarrow.parquet as pq

    shards = _remote_shards(source) if is_remote(source) else _local_shards(source)

    def count(shard: Shard) -> int:
        return shard.through(lambda content: pq.ParquetFile(content).num_row_groups)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        counts = list(threads.map(count, shards))
    found = [RowGroup(shard, number) for shard, n_groups in zip(shards, counts, strict=True) for number in range(n_groups)]
    if not found:
        raise InputError(f"{source}: data must hold at least one document; it holds none")
    return found


def _local_shards(source: str) -> list[Shard]:
    files = find_files(source)
    for file in files:
        if file.kind is not Kind.PARQUET:
            raise InputError(f"`stream` reads Parquet files, a row group at a time; {file.shown} is {file.kind}")
    return [Shard(file, file.path.stat().st_size) for file in files]


def _remote_shards(source: str) -> list[Shard]:
    place = Remote(place_of(source))
    found = {name: size for name, size in place.sizes().items() if (name or place.name).endswith(_SUFFIX)}
    if not found:
        raise InputError(f"`stream` reads Parquet files, a row group at a time; there is none at {place.uri}")
    shards = []
    for name, size in found.items():
        shown = f"{place.uri}/{name}" if name else place.uri
        shards.append(Shard(DataFile(Path(name), shown, Kind.PARQUET, None, Path(shown).stem), size, place))
    return shards
