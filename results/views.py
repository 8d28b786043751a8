"""The views that SQL sees, each column with its unit and meaning: a run's tables with version 1's names beside today's, and
what is made of them.

Knows no run: `results/sql.py` fills the tables that stand under the views.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import duckdb
import pyarrow as pa

from duo_oracle.results.measures import MEASURES, SLACK_VIEW, VIEW
from duo_oracle.results.store.columns import ABOUT, ANY_COST, BESIDE, COLUMNS, OLD_NAMES, TABLES, Column
from duo_oracle.results.store.route_files import ROUTE_COLUMNS
from duo_oracle.results.store.words import ANY_RUN

_TEXT, _WHOLE = pa.string(), pa.int64()

VIEWS = {
    **ABOUT,
    "oracle": "paths joined with tokens",
    "measures": "the difficulty family per position and budget, and the token's class",
    "slack": "how many patterns are as good as the best (runs that kept losses)",
    "routes": "one row per router and scored position: what it chose, by the route files that the question was given",
    "branches": "one row per run and branch that a layer may take",
    "runs": "one row per run: its config, context, model, data, and the numbers of the layers that letters stand for",
}
"""What a row of each view is."""

RUN_COLUMNS = (
    Column("run", _TEXT, "", "name of the run's directory, or its path where two runs share one"),
    Column("run_id", _TEXT, "", "the run's id, made from all that decides its tables"),
    Column("state", _TEXT, "", "running or complete"),
    Column("strategy", _TEXT, "", "search strategy"),
    Column("branches", _TEXT, "", "letters that a layer may take"),
    Column("gate", _TEXT, "", "how the experts of a set weigh where it is not by the router's own rule: renormalised; else null"),
    Column("skip", _TEXT, "", "what a skip leaves out: ffn or layer"),
    Column("context", _TEXT, "", "routing of the earlier tokens: committed, same, full, cheapest, a pattern, or router:ID"),
    Column("budgets", _TEXT, "", "budgets in the run's order, commas between"),
    Column("dtype", _TEXT, "", "floating-point type of the model"),
    Column("model", _TEXT, "", "model as it was given to the search"),
    Column("model_fingerprint", _TEXT, "", "SHA-256 of the model's weights"),
    Column("data", _TEXT, "", "data as it was given to the search"),
    Column("data_fingerprint", _TEXT, "", "SHA-256 of the windows' tokens"),
    Column("seed", _WHOLE, "", "seed of the random numbers"),
    Column("n_letters", _WHOLE, "letters", "letters of a pattern: one for each routed layer"),
    Column("units", _WHOLE, "units", "finished units of work"),
    Column("failed_units", _WHOLE, "units", "units that failed"),
    Column("sequences", _WHOLE, "windows", "windows searched so far"),
    Column("tokens", _WHOLE, "tokens", "positions scored so far"),
    Column("seconds", pa.float64(), "seconds", "time of all sessions together"),
    Column("route_layers", _TEXT, "", "routed layers as they are written, such as 18-27; null where all layers are routed"),
    Column("layers", pa.list_(_WHOLE), "", "numbers that the routed layers have in the model, letter by letter"),
    Column(
        "cheapest",
        _TEXT,
        "",
        "letter of the cheapest pattern: s, or . in a model without small FFNs, or that of the fewest experts",
    ),
    Column("config", _TEXT, "", "resolved config as JSON"),
    Column("n_layers", _WHOLE, "letters", "version 1's name of n_letters"),
)

BRANCH_COLUMNS = (
    Column("run", _TEXT, "", "name of the run"),
    Column("letter", _TEXT, "", "letter that stands for the branch in a pattern"),
    Column("what", _TEXT, "", "what a token does at a layer where its pattern has the letter"),
    Column("cost", pa.int16(), ANY_COST, "cost of the branch, which budgets and the column cost add up"),
)

BUDGET_ORDER = """
CREATE MACRO budget_order(budget) AS CASE
    WHEN budget = 'any' THEN '0'
    WHEN starts_with(budget, 'atmost:') THEN '1' || lpad(budget[8:], 6, '0')
    ELSE '2' || lpad(budget, 6, '0') END
"""
"""How budgets sort, which are texts: any, then at most 1, 2, ..., then exactly 0, 1, 2, ..."""

_KIND = """CASE WHEN budget = 'any' THEN 'any' WHEN starts_with(budget, 'atmost:') THEN 'atmost'
    WHEN budget IS NOT NULL THEN 'exact' END AS budget_kind"""

_ORACLE = """
CREATE VIEW oracle AS
SELECT paths.run, document, sequence, position, token_id, token, target_id, target, * EXCLUDE (
    run, document, sequence, position, token_id, token, target_id, target), budget AS budget_name
