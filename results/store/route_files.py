"""Route files: what a router chose at every scored position, as Parquet that anybody's router can write.

Columns `sequence` and `position` (whole numbers, as in a run's tokens table), `pattern` (a letter for each routed layer, the
lowest first) and, where kept, `logits`; a row for every position but a sequence's last. Our own files say in their metadata which
model, layers, data and router they are of, and this is checked against the run; files from elsewhere may say nothing, and their
rows alone are. Knows no torch and no router.

Axes: R rows, N the run's positions, T token, L routed layer, K branches.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from duo_oracle.oracle.base.columns import refuse_doubled
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.parquet import parquet_faults
from duo_oracle.oracle.base.places import local_path
from duo_oracle.oracle.base.remote import readable
from duo_oracle.oracle.base.threads import ready_arrow
from duo_oracle.oracle.base.whole_file import written_whole
from duo_oracle.oracle.branches import pattern_costs
from duo_oracle.oracle.patterns import Branch, RoutingPattern, branch_counts, to_strings
from duo_oracle.results.store.columns import ANY_COST, Column
from duo_oracle.results.store.positions import read_tokens
from duo_oracle.results.store.reader import StoredRun

VERSION = 1
ROUTE_COLUMNS = (
    Column("run", pa.string(), "", "name of the run"),
    Column("router", pa.string(), "", "name of the router, or of its file"),
    Column("target", pa.float64(), ANY_COST, "mean cost per token that the router was made for; null where its file says none"),
    Column("sequence", pa.int32(), "", "number of the window"),
    Column("position", pa.int32(), "tokens", "place of the token in its window, from 0"),
    Column("pattern", pa.string(), "", "what the router chose, a letter for each routed layer"),
    Column("cost", pa.int16(), ANY_COST, "cost of the pattern"),
    Column("n_big", pa.int16(), "letters", "how many of the pattern's letters are B"),
)
"""The columns of the view `routes`."""
_PREFIX = "duo_oracle."
_TABLE = "routes"
FACTS = (
    *("model_fingerprint", "data_fingerprint", "router", "router_fingerprint"),
    *("causal", "branches", "skip", "budget", "route_layers"),
)
"""What a file's metadata says, each as text; any may be absent."""


@dataclass(frozen=True)
class Routes:
    """A router's choices at all of a run's positions, in the order of its tokens: by sequence, then position."""

    name: str
    branches_NL: np.ndarray  # uint8
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def causal(self) -> bool | None:
        """Whether no choice looked at a later token; None where nobody says."""
        return {"true": True, "false": False}.get(self.facts.get("causal", ""))

    @property
    def budget(self) -> float | None:
        """Average B's per token that the router was made for."""
        try:
            return float(self.facts["budget"])
        except (KeyError, ValueError):
            return None


def routes_schema(facts: Mapping[str, str], n_letters: int, n_logits: int | None = None) -> pa.Schema:
    """The columns of a route file; `logits`, L x K numbers a row, where `n_logits` (K) is given."""
    columns = [("sequence", pa.int32()), ("position", pa.int32()), ("pattern", pa.string())]
    if n_logits is not None:
        columns.append(("logits", pa.list_(pa.list_(pa.float32(), n_logits), n_letters)))
    said = {"table": _TABLE, "schema_version": str(VERSION), **facts}
    return pa.schema(columns, metadata={_PREFIX + key: value for key, value in said.items()})


def write_routes(
    file: str | os.PathLike[str],
    facts: Mapping[str, str],
    parts: Iterable[tuple[int, int, np.ndarray, np.ndarray | None]],
    n_letters: int,
) -> int:
    """Writes a route file from (sequence, its first scored position, mask_TL, logits_TLK or None), a row for every scored position;
    returns the rows.

    Written aside and renamed: a file that exists is whole.
    """
    path = Path(local_path(file))
    n_rows = 0
    with written_whole(path) as aside, ExitStack() as opened:
        writer = None
        for sequence, first_position, mask_TL, logits_TLK in parts:
            schema = routes_schema(facts, n_letters, None if logits_TLK is None else logits_TLK.shape[-1])
            writer = writer or opened.enter_context(pq.ParquetWriter(aside, schema, compression="zstd"))
            n_positions = len(mask_TL)
            positions = np.arange(first_position, first_position + n_positions, dtype=np.int32)
            columns = [np.full(n_positions, sequence, np.int32), positions, pa.array(to_strings(mask_TL), pa.string())]
            if logits_TLK is not None:
                flat = pa.FixedSizeListArray.from_arrays(pa.array(logits_TLK.astype(np.float32).ravel()), logits_TLK.shape[-1])
                columns.append(pa.FixedSizeListArray.from_arrays(flat, n_letters))
            writer.write_table(pa.Table.from_arrays([pa.array(column) for column in columns], schema=schema))
            n_rows += n_positions
        if writer is None:
            raise InputError(f"{path}: routes have a row for every scored position; there was no sequence")
    return n_rows


