"""The ten lines of Python in the README are run as they stand there, in an empty folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.search(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
WORK = ("run_search", "summary", "difficulty", "query", "plot_curve", "tokens_html", "solve")


def lines() -> list[str]:
    assert BLOCK is not None, "the README holds a block of Python"
    return [line for line in BLOCK[1].splitlines() if line.strip()]


def test_they_are_ten_at_most_and_do_a_search_a_table_a_plot_and_a_coloured_text() -> None:
    assert len(lines()) <= 10
    assert all(f".{name}(" in "\n".join(lines()) for name in WORK)


@pytest.mark.slow
def test_they_do_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every line is run, and those that a notebook would show are looked at."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    shown = []
    assert BLOCK is not None
    for statement in ast.parse(BLOCK[1]).body:
        if isinstance(statement, ast.Expr):
            shown.append(eval(ast.unparse(statement), names))
        else:
            exec(ast.unparse(statement), names)
    run, (_, table, answer, curve, text, solved) = names["run"], shown
    assert "excess" in capsys.readouterr().out
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 10
    assert len(answer) == len(run.budgets)  # type: ignore[attr-defined]
    assert curve.read_bytes().startswith(b"<?xml")
    assert text.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert len(solved) == 2 * solved["position"].nunique()
