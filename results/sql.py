"""SQL over runs: the views of `results/views.py` and the named questions in `results/queries/`.

Read-only by construction: the runs' tables are registered as Arrow datasets, then DuckDB loses all access to files,
network, extensions and Python variables, and its configuration is locked. What remains is one SELECT over the views.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from duo_oracle.oracle.base.choices import Choices
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.parquet import parquet_faults
from duo_oracle.oracle.base.sizes import parse_bytes
from duo_oracle.oracle.base.threads import few_threads, ready_arrow
from duo_oracle.results.store.beside import beside
from duo_oracle.results.store.columns import BESIDE, TABLES, Column
from duo_oracle.results.store.reader import StoredRun, load
from duo_oracle.results.store.route_files import routes_view
from duo_oracle.results.store.version1 import ConvertedDataset
from duo_oracle.results.views import BRANCH_COLUMNS, RUN_COLUMNS, make_views

QUESTIONS = Choices("question", "duo_oracle.results.queries", ".sql")
"""A plug-in names the package that holds its NAME.sql, which is read, and never imported."""

MEMORY, TIME_LIMIT = "2GiB", 600.0
_BATCH_ROWS = 1 << 16
_LOCKDOWN = (
    "SET enable_external_access = false",
    "SET python_enable_replacements = false",
    "SET autoload_known_extensions = false",
    "SET autoinstall_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET lock_configuration = true",
)


def query(
    runs: Sequence[StoredRun | str | os.PathLike[str]],
    sql: str,
    routes: Sequence[str] = (),
    memory: str = MEMORY,
    time_limit: float = TIME_LIMIT,
) -> pa.Table:
    """The answer to `sql`, one SELECT or the name of a question, over the views of all `runs` (column `run` tells them apart).

    `routes`: route files, FILE or NAME=FILE, each of one of the runs, that the view routes holds. `memory`: what DuckDB may
    take, beyond which it sets rows aside on the disk; `time_limit`: seconds, 0 for no limit.
    Raises InputError, one line, for anything but one SELECT, an unknown name, whatever DuckDB does not accept, a query beyond
    its limits, and a route file that fits no run.
    """
    with answering(runs, sql, routes, memory, time_limit) as rows:
        return rows.read_all()


@contextmanager
def answering(
    runs: Sequence[StoredRun | str | os.PathLike[str]],
    sql: str,
    routes: Sequence[str] = (),
    memory: str = MEMORY,
    time_limit: float = TIME_LIMIT,
) -> Iterator[pa.RecordBatchReader]:
    """As `query`, the rows as they are found: they never are in memory together. The time is counted until the block ends."""
    if not 0 <= time_limit <= threading.TIMEOUT_MAX:
        raise InputError(f"`time_limit` is a number of seconds, 0 for none; got {time_limit:g}")
    text = _resolved(sql)
    opened = [run if isinstance(run, StoredRun) else load(run) for run in runs]
    if text != sql and "'B'" in text:
        for run in opened:
            run.check_letters(f"the question {sql.strip()}")
    connection = connect(opened, routes, memory)
    late = threading.Event()

    def stop() -> None:
        late.set()
        connection.interrupt()

    def said(error: Exception) -> InputError:
        if late.is_set():
            return InputError(
                f"the query was stopped after `time_limit={time_limit:g}` seconds; ask for less, or allow more (0: no limit)"
            )
        if "Out of Memory Error" in str(error):
            return InputError(f"the query needs more memory than `memory={memory}`; ask for less, or allow more")
        return InputError(_one_line(connection, error))

    def found(rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        try:
            yield from rows
        except parquet_faults() as error:  # as Arrow passes on what DuckDB met while it went on
            raise said(error) from None

    timer = threading.Timer(time_limit, stop)
    timer.daemon = True
    try:
        if time_limit:
            timer.start()
        try:
            rows = _selected(connection, text)
        except duckdb.Error as error:
            raise said(error) from None
        yield pa.RecordBatchReader.from_batches(rows.schema, found(rows))
    finally:
        timer.cancel()
        connection.close()


def questions() -> dict[str, str]:
    """The named questions, of `results/queries/` and of plug-ins, and what each answers: the first line of its file."""
    return {name: _answers(name) for name in QUESTIONS.names()}


def connect(
    runs: Sequence[StoredRun | str | os.PathLike[str]], routes: Sequence[str] = (), memory: str | None = None
) -> duckdb.DuckDBPyConnection:
    """A locked connection with the views of `runs`, and of route files where there are any. `memory` bounds what it takes."""
    ready_arrow()
    limit: dict[str, Any] = {} if memory is None else {"memory_limit": f"{parse_bytes(memory)}B"}
    if few_threads():
        limit["threads"] = 1
    opened = [run if isinstance(run, StoredRun) else load(run) for run in runs]
    if not opened:
        raise InputError("a query is asked of one run or more; none was named")
    names = _names(opened)
    connection = duckdb.connect(":memory:", config={"temp_directory": _spill_directory(), **limit})
    sources: dict[str, list[tuple[str, str]]] = {}
    for table in TABLES:
        for number, (run, name) in enumerate(zip(opened, names, strict=True)):
            if table in run.tables:
                relation = f"{table}_of_run_{number}"
                connection.register(relation, _relation(run, table))
                sources.setdefault(table, []).append((name, relation))
    for table in BESIDE:
        for number, (run, name) in enumerate(zip(opened, names, strict=True)):
            rows = beside(run, table)
            if rows is not None:
                relation = f"{table}_of_run_{number}"
                connection.register(relation, rows)
                sources.setdefault(table, []).append((name, relation))
    make_views(connection, sources)
    connection.register("runs", _rows(RUN_COLUMNS, [_run_row(run, name) for run, name in zip(opened, names, strict=True)]))
    branches = [row for run, name in zip(opened, names, strict=True) for row in _branch_rows(run, name)]
    connection.register("branches", _rows(BRANCH_COLUMNS, branches))
    if routes:
        connection.register("routes", routes_view(opened, names, routes))
    for statement in _LOCKDOWN:
        connection.execute(statement)
    return connection


def _selected(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.RecordBatchReader:
    """The rows of one SELECT. Raises InputError for anything else, and duckdb.Error for whatever DuckDB does not accept."""
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        found = ", ".join(statement.type.name for statement in statements) or "none"
        raise InputError(f"a query is exactly one SELECT statement; got {found}")
    relation = connection.sql(statements[0].query)
    # The newer name of the same; both give rows as they are found.
    reader = getattr(relation, "to_arrow_reader", None) or relation.fetch_record_batch
    return reader(_BATCH_ROWS)


def _resolved(sql: str) -> str:
    text = sql.strip().removesuffix(";")
    if not text.isidentifier() and text not in QUESTIONS.names():
        return sql
    if text not in QUESTIONS.names():
        near = difflib.get_close_matches(text, QUESTIONS.names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"unknown question {text!r}; {hint}available: {', '.join(QUESTIONS.names())}; or write a SELECT")
    source = QUESTIONS.source(text)
    if source is None:
        raise InputError(f"question {text!r}: there is no {text}.sql in {QUESTIONS.find(text)}")
    return source.read_text(encoding="utf-8")


def _answers(name: str) -> str:
    """What a question answers, the first line of its file; of a plug-in that cannot be asked, why."""
    try:
        return _resolved(name).splitlines()[0].removeprefix("--").strip()
    except InputError as error:
        return f"({error})"


def _spill_directory() -> str:
    # Where a query larger than memory is set aside: made only then, and not in the user's working directory.
    return os.path.join(tempfile.gettempdir(), f"duo-oracle-{os.getpid()}")


def _names(runs: Sequence[StoredRun]) -> list[str]:
    # A run is called by its directory's name; where two share one, by their paths as given.
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [os.fspath(run.path) for run in runs]


def _relation(run: StoredRun, table: str) -> ds.Dataset | ds.Scanner:
    rows = run.dataset(table)
    return rows.scanner() if isinstance(rows, ConvertedDataset) else rows


def _rows(columns: Sequence[Column], rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema([(column.name, column.type) for column in columns]))


def _branch_rows(run: StoredRun, name: str) -> list[dict[str, Any]]:
    """The run's branch table: what its letters stand for."""
    identity = run.identity
    skipped = "nothing: the layer is skipped" if identity.get("skip") == "layer" else "attention alone: the FFN adds nothing"
    what = {".": skipped, "s": "the small FFN", "B": "the big FFN"}
    return [
        {
            "run": name,
            "letter": branch.letter,
            "what": what.get(branch.letter, branch.what) if not run.table.of_experts else branch.what,
        }
        | {"cost": branch.cost}
        for branch in run.table.branches
    ]


