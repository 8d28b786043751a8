"""Runs of version 1 of the tables, as a released version wrote them: read with every number, and never resumed.

`version1/` holds three: context full (then `big`) with kept losses, committed with kept losses, and cheapest (then `small`) with
kept trials.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from duo_oracle.results import Run, load
from duo_oracle.results.answers.difficulty import hardest
from duo_oracle.results.answers.summary import summarise
from duo_oracle.results.sql import query, questions
from duo_oracle.results.store import schemas
from duo_oracle.results.store.columns import BESIDE, OLD_NAMES
from duo_oracle.results.store.writer import RunWriter

RUNS = Path(__file__).parent / "version1"
HELD = [
    ("full", "tokens"),
    ("full", "paths"),
    ("full", "losses"),
    ("committed", "losses"),
    ("committed", "paths"),
    ("trials", "trials"),
    ("trials", "paths"),
]


def stored(run: str, table: str) -> pa.Table:
    return pa.concat_tables(pq.read_table(part) for part in sorted((RUNS / run / table).glob("*.parquet")))


@pytest.mark.parametrize(("run", "table"), HELD)
def test_every_column_of_version_1_is_read_into_todays_with_all_its_values(run: str, table: str) -> None:
    found, old = load(RUNS / run).dataset(table).to_table(), stored(run, table)
    assert found.schema.equals(schemas.schema(table, ""))
    renamed = OLD_NAMES.get(table, {})
    for name in old.column_names:
        if name not in ("budget", "budget_kind"):
            assert found[renamed.get(name, name)].to_pylist() == old[name].to_pylist(), name
    if table != "tokens":
        assert found["cost"].to_pylist() == old["n_big"].to_pylist()
        written = {"any": "any", "exact": "{}", "atmost": "atmost:{}", None: None}
        pairs = zip(old["budget_kind"].to_pylist(), old["budget"].to_pylist(), strict=True)
        assert found["budget"].to_pylist() == [kind and written[kind].format(number) for kind, number in pairs]
    if table == "paths":
        low_high = {"any": (0, 4), "exact": None, "atmost": (0, None)}
        for kind, number, low, high in zip(
            *(old[name].to_pylist() for name in ("budget_kind", "budget")),
            *(found[name].to_pylist() for name in ("budget_low", "budget_high")),
            strict=True,
        ):
            assert (low, high) == tuple(number if bound is None else bound for bound in low_high[kind] or (number, number))


def test_a_filter_and_columns_are_of_todays_names() -> None:
    run = load(RUNS / "full")
    wanted = (ds.field("cost") <= 1) & (ds.field("sequence") == 1)
    rows = run.dataset("losses").to_table(columns=["position", "loss"], filter=wanted)
    whole = stored("full", "losses").filter((ds.field("n_big") <= 1) & (ds.field("sequence") == 1))
    assert rows.column_names == ["position", "loss"]
    assert rows["loss"].to_pylist() == whole["loss"].to_pylist()
    assert run.dataset("losses", 1).to_table(columns=["sequence"])["sequence"].unique().to_pylist() == [2]


def test_the_identity_is_in_todays_words() -> None:
    assert [load(RUNS / name).context for name in ("full", "committed", "trials")] == ["full", "committed", "cheapest"]
    assert load(RUNS / "full").identity["n_letters"] == 4
    assert "n_layers" not in load(RUNS / "full").identity


def test_pandas_offers_the_old_names_too() -> None:
    frame, old = load(RUNS / "full").paths(), stored("full", "paths").to_pandas()
    for name in ("loss_big", "loss_small", "entropy_big", "budget_kind"):
        assert frame[name].tolist() == old[name].tolist()


def test_a_question_of_version_1s_columns_has_version_1s_answer() -> None:
    run = load(RUNS / "full")
    asked = "SELECT budget_kind, avg(loss_big) b, avg(loss_small) s, avg(entropy_big) e FROM {} GROUP BY ALL ORDER BY 1"
    old = (
        stored("full", "paths").group_by("budget_kind").aggregate([(n, "mean") for n in ("loss_big", "loss_small", "entropy_big")])
    )
    old = old.sort_by("budget_kind")
    for view in ("paths", "oracle", "measures"):
        answer = query([run], asked.format(view))
        assert answer["budget_kind"].to_pylist() == old["budget_kind"].to_pylist()
        for short, long in (("b", "loss_big"), ("s", "loss_small"), ("e", "entropy_big")):
            assert np.allclose(answer[short].to_numpy(), old[f"{long}_mean"].to_numpy())
    assert query([run], "SELECT max(n_big) n FROM losses").to_pylist() == [{"n": 4}]


@pytest.mark.parametrize("question", [name for name in questions() if not name.startswith(("router", *BESIDE))])
def test_every_question_is_answered_of_version_1(question: str) -> None:
    runs: list[Run] = [load(RUNS / name) for name in ("full", "committed", "trials")]
    assert query(runs, question).num_rows or question == "target_words"  # no text is seen five times in so little


def test_the_summary_is_that_of_the_version_that_wrote_it() -> None:
    said = summarise(load(RUNS / "full"))
    for line in (
        "     any   3.287       26.77       3.824        4.078      3.882    4.713  1.426      0.347   1.079",
        "       1   3.397       29.87       3.959        3.891      3.882    4.713  1.316      0.132   1.184",
    ):
        assert line in said
    assert [round(token.value, 3) for token in hardest(load(RUNS / "full"), 3)] == [1.311, 1.307, 1.156]


def test_it_is_not_resumed_but_refused_in_a_line_that_says_why(tmp_path: Path) -> None:
    directory = shutil.copytree(RUNS / "full", tmp_path / "run")
    identity = load(directory).identity
    with pytest.raises(ValueError, match="version 1 of the tables, which can be read but not resumed") as caught:
        RunWriter.open(directory, identity)
    assert "\n" not in str(caught.value)
    RunWriter.open(directory, identity, overwrite=True).close()
    assert load(directory).manifest.schema_version == schemas.SCHEMA_VERSION