def read_routes(file: str | os.PathLike[str], run: StoredRun, name: str | None = None) -> Routes:
    """The choices of a route file at the run's positions.

    Raises InputError, one line with file, row (counted from 0) and value, for what is not Parquet, a missing column, another
    type, a null, a pattern of another length or with a branch that the run does not have, a position that is doubled, missing
    or not of the run, and for metadata of another model, data, or reading of skip.
    """
    path = readable(file)
    table, facts = _read_table(path)
    _check_facts(path, facts, run)
    branches_RL = _branches(path, table["pattern"], run)
    row_N = rows_of_positions(path, _whole(path, table, "sequence"), _whole(path, table, "position"), run)
    return Routes(name or facts.get("router") or path.stem, branches_RL[row_N], facts)


def named_file(text: str) -> tuple[str | None, str]:
    """`NAME=FILE` or `FILE`, as (name or None, file); a file whose own name has a `=` is that file."""
    if Path(text).is_file():
        return None, text
    name, equals, file = text.partition("=")
    return (name.strip(), file) if equals and name.strip() and "/" not in name else (None, text)


def routes_view(runs: Sequence[StoredRun], names: Sequence[str], files: Sequence[str]) -> pa.Table:
    """The rows of route files (`FILE` or `NAME=FILE`): the columns of ROUTE_COLUMNS.

    Each file is of the first run that it fits. Raises InputError where it fits none, and for two of one name and run.
    """
    tables: dict[tuple[str, str], pa.Table] = {}
    for text in files:
        name, file = named_file(text)
        faults = []
        for run, run_name in zip(runs, names, strict=True):
            try:
                routes = read_routes(file, run, name)
            except ValueError as fault:
                faults.append(fault)
                continue
            if (run_name, routes.name) in tables:
                raise InputError(f"every router is named once per run; there are two {routes.name!r} (NAME=FILE names a file)")
            tables[run_name, routes.name] = _view_of(run, run_name, routes)
            break
        else:
            raise faults[0]
    return pa.concat_tables(tables.values())


def _view_of(run: StoredRun, run_name: str, routes: Routes) -> pa.Table:
    positions, n_rows = read_tokens(run), len(routes.branches_NL)
    cost = pa.array(pattern_costs(routes.branches_NL, run.table.branches), pa.int16())
    n_big = pa.array(branch_counts(routes.branches_NL, Branch.BIG), pa.int16(), mask=np.full(n_rows, run.table.of_experts))
    return pa.table(
        {
            "run": pa.array([run_name] * n_rows, pa.string()),
            "router": pa.array([routes.name] * n_rows, pa.string()),
            "target": pa.array([routes.budget] * n_rows, pa.float64()),
            "sequence": positions["sequence"],
            "position": positions["position"],
            "pattern": pa.array(to_strings(routes.branches_NL, run.table.letters), pa.string()),
            "cost": cost,
            "n_big": n_big,
        }
    )


def _read_table(path: Path) -> tuple[pa.Table, dict[str, str]]:
    if not path.is_file():
        raise InputError(f"routes are a Parquet file; there is no {str(path)!r}")
    ready_arrow()
    try:
        opened = pq.ParquetFile(path)
        schema = opened.schema_arrow
        missing = [column for column in ("sequence", "position", "pattern") if column not in schema.names]
        if missing:
            raise InputError(
                f"{path}: routes have the columns sequence, position and pattern; {missing[0]} is missing "
                f"among {', '.join(schema.names) or 'none'}"
            )
        refuse_doubled(schema.names, ("sequence", "position", "pattern"), str(path))
        table = opened.read(columns=["sequence", "position", "pattern"])
    except parquet_faults() as fault:
        raise InputError(f"{path}: not a Parquet file that can be read: {str(fault).splitlines()[0]}") from None
    metadata = schema.metadata or {}
    said = {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in metadata.items()}
    facts = {key.removeprefix(_PREFIX): value for key, value in said.items() if key.startswith(_PREFIX)}
    if facts.get("table", _TABLE) != _TABLE:
        raise InputError(f"{path}: its metadata says that it is a part of a run, table {facts['table']!r}, not routes")
    version = facts.get("schema_version", str(VERSION))
    if version != str(VERSION):
        raise InputError(f"{path}: route files of version {VERSION} can be read; its metadata says {version!r}")
    return table, {key: facts[key] for key in FACTS if facts.get(key)}