def _run_row(run: StoredRun, name: str) -> dict[str, Any]:
    manifest = run.manifest
    known = {**run.identity, "model": manifest.facts.get("model"), "data": manifest.facts.get("data")}
    row = {column.name: known.get(column.name) for column in RUN_COLUMNS}
    return row | {
        "run": name,
        "run_id": manifest.run_id,
        "state": manifest.state,
        "budgets": ",".join(run.budgets),
        "units": len(manifest.units),
        "failed_units": len(manifest.failed),
        "sequences": sum(record.sequences for record in manifest.units.values()),
        "tokens": run.n_tokens,
        "seconds": sum(session["seconds"] or 0.0 for session in manifest.sessions),
        "route_layers": run.route_layers,
        "layers": run.layers,
        "cheapest": run.cheapest.letter,
        "config": json.dumps(run.config, sort_keys=True),
        "n_layers": run.n_letters,
    }


def _one_line(connection: duckdb.DuckDBPyConnection, error: Exception) -> str:
    text = str(error)
    unknown = re.search(r"Table with name (\S+) does not exist", text)
    if unknown:
        views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        available = sorted({name for (name,) in views if "_of_run_" not in name})
        if unknown[1] == "routes":
            return "the view routes holds route files, of which none was given; query with `routes='FILE.parquet'`"
        if unknown[1] in BESIDE:
            return f"the runs have no table {unknown[1]} yet; `duo-oracle {unknown[1]} RUN` measures it, and this can be asked then"
        kept = "; the runs kept no " + unknown[1] + f", search with `keep={unknown[1]!r}`" if unknown[1] in TABLES else ""
        return f"unknown table {unknown[1]!r}; available: {', '.join(available)}{kept}"
    lines = [line.strip() for line in text.split("\nLINE ")[0].splitlines() if line.strip()]
    return "; ".join(lines[:2])
