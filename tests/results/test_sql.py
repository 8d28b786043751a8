"""Questions to runs: the views, one SELECT and nothing else, and every named question."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results import Run
from duo_oracle.results.formats import TABLE_ROWS, as_text, write
from duo_oracle.results.sql import answering, query, questions
from tests.results.synthetic import Synthetic, add_beside


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def kept_losses(folder: Path) -> Run:
    return Synthetic().write(folder / "curve")


@pytest.fixture(scope="module")
def kept_trials(folder: Path) -> Run:
    return Synthetic(keep="trials", budgets="any,atmost:2", nulls=False, texts=False).write(folder / "tried")


@pytest.fixture(scope="module")
def committed(folder: Path) -> Run:
    return Synthetic(context="committed", budgets="any,2", documents=1).write(folder / "it's committed")


def test_views_have_the_rows_of_the_tables(kept_losses: Run) -> None:
    rows = query(
        [kept_losses], "SELECT (SELECT count(*) FROM tokens) t, (SELECT count(*) FROM paths) p, (SELECT count(*) FROM losses) l"
    )
    assert rows.to_pylist() == [{"t": 72, "p": 360, "l": 72 * 16}]


def test_oracle_is_paths_with_tokens(kept_losses: Run) -> None:
    rows = query([kept_losses], "SELECT * FROM oracle ORDER BY sequence, position, budget").to_pandas()
    joined = kept_losses.paths().merge(kept_losses.tokens(), on=["sequence", "position"])
    joined = joined.sort_values(["sequence", "position", "budget"]).reset_index(drop=True)
    for column in joined.columns:
        pd.testing.assert_series_equal(rows[column], joined[column], check_dtype=False)
    assert rows["budget"].tolist() == rows["budget_name"].tolist()
    assert rows["budget"].tolist() == [str(k) for k in range(5)] * 72
    assert rows.columns.is_unique


def test_several_runs_are_told_apart(kept_losses: Run, kept_trials: Run, committed: Run) -> None:
    rows = query(
        [kept_losses, kept_trials.path, str(committed.path)], "SELECT run, count(*) AS n FROM paths GROUP BY run ORDER BY run"
    )
    assert rows.to_pylist() == [{"run": "curve", "n": 360}, {"run": "it's committed", "n": 24}, {"run": "tried", "n": 144}]
    rows = query([kept_losses, kept_trials], "SELECT DISTINCT run FROM losses")
    assert rows.to_pylist() == [{"run": "curve"}]


def test_runs_of_one_name_go_by_their_paths(tmp_path: Path, kept_losses: Run) -> None:
    other = Synthetic(documents=2).write(tmp_path / "curve")
    rows = query([kept_losses, other], "SELECT run FROM runs ORDER BY tokens")
    assert rows["run"].to_pylist() == [str(other.path), str(kept_losses.path)]


def test_runs_says_how_each_was_searched(kept_losses: Run) -> None:
    (row,) = query([kept_losses], "SELECT * FROM runs").to_pylist()
    assert row["context"] == "full"
    assert row["budgets"] == "0,1,2,3,4"
    assert (row["tokens"], row["units"], row["failed_units"], row["state"]) == (72, 6, 0, "complete")
    assert json.loads(row["config"]) == {"seed": 0}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT 2",
        "",
        "-- nothing",
        "COPY (SELECT 1) TO 'out.csv'",
        "COPY paths TO 'out.parquet'",
        "ATTACH 'out.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 1",
        "SET enable_external_access = true",
        "RESET enable_external_access",
        "PRAGMA database_list",
        "CREATE TABLE t AS SELECT 1",
        "DROP VIEW paths",
        "INSERT INTO paths SELECT * FROM paths",
        "DELETE FROM paths",
        "UPDATE paths SET loss = 0",
        "EXPORT DATABASE 'out'",
        "CALL pragma_version()",
        "SELECT 1; COPY (SELECT 1) TO 'out.csv'",
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM read_blob('{secret}')",
        "SELECT * FROM read_parquet('{part}')",
        "SELECT * FROM parquet_metadata('{part}')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM '{part}'",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM query('COPY (SELECT 1) TO ''out.csv''')",
        "SELECT getenv('HOME')",
        "SELECT * FROM frame_of_the_caller",
    ],
)
def test_only_one_select_over_the_views_is_answered(
    sql: str, kept_losses: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    frame_of_the_caller = kept_losses.tokens()
    assert len(frame_of_the_caller)
    part = kept_losses.path / "paths" / "part-00000.parquet"
    with pytest.raises(ValueError) as caught:
        query([kept_losses], sql.format(secret=secret, part=part, folder=tmp_path))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


@pytest.mark.parametrize(
    ("sql", "law"),
    [
        ("SELECT nothing FROM paths", "nothing"),
        ("SELECT * FROM pahts", "unknown table 'pahts'; available: branches, losses, measures, oracle, paths, runs, slack, tokens"),
        ("SELECT * FROM trials", "search with `keep='trials'`"),
        ("SELEC 1", "syntax error"),
        ("SELECT 1 2 3", "syntax error"),
        ("SELECT sum(pattern) FROM paths", "sum"),
        ("SELECT loss::INT[] FROM paths", "Conversion|cast"),
        ("hardest_token", "unknown question 'hardest_token'; did you mean 'hardest_tokens'"),
    ],
)
def test_mistakes_are_said_in_one_line(sql: str, law: str, kept_losses: Run) -> None:
    with pytest.raises(ValueError, match=law) as caught:
        query([kept_losses], sql)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_query_needs_a_run() -> None:
    with pytest.raises(ValueError, match="none was named"):
        query([], "SELECT 1")


def test_every_file_of_the_folder_is_a_question() -> None:
    names = {entry.name.removesuffix(".sql") for entry in (files("duo_oracle.results") / "queries").iterdir()}
    assert set(questions()) == names
    for name, what in questions().items():
        assert name.isidentifier()
        assert 10 < len(what) < 140
        assert (files("duo_oracle.results") / "queries" / f"{name}.sql").read_text().startswith("-- ")


@pytest.fixture(scope="module")
def routes(folder: Path, kept_losses: Run) -> list[str]:
    """What two routers chose."""
    tokens = kept_losses.tokens()
    for router, pattern in (("late", "ssBB"), ("mixed", "BsBs")):
        columns = {"sequence": tokens["sequence"], "position": tokens["position"]}
        pq.write_table(
            pa.table({**columns, "pattern": [pattern if p % 2 else "sssB" for p in tokens["position"]]}),
            folder / f"{router}.parquet",
        )
    return [str(folder / "late.parquet"), str(folder / "mixed.parquet")]


@pytest.fixture(scope="module")
def asked(folder: Path) -> Run:
    """A finished run that has been asked for every table that it may be asked for."""
    return add_beside(Synthetic(documents=1, keep=None).write(folder / "asked"))


@pytest.mark.parametrize("question", questions())
def test_every_question_is_answered(
    question: str, kept_losses: Run, kept_trials: Run, committed: Run, asked: Run, routes: list[str]
) -> None:
    runs = [kept_losses, kept_trials, committed, asked]
    answer = query(runs, question, routes)
    assert answer.num_rows
    assert answer.column_names[0] == "run"
    again = query(runs, question, routes).to_pandas()  # the order of rows is part of the answer
    pd.testing.assert_frame_equal(again, answer.to_pandas())
    assert set(answer["run"].to_pylist()) <= {"curve", "tried", "it's committed", "asked"}
    assert not any(
        np.isinf(column.to_pylist()).any()
        for column in answer.columns
        if pa.types.is_floating(column.type) and not column.null_count
    )


def test_budget_curve_is_the_means_of_paths(kept_losses: Run) -> None:
    curve = query([kept_losses], "budget_curve").to_pandas()
    paths = kept_losses.paths().astype({"loss": float, "null_gain": float})
    assert curve["budget"].tolist() == ["0", "1", "2", "3", "4"]
    assert np.allclose(curve["loss"], paths.groupby("budget")["loss"].mean())
    assert np.allclose(curve["perplexity"], np.exp(paths.groupby("budget")["loss"].mean()))
    assert np.allclose(curve["null_gain"], paths.groupby("budget")["null_gain"].mean())


def test_layer_use_adds_up_to_the_budget(kept_losses: Run) -> None:
    use = query([kept_losses], "layer_use").to_pandas()
    assert np.allclose(use.groupby("budget")["big"].sum(), [0, 1, 2, 3, 4])
    assert np.allclose(use["big"] + use["small"] + use["skipped"], 1)
    assert sorted(use["layer"].unique()) == [0, 1, 2, 3]


def test_how_routers_route(kept_losses: Run, routes: list[str]) -> None:
    budget = query([kept_losses], "router_budget", routes).to_pandas()
    assert budget["n_big"].tolist() == [1.5, 1.5]
    assert budget["starved_layers"].tolist() == [2, 1]
    assert budget["saturated_layers"].tolist() == [1, 0]
    (pair,) = query([kept_losses], "router_consistency", routes).to_pylist()
    assert (pair["router"], pair["other"], pair["same_pattern"]) == ("late", "mixed", 0.5)
    assert pair["jaccard"] == pytest.approx((1 + 1) / (1 + 3))
    assert pair["jaccard_random"] == pytest.approx((0.25 + 1.0) / (1.75 + 3.0))
    use = query([kept_losses], "router_layer_use", routes).to_pandas()
    assert use[use["router"] == "mixed"]["big"].tolist() == [0.5, 0.0, 0.5, 0.5]
    exact = kept_losses.paths()
    oracle = exact[exact["budget"] == "2"]["pattern"].str[3].eq("B").mean()
    assert use[(use["router"] == "mixed") & (use["layer"] == 3)]["oracle_big"].tolist() == [pytest.approx(oracle)]
    by_loss = query([kept_losses], "router_by_loss", routes).to_pandas()
    assert by_loss.groupby("router")["tokens"].sum().tolist() == [72, 72]
    assert by_loss[by_loss["router"] == "late"]["loss_cheapest"].is_monotonic_increasing


def test_run_sql_gives_pandas(kept_losses: Run) -> None:
    assert kept_losses.sql("SELECT count(*) AS n FROM tokens")["n"].tolist() == [72]


def test_json_csv_and_parquet_hold_the_same_rows(kept_losses: Run) -> None:
    table = query(
        [kept_losses], "SELECT target, loss, null_gain, certified, NULL AS nothing FROM oracle ORDER BY sequence, position, budget"
    )
    streams = {form: io.BytesIO() for form in ("csv", "json", "parquet")}
    for form, stream in streams.items():
        write(table, form, stream)
    rows = json.loads(streams["json"].getvalue())
    assert rows == table.to_pylist()
    lines = list(csv.DictReader(io.StringIO(streams["csv"].getvalue().decode())))
    assert [line["target"] for line in lines] == [row["target"] for row in rows]
    assert [float(line["loss"]) for line in lines] == [row["loss"] for row in rows]
    assert {line["nothing"] for line in lines} == {""}
    assert pq.read_table(pa.BufferReader(streams["parquet"].getvalue())).to_pylist() == rows


def test_json_writes_null_for_what_is_no_number() -> None:
    stream = io.BytesIO()
    write(pa.table({"x": [float("nan"), 1.5]}), "json", stream)
    assert json.loads(stream.getvalue()) == [{"x": None}, {"x": 1.5}]


def test_the_text_table_is_aligned_escaped_and_says_what_it_leaves_out() -> None:
    lines = as_text(pa.table({"n": [1, 200], "text": ["a\nb", None], "loss": [0.5, 1e-9]})).splitlines()
    assert lines == ["  n  text    loss", "  1  a\\nb  0.5000", "200  -      1e-09"]
    text = as_text(pa.table({"n": range(TABLE_ROWS + 5)}))
    assert text.splitlines()[-1] == "... 5 more rows; csv, json and parquet hold all"


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="available: table, markdown, csv, json, parquet"):
        write(pa.table({"n": [1]}), "xml", io.BytesIO())


def test_results_are_read_without_torch_and_ray(kept_losses: Run) -> None:
    program = f"""