def _check_facts(path: Path, facts: Mapping[str, str], run: StoredRun) -> None:
    for key in ("model", "data"):
        found, wanted = facts.get(f"{key}_fingerprint"), run.identity.get(f"{key}_fingerprint")
        if found is not None and found != wanted:
            hint = (
                "; route with the run's `seq_len`, `stride`, `min_context`, `offset`, `bos`, `max_sequences` and `per_document`"
                if key == "data"
                else ""
            )
            raise InputError(f"{path}: its {key} fingerprint is {found[:12]!r}, that of {run.place} is {str(wanted)[:12]!r}{hint}")
    layers = facts.get("route_layers")
    if layers is not None and layers != run.route_layers:
        raise InputError(f"{path}: its routes are of layers {layers}; {run.place} routes {run.route_layers or 'all layers'}")
    skip = facts.get("skip")
    if skip is not None and skip != run.identity.get("skip") and "." in facts.get("branches", "."):
        raise InputError(f"{path}: its routes read skip as {skip!r}; {run.place} reads it as {run.identity.get('skip')!r}")


def _branches(path: Path, column: pa.ChunkedArray, run: StoredRun) -> np.ndarray:
    """branches_RL of the pattern column."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise InputError(f"{path}: column pattern holds strings such as {'Bs' * 2!r}; its type is {column.type}")
    _refuse_null(path, "pattern", column)
    codes = column.cast(pa.large_string()).combine_chunks().dictionary_encode()
    texts, code_R = codes.dictionary.to_pylist(), codes.indices.to_numpy()
    allowed = "".join(branch.letter for branch in run.table.branches)
    found = np.empty((len(texts), run.n_letters), dtype=np.uint8)
    faults: list[tuple[int, str]] = []
    for code, text in enumerate(texts):
        try:
            pattern = RoutingPattern.parse(text, run.n_letters, run.table)
            outside = [branch.letter for branch in pattern.branches if branch.letter not in allowed]
            if outside:
                raise InputError(f"{run.place} compares the branches {allowed!r}; got {outside[0]!r} in {text!r}")
            found[code] = pattern.branches
        except ValueError as fault:
            faults.append((int(np.argmax(code_R == code)), str(fault)))
    if faults:
        row, fault_text = min(faults)
        raise InputError(f"{path} row {row}: {fault_text}")
    return found[code_R] if len(texts) else np.empty((0, run.n_letters), dtype=np.uint8)


def _whole(path: Path, table: pa.Table, name: str) -> np.ndarray:
    """A column of whole numbers as int64."""
    column = table[name]
    if not pa.types.is_integer(column.type):
        raise InputError(f"{path}: column {name} holds whole numbers (int32); its type is {column.type}")
    _refuse_null(path, name, column)
    value_R = column.combine_chunks().to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero((value_R < 0) | (value_R > np.iinfo(np.int32).max))
    if len(wrong):
        raise InputError(f"{path} row {wrong[0]}: {name} is a whole number from 0 on; got {value_R[wrong[0]]}")
    return value_R.astype(np.int64)


def _refuse_null(path: Path, name: str, column: pa.ChunkedArray) -> None:
    if column.null_count:
        row = int(np.argmax(column.is_null().combine_chunks().to_numpy(zero_copy_only=False)))
        raise InputError(f"{path} row {row}: {name} must not be null")


def rows_of_positions(path: Path, sequence_R: np.ndarray, position_R: np.ndarray, run: StoredRun) -> np.ndarray:
    """Which row of the file each of the run's positions is. Raises InputError where one is doubled, missing or not of the run."""
    positions = read_tokens(run)
    key_N = (positions["sequence"].to_numpy().astype(np.int64) << 32) + positions["position"].to_numpy()
    key_R = (sequence_R << 32) + position_R
    place_R = np.minimum(np.searchsorted(key_N, key_R), max(len(key_N) - 1, 0))
    unknown = np.flatnonzero(key_N[place_R] != key_R) if len(key_N) else np.arange(len(key_R))
    if len(unknown):
        row = unknown[0]
        raise InputError(
            f"{path} row {row}: {run.place} has no position {position_R[row]} in sequence {sequence_R[row]} (a sequence's last "
            f"token has no row); it has {len(key_N):,} positions"
        )
    order_R = np.argsort(key_R, kind="stable")
    doubled = np.flatnonzero(np.diff(key_R[order_R]) == 0)
    if len(doubled):
        row = int(order_R[doubled + 1].min())
        first = int(np.flatnonzero(key_R == key_R[row])[0])
        raise InputError(
            f"{path} row {row}: every position is routed once; sequence {sequence_R[row]}, position {position_R[row]} "
            f"was in row {first} already"
        )
    row_N = np.full(len(key_N), -1)
    row_N[place_R] = np.arange(len(key_R))
    missing = np.flatnonzero(row_N < 0)
    if len(missing):
        sequence, position = key_N[missing[0]] >> 32, key_N[missing[0]] & 0xFFFFFFFF
        raise InputError(
            f"{path}: every position of {run.place} is routed; {len(missing):,} of {len(key_N):,} are missing, first "
            f"sequence {sequence}, position {position}"
        )
    return row_N
