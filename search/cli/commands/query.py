"""Ask a run, or several: one SELECT over its tables and views, or a named question"""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.search.cli.answer import Format, write_answer
from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class QueryConfig:
    """What `duo-oracle query` is asked.

    Args:
        run_sql: run directories, and last the SELECT or the name of a question
        list: list the named questions and the views
        schema: print every column of every view, with its unit and meaning
        routes: FILE.parquet or NAME=FILE.parquet, what a router chose at a run's positions, for the view routes; repeatable
        format: form of the answer on stdout; csv holds the data to the letter: a spreadsheet takes cells that begin with = + - or
            @ for formulas unless they are imported as text
        memory: memory that DuckDB may take; beyond it, rows are set aside on the disk
        time_limit: seconds until the query is stopped; 0 for no limit
    """

    run_sql: tuple[str, ...] = field(default=(), metadata={"uri": True})
    list: bool = False
    schema: bool = False
    routes: tuple[str, ...] = field(default=(), metadata={"uri": True})
    format: Format = Format.TABLE
    memory: str = "2GiB"
    time_limit: float = 600.0


def _run(config: QueryConfig) -> int:
    from duo_oracle.results.sql import answering, questions
    from duo_oracle.results.views import VIEWS, schema_table

    if config.list:
        named = questions()
        width = max(map(len, named))
        questions_said = [f"  {name:<{width}}  {answer}" for name, answer in named.items()]
        views_said = [f"  {name:<{width}}  {about}" for name, about in VIEWS.items()]
        write_answer(
            config.format,
            lambda: [
                {"kind": kind, "name": name, "what": what}
                for kind, about in (("question", named), ("view", VIEWS))
                for name, what in about.items()
            ],
            lambda: "\n".join(["named questions:", *questions_said, "", "views:", *views_said]),
        )
        return 0
    if config.schema:
        write_answer(config.format, schema_table)
        return 0
    if len(config.run_sql) < 2:
        raise InputError(f"a query is RUN... and one SELECT or the name of a question (--list); got {list(config.run_sql)}")
    *runs, sql = config.run_sql
    with answering(runs, sql, config.routes, config.memory, config.time_limit) as rows:
        write_answer(config.format, lambda: rows)
    return 0


COMMAND = Command(
    work=Work.READ,
    options=QueryConfig,
    run=_run,
    positional=("run_sql",),
    examples=(
        "duo-oracle query --list",
        "duo-oracle query --schema",
        "duo-oracle query runs/first hardest_tokens",
        "duo-oracle query runs/prose runs/code router_budget --routes a=prose-routes.parquet --routes a=code-routes.parquet",
        'duo-oracle query runs/first "SELECT n_big, avg(difficulty) AS gain FROM paths GROUP BY n_big ORDER BY n_big"',
        'duo-oracle query runs/a runs/b "SELECT run, avg(loss) FROM paths GROUP BY run" --format csv > losses.csv',
        "duo-oracle query runs/first \"SELECT * FROM oracle WHERE token = ' the'\" --format parquet > the.parquet",
    ),
)