import sys
from duo_oracle import results
from duo_oracle.results import sql
from duo_oracle.results.answers import curve, difficulty, picture, summary, verify
run = results.load({str(kept_losses.path)!r})
run.paths(); run.sql("budget_curve"); difficulty.table(run); summary.summarise(run)
heavy = {{"torch", "ray", "optuna", "transformers", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_results_is_light() -> None:
    program = "import sys, duo_oracle.results; assert not {'torch', 'ray', 'duckdb', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


HOSTILE = "=1+1\x1b[2J\x9b31m\u202e\u00e9"


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_on_a_terminal_no_text_or_title_steers_it(form: str) -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    terminal, file = Terminal(), io.BytesIO()
    answer = pa.table({HOSTILE: [HOSTILE, None], "n": [1.5, -2.0]})
    write(answer, form, terminal)
    printed = terminal.getvalue().decode()
    assert "\u00e9" in printed
    assert all(c.isprintable() or c == "\n" for c in printed)
    write(answer, form, file)
    if form == "csv":  # in a file the data are what they are, formulas too
        rows = list(csv.reader(io.StringIO(file.getvalue().decode(), newline="")))
        assert rows == [[HOSTILE, "n"], [HOSTILE, "1.5"], ["", "-2.0"]]
    if form == "json":
        assert json.loads(file.getvalue()) == [{HOSTILE: HOSTILE, "n": 1.5}, {HOSTILE: None, "n": -2.0}]


def test_json_has_no_number_that_is_not_finite_at_any_depth() -> None:
    file = io.BytesIO()
    write(pa.table({"a": [[1.0, float("nan")]], "b": [{"c": float("inf")}]}), "json", file)
    assert json.loads(file.getvalue()) == [{"a": [1.0, None], "b": {"c": None}}]


def test_a_query_is_stopped_at_its_time_limit(kept_losses: Run) -> None:
    with pytest.raises(InputError, match=r"`time_limit=0\.2` seconds"):
        query([kept_losses], "SELECT count(*) FROM range(100000000) a, range(100000) b", time_limit=0.2)
    with pytest.raises(InputError, match="`time_limit` is a number of seconds"):
        query([kept_losses], "SELECT 1", time_limit=-1)


def test_a_query_takes_no_more_memory_than_it_may(kept_losses: Run) -> None:
    with pytest.raises(InputError, match="more memory than `memory=50MiB`"):
        query([kept_losses], "SELECT list(range) FROM range(10000000)", memory="50MiB")


def test_what_goes_wrong_while_rows_are_written_is_said_in_one_line(kept_losses: Run) -> None:
    late = "SELECT CASE WHEN range < 300000 THEN range ELSE error('boom') END FROM range(400000)"
    with pytest.raises(InputError, match="boom") as caught:
        query([kept_losses], late)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "table"])
def test_an_answer_is_written_as_it_is_found(form: str, kept_losses: Run) -> None:
    """Rows are on their way before the last is found, and are the same as those of a whole table."""
    sql = "SELECT range AS n, 'text ' || range AS t FROM range(100000)"
    found: list[int] = []

    class Watched(io.BytesIO):
        def write(self, data: Any) -> int:
            found.append(n_read)
            return super().write(data)

    n_read = 0
    streamed, whole = Watched(), io.BytesIO()
    with answering([kept_losses], sql) as rows:

        def counted() -> Iterator[pa.RecordBatch]:
            nonlocal n_read
            for batch in rows:
                n_read += batch.num_rows
                yield batch

        write(pa.RecordBatchReader.from_batches(rows.schema, counted()), form, streamed)
    table = query([kept_losses], sql)
    write(table, form, whole)
    assert n_read == table.num_rows == 100000
    if form == "table":
        assert f"... {100000 - TABLE_ROWS} more rows" in streamed.getvalue().decode()
    else:
        assert any(0 < n < 100000 for n in found)
    if form == "parquet":
        assert pq.read_table(io.BytesIO(streamed.getvalue())).equals(table)
    else:
        assert streamed.getvalue() == whole.getvalue()
