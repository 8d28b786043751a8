"""The tutorial is run: its cells of code, in order, in an empty folder. (test_docs.py holds its page to it.)"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pandas as pd
import pytest

NOTEBOOK = json.loads((Path(__file__).resolve().parents[1] / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


@pytest.mark.long
def test_every_cell_runs_and_shows_what_its_text_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    shown = []
    for cell in CODE:
        *statements, last = ast.parse(cell).body
        exec(ast.unparse(ast.Module(statements, [])), names)
        if isinstance(last, ast.Expr):  # what a notebook shows below the cell
            shown.append(eval(ast.unparse(last), names))
        else:
            exec(ast.unparse(last), names)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("null gain", "excess", "duo-tiny/budget-4", "random:4"))
    curve, picture, hardest, text, answer, solved = (thing for thing in shown if thing is not None)  # print shows nothing
    assert list(curve["budget"]) == [str(budget) for budget in range(13)]
    assert picture.save("curve.svg").read_bytes().startswith(b"<?xml")
    assert len(hardest) == 10
    assert text.save("text.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert isinstance(answer, pd.DataFrame)
    assert len(answer) == 5
    assert len(solved) == 2 * solved["position"].nunique()


def test_the_notebook_is_kept_without_answers() -> None:
    """What a cell answers is the reader's run, not one of another version."""
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code")
