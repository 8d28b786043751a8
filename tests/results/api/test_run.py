"""What a notebook asks of a run: tables as pandas, figures that show themselves, coloured text, a page."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.shown import Html, Text, card
from duo_oracle.results import Run, load, query
from duo_oracle.results.answers.curve import budget_lines
from duo_oracle.results.answers.difficulty import hardest
from duo_oracle.results.answers.picture import coloured_tokens
from duo_oracle.results.answers.summary import summarise
from tests.results.synthetic import WORDS, Synthetic

WORK = Synthetic(budgets="0-4")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return WORK.write(tmp_path_factory.mktemp("door") / "first")


def test_the_summary_is_the_command_s_and_prints_its_lines(run: Run) -> None:
    summary = run.summary()
    assert str(summary) == summarise(run)
    assert repr(summary) == str(summary)
    assert html.unescape(re.sub("<[^>]*>", "", summary._repr_html_())) == str(summary)


def test_the_curve_has_a_row_per_budget_with_the_figures_of_the_markdown(run: Run) -> None:
    frame, lines = run.curve(), budget_lines(run)
    assert list(frame["budget"]) == ["0", "1", "2", "3", "4"]
    for row, line in zip(frame.itertuples(), lines, strict=True):
        assert (row.oracle, row.oracle_low, row.oracle_high) == (line.oracle.mean, line.oracle.low, line.oracle.high)
        assert row.loss_full - row.oracle == pytest.approx(row.gain)
        assert row.gain - row.null_gain == pytest.approx(row.excess)
        assert row.tokens == run.n_tokens


def test_what_a_run_does_not_have_is_null_in_the_curve(tmp_path: Path) -> None:
    frame = Synthetic(keep=None, nulls=False, budgets="1,2").write(tmp_path / "x").curve()
    assert frame[["best_fixed", "mean_random", "excess_low"]].isna().all().all()
    assert frame["oracle"].notna().all()


def test_difficulty_is_a_table_of_the_hardest_tokens(run: Run) -> None:
    frame = run.difficulty(5, by="gain", budget="2")
    shown = hardest(run, 5, "gain", "2")
    assert list(frame["value"]) == [token.value for token in shown]
    assert list(frame["target"]) == [token.target for token in shown]
    assert frame["value"].is_monotonic_decreasing


def test_a_query_is_asked_of_a_run_of_its_path_and_of_several(run: Run, tmp_path: Path) -> None:
    sql = "SELECT count(*) AS n FROM paths"
    assert run.query(sql).equals(query(run, sql))
    assert run.sql(sql).equals(query(run.path, sql))
    other = Synthetic(budgets="0-4", seed=1).write(tmp_path / "second")
    by_run = query([run, other.path], "SELECT run, count(*) AS n FROM paths GROUP BY run ORDER BY run")
    assert list(by_run["run"]) == ["first", "second"]
    with pytest.raises(InputError, match="SELECT"):
        run.query("DROP VIEW paths")


def test_figures_show_themselves_and_are_saved_alike_twice(run: Run, tmp_path: Path) -> None:
    for figure in (run.plot_curve(), run.plot_difficulty(budget="2"), run.plot_pareto()):
        assert figure._repr_png_().startswith(b"\x89PNG")
        first, second = figure.save(tmp_path / "a.svg").read_bytes(), figure.save(tmp_path / "b.svg").read_bytes()
        assert first == second
        with pytest.raises(InputError, match=r"\.svg, \.png or \.pdf"):
            figure.save(tmp_path / "c.gif")


def test_drawing_leaves_matplotlib_as_it_was(run: Run) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    run.plot_difficulty(budget="2")._repr_png_()
    assert dict(mpl.rcParams) == before


def test_coloured_text_is_the_text_and_the_deeper_colour_is_the_greater_value(run: Run) -> None:
    body = run.tokens_html(0, budget="2")._repr_html_()
    spans = re.findall(
        r"<span( style=\"background: #(\w{6})[^>]*title=\"difficulty ([\d.-]+) nats\")?>(.*?)</span>", body, re.DOTALL
    )
    text = "".join(html.unescape(span[3]) for span in spans).replace("\u23ce\n", "\n").replace("\u2192", "\t")
    assert text == "".join(WORDS[i] for i in WORK.token_ids(0))
    assert spans[0][0] == ""  # nothing predicted the first token
    values = [token.value for token in coloured_tokens(run, 0, "2", "difficulty")][1:]
    assert [float(span[2]) for span in spans[1:]] == pytest.approx(values, abs=6e-4)
    # Reds lose green as they deepen
    green = [int(span[1][2:4], 16) for span in spans[1:]]
    assert min(values) >= 0
    assert np.all(np.diff(np.array(green)[np.argsort(values)]) <= 0)


HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m&\"'"


def test_hostile_texts_reach_no_page_as_anything_but_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.results.synthetic.WORDS", [HOSTILE] * len(WORDS))
    run = Synthetic().write(tmp_path / "<b>run</b>")
    coloured = run.tokens_html(0)
    saved = coloured.save(tmp_path / "text.html").read_text(encoding="utf-8")
    for page in (coloured._repr_html_(), saved, run._repr_html_()):
        assert "<script>" not in page
        assert "<b>run</b>" not in page
        assert "\u202e" not in page
        assert "\x1b" not in page
    assert "&lt;script&gt;" in coloured._repr_html_()
    assert "default-src 'none'" in saved
    assert "<script>" not in Text(HOSTILE)._repr_html_()
    assert "<script>" not in card(HOSTILE, [(HOSTILE, HOSTILE)], [[HOSTILE], [HOSTILE]])


def test_a_saved_page_is_whole_and_titled(tmp_path: Path) -> None:
    path = Html("a < b", "<p>x</p>").save(tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "<title>a &lt; b</title>" in text


def test_a_run_shows_what_it_is(run: Run) -> None:
    assert repr(run).startswith(f"<Run {str(run.path)!r}: ")
    assert f"{run.n_tokens:,} tokens" in repr(run)
    shown = run._repr_html_()
    assert shown.count("<tr>") == 1 + len(run.budgets)
    assert f"{run.n_tokens:,} tokens" in shown


def test_a_report_is_written_beside_the_run(run: Run, tmp_path: Path) -> None:
    path = run.report(tmp_path / "report.html", title="of the door")
    assert "of the door" in path.read_text(encoding="utf-8")


def test_tables_are_pandas_frames(run: Run) -> None:
    assert all(isinstance(frame, pd.DataFrame) for frame in (run.tokens(), run.paths(), run.losses(), run.curve()))
    assert load(run.path).paths().equals(run.paths())
