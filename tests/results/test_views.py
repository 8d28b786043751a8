"""Every column of every view says its unit and meaning, and docs/schema.md is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from duo_oracle.results.sql import query
from duo_oracle.results.store.columns import BESIDE
from duo_oracle.results.views import VIEWS, described, schema_markdown, schema_table
from duo_oracle.search.cli import main
from tests.results.synthetic import Synthetic

SCHEMA = Path(__file__).parents[2] / "docs" / "schema.md"


def test_every_column_has_a_meaning_and_every_number_a_unit() -> None:
    ids = {"sequence", "token_id", "target_id", "seed"}
    for view, columns in described().items():
        assert columns, view
        for name, kind, unit, meaning in columns:
            assert len(meaning) > 5, (view, name)
            if kind in ("SMALLINT", "FLOAT", "DOUBLE") or (kind in ("INTEGER", "BIGINT") and name not in ids):
                assert unit, (view, name, kind)


def test_the_page_is_made_from_the_code() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_markdown(), "write docs/schema.md again: `make pages`"


@pytest.mark.parametrize("keep", ["losses", "trials"])
def test_a_runs_views_have_the_columns_that_are_described(keep: str, tmp_path: Path) -> None:
    run = Synthetic(keep=keep, documents=1).write(tmp_path / "x")
    said = described()
    for view in set(VIEWS) - {"routes", *BESIDE, *({"trials"} if keep == "losses" else {"losses", "slack"})}:
        found = query([run], f"SELECT * FROM {view}")
        assert found.column_names == [name for name, *_ in said[view]], view


def test_branches_say_what_letters_stand_for(tmp_path: Path) -> None:
    run = Synthetic(documents=1).write(tmp_path / "x")
    rows = query([run], "SELECT letter, what, cost FROM branches ORDER BY cost").to_pylist()
    assert rows == [{"letter": "s", "what": "the small FFN", "cost": 0}, {"letter": "B", "what": "the big FFN", "cost": 1}]


def test_budgets_sort_by_what_they_admit(tmp_path: Path) -> None:
    run = Synthetic(budgets="4,atmost:3,any,0,atmost:2", documents=1, keep=None).write(tmp_path / "x")
    rows = query([run], "SELECT DISTINCT budget FROM paths ORDER BY budget_order(budget)")
    assert rows["budget"].to_pylist() == ["any", "atmost:2", "atmost:3", "0", "4"]


def test_the_command_line_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "--schema", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "view,column,type,unit,meaning"
    assert len(lines) == 1 + schema_table().num_rows