FROM paths JOIN tokens USING (run, sequence, position)
"""

_RUN = Column("run", _TEXT, "", "name of the run")
_BUDGET_NAME = Column("budget_name", _TEXT, "", "version 1's name of this view's budget")
_MADE: dict[str, tuple[Column, ...]] = {
    "oracle": (_BUDGET_NAME,),
    "measures": (
        _BUDGET_NAME,
        Column(
            "class",
            _TEXT,
            "",
            "easy, stubborn, reducible, within bias (no more than selection bias gives); helped where no labels were drawn",
        ),
    ),
    "slack": (Column("pass_budget", _TEXT, "", "budget of the pass; null where one pass serves all budgets"),),
}
"""Columns that no table has."""


def make_views(connection: duckdb.DuckDBPyConnection, sources: Mapping[str, Iterable[tuple[str, str]]]) -> None:
    """Creates the views over registered relations: for each table that there is, (run's name, relation) of every run."""
    connection.execute(BUDGET_ORDER)
    for table, relations in sources.items():
        old = "".join(f", {new} AS {name}" for name, new in OLD_NAMES.get(table, {}).items())
        kind = f", {_KIND}" if any(column.name == "budget" for column in COLUMNS[table]) else ""
        selects = [f"SELECT {_quoted(run)} AS run, *{old}{kind} FROM {relation}" for run, relation in relations]
        connection.execute(f"CREATE VIEW {table} AS {' UNION ALL BY NAME '.join(selects)}")
    connection.execute(_ORACLE)
    connection.execute(VIEW)
    if "losses" in sources:
        connection.execute(SLACK_VIEW)


def described() -> dict[str, list[tuple[str, str, str, str]]]:
    """Every view's columns as (name, SQL type, unit, meaning), in the order in which SQL gives them."""
    connection = duckdb.connect(":memory:")
    try:
        for table in (*TABLES, *BESIDE):
            connection.register(f"no_{table}", _empty(COLUMNS[table]))
        make_views(connection, {table: [("", f"no_{table}")] for table in (*TABLES, *BESIDE)})
        for view, columns in (("runs", RUN_COLUMNS), ("branches", BRANCH_COLUMNS), ("routes", ROUTE_COLUMNS)):
            connection.register(view, _empty(columns))
        found = {view: connection.execute(f"DESCRIBE {view}").fetchall() for view in VIEWS}
    finally:
        connection.close()
    return {view: [(name, kind, *_said(view, name)) for name, kind, *_ in rows] for view, rows in found.items()}


def schema_table() -> pa.Table:
    """`described` as rows: view, column, type, unit, meaning."""
    rows = [(view, *column) for view, columns in described().items() for column in columns]
    names = ("view", "column", "type", "unit", "meaning")
    return pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)})


def schema_markdown() -> str:
    """docs/schema.md: every view, every column, its unit and its meaning."""
    lines = [
        "# Tables and views of a run",
        "",
        "Made from `results/store/columns.py` and `results/views.py`; `duo-oracle query --schema` prints the same.",
        "The first four are also what a run directory holds as Parquet, without the column `run` and without version 1's names.",
        "Budgets are texts: `budget_order(budget)` sorts them (any, then at most, then exact).",
    ]
    for view, columns in described().items():
        lines += ["", f"## {view}", "", f"{VIEWS[view][0].upper()}{VIEWS[view][1:]}.", "", "| column | type | unit | meaning |"]
        lines += ["|---|---|---|---|", *(f"| `{name}` | {kind} | {unit} | {meaning} |" for name, kind, unit, meaning in columns)]
    return "\n".join(lines) + "\n"


def _said(view: str, name: str) -> tuple[str, str]:
    """Unit and meaning of a view's column: of its own declaration, of the measure, or of the table that it is taken from."""
    declared = {"runs": RUN_COLUMNS, "branches": BRANCH_COLUMNS, "routes": ROUTE_COLUMNS, **COLUMNS}
    for column in (*declared.get(view, ()), *_MADE.get(view, ())):
        if column.name == name:
            return column.unit, column.meaning
    if name == "run":
        return _RUN.unit, _RUN.meaning
    if name == "budget_kind":
        return "", "version 1's column: any, exact or atmost"
    for table in (view, "paths", "tokens"):
        new = OLD_NAMES.get(table, {}).get(name)
        for column in COLUMNS.get(table, ()):
            if column.name == new:
                return column.unit, f"version 1's name of {new}"
            if column.name == name:
                return column.unit, column.meaning
    if name in MEASURES:
        return MEASURES[name].unit, MEASURES[name].said(ANY_RUN)
    raise LookupError(f"the column {name} of the view {view} has no meaning")


def _empty(columns: Iterable[Column]) -> pa.Table:
    return pa.schema([(column.name, column.type) for column in columns]).empty_table()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
