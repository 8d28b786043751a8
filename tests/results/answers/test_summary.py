"""What a search prints, the budget curve, and the tokens in their sentences."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from duo_oracle.results import load
from duo_oracle.results.answers.curve import budget_lines, draw_curve, markdown
from duo_oracle.results.answers.difficulty import hardest, table
from duo_oracle.results.answers.summary import summarise
from duo_oracle.results.statistics.baselines import fixed_patterns_of_run
from duo_oracle.results.store.writer import RunWriter
from tests.results.synthetic import WORDS, Synthetic


def test_lines_are_the_means_of_paths(tmp_path: Path) -> None:
    run = Synthetic(budgets="any,1,atmost:2").write(tmp_path / "x")
    frame = run.paths().astype({"loss": float, "loss_full": float, "excess": float})
    lines = budget_lines(run)
    assert [line.budget for line in lines] == ["any", "1", "atmost:2"]
    for line, kind in zip(lines, ["any", "exact", "atmost"], strict=True):
        rows = frame[frame["budget_kind"] == kind]
        assert line.oracle.mean == pytest.approx(rows["loss"].mean())
        assert line.gain.mean == pytest.approx((rows["loss_full"] - rows["loss"]).mean())
        assert line.excess is not None
        assert line.null_gain is not None
        assert line.excess.mean == pytest.approx(rows["excess"].mean())
        assert line.excess.mean == pytest.approx(line.gain.mean - line.null_gain.mean, abs=1e-6)
        assert line.excess.low < line.excess.mean < line.excess.high
        assert line.n_big.mean == pytest.approx(rows["n_big"].mean())
        assert (line.certified.mean, line.leaves.mean) == (1.0, 5.0)
        assert (line.oracle.n_tokens, line.oracle.n_documents) == (72, 6)
        assert line.fixed == fixed_patterns_of_run(run)[line.budget]


def test_the_oracle_is_never_above_the_fixed_pattern_or_all_big_of_its_budget(tmp_path: Path) -> None:
    for line in budget_lines(Synthetic().write(tmp_path / "x")):
        assert line.fixed is not None
        assert line.oracle.mean <= line.fixed.best_in_sample.mean + 1e-9


def test_a_summary_names_all_that_a_number_depends_on(tmp_path: Path) -> None:
    run = Synthetic(context="committed", budgets="any").write(tmp_path / "x")
    (line,) = budget_lines(run)
    text = summarise(run)
    assert "72 tokens · 6 documents · data synthetic · model toy" in text
    assert "exhaustive over sB · skip ffn · budget any · context committed (each earlier token ran its own chosen pattern)" in text
    assert line.fixed is not None
    shown = {
        "oracle": line.oracle,
        "all-big": line.all_big,
        "all-small": line.all_small,
        "mean random pattern": line.fixed.mean,
        "best fixed pattern, chosen on other documents": line.fixed.best,
        "best fixed pattern in-sample": line.fixed.best_in_sample,
        "null gain": line.null_gain,
        "oracle's gain over all-big": line.gain,
        "excess": line.excess,
    }
    for name, estimate in shown.items():
        assert re.search(rf"^{re.escape(name)}.*{re.escape(str(estimate))}", text, re.MULTILINE), name
    assert f"{np.exp(line.oracle.mean):.2f}" in text
    assert "certified best: 100.0% of tokens" in text
    assert "vocabulary heads computed per token: 5.0" in text
    assert text.endswith(f"run: {run.path}\n")
    assert "warning" not in text


def test_a_summary_of_many_budgets_has_a_line_for_each(tmp_path: Path) -> None:
    run = Synthetic().write(tmp_path / "x")
    text = summarise(run)
    for line in budget_lines(run):
        controlled = rf"{line.excess.mean:.3f} +{line.control.mean:.3f} +{re.escape(str(line.beyond))}"
        assert re.search(rf"^ *{line.budget}  +{line.oracle.mean:.3f} .*{controlled}$", text, re.MULTILINE)


def test_what_was_not_kept_or_drawn_is_said(tmp_path: Path) -> None:
    text = summarise(Synthetic(keep=None, nulls=False).write(tmp_path / "x"))
    assert "with `keep='losses'`" in text
    assert "search with `null_draws=4`" in text


@pytest.mark.parametrize(("documents", "said"), [(1, "warning: one document"), (3, "warning: 3 documents only")])
def test_few_documents_are_warned_of(tmp_path: Path, documents: int, said: str) -> None:
    assert said in summarise(Synthetic(documents=documents, budgets="any").write(tmp_path / "x"))


def test_failed_units_are_in_the_summary(tmp_path: Path) -> None:
    work = Synthetic(documents=2)
    with RunWriter.open(tmp_path / "x", work.identity) as run:
        run.add_unit(work.write_unit(tmp_path / "x", run.run_id, 0))
        run.add_failure(1, "ValueError: no such state")
        run.finish()
    assert "warning: unit 1 failed and is not in these numbers: ValueError: no such state" in summarise(load(tmp_path / "x"))


def test_a_run_that_goes_on_says_so(tmp_path: Path) -> None:
    work = Synthetic(documents=2)
    with RunWriter.open(tmp_path / "x", work.identity) as run:
        run.add_unit(work.write_unit(tmp_path / "x", run.run_id, 0))
        assert "warning: the run is not finished" in summarise(load(tmp_path / "x"))


def test_a_run_without_a_unit_has_no_summary(tmp_path: Path) -> None:
    RunWriter.open(tmp_path / "x", Synthetic().identity).close()
    with pytest.raises(ValueError, match="no finished unit yet"):
        summarise(load(tmp_path / "x"))


def test_the_curve_has_a_table_per_context_and_a_row_per_budget(tmp_path: Path) -> None:
    runs = [Synthetic().write(tmp_path / "big")]
    runs += [Synthetic(context="committed", budgets=k).write(tmp_path / k) for k in ("1", "4")]
    text = markdown(runs)
    big, committed = text.split("Context `committed`")
    assert len(re.findall(r"^\| \d", big, re.MULTILINE)) == 5
    assert re.findall(r"^\| (\d)", committed, re.MULTILINE) == ["1", "4"]
    first = budget_lines(runs[0])[0]
    assert f"| 0 | {first.oracle} |" in big
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_the_drawn_curve_names_its_lines_and_is_the_same_twice(tmp_path: Path) -> None:
    runs = [Synthetic().write(tmp_path / "big"), Synthetic(context="committed", budgets="0-2").write(tmp_path / "committed")]
    for name in ("a.svg", "b.svg"):
        draw_curve(runs).save(tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert all(said in text for said in ("oracle", "what selection bias alone would show", "context full", "context committed"))
    assert all(said in text for said in ("excess where nothing is chosen", "nats per token", "tokens of 6 documents"))
    with pytest.raises(ValueError, match="two exact budgets"):
        draw_curve([Synthetic(context="committed", budgets="any").write(tmp_path / "any")])
    with pytest.raises(ValueError, match=r"written as \.svg"):
        draw_curve(runs).save(tmp_path / "c.gif")


def test_no_line_is_drawn_over_budgets_that_were_not_searched(tmp_path: Path) -> None:
    run_lines = {}
    for budgets in ("0-3", "0,1,3"):
        drawn = draw_curve([Synthetic(budgets=budgets).write(tmp_path / budgets)])
        above = drawn.axes[0]
        run_lines[budgets] = {line.get_label(): line.get_xdata() for line in above.get_lines()}
    assert not np.isnan(run_lines["0-3"]["oracle"]).any()
    np.testing.assert_array_equal(run_lines["0,1,3"]["oracle"], [0, 1, np.nan, 3])


def test_runs_on_other_data_are_not_put_into_one_curve(tmp_path: Path) -> None:
    runs = [Synthetic().write(tmp_path / "a"), Synthetic(documents=2).write(tmp_path / "b")]
    with pytest.raises(ValueError, match="the same data_fingerprint"):
        markdown(runs)


def test_hardest_tokens_are_the_greatest_in_order(tmp_path: Path) -> None:
    run = Synthetic(length=20).write(tmp_path / "x")
    frame = (
        run.paths()
        .merge(run.tokens(), on=["sequence", "position"])
        .astype(dict.fromkeys(("loss", "loss_cheapest", "loss_full"), float))
    )
    frame = frame[frame["budget"] == "2"]
    values = {
        "difficulty": frame["loss_cheapest"] - frame["loss"],
        "gain": frame["loss_full"] - frame["loss"],
        "compute": frame["loss_cheapest"] - frame["loss_full"],
        **{name: frame[name].astype(float) for name in ("excess", "loss", "loss_cheapest", "loss_full")},
    }
    for measure, of_rows in values.items():
        shown = hardest(run, 5, measure, "2")
        assert [token.value for token in shown] == pytest.approx(of_rows.nlargest(5).tolist(), abs=1e-6)
    first = hardest(run, 1, "difficulty", "2")[0]
    row = frame.loc[values["difficulty"].idxmax()]
    assert (first.sequence, first.position, first.pattern, first.document) == (
        row["sequence"],
        row["position"],
        row["pattern"],
        row["document"],
    )


def test_the_target_stands_in_its_sentence(tmp_path: Path) -> None:
    work = Synthetic(length=20)
    for token in hardest(work.write(tmp_path / "x"), 30, before=3, after=2):
        ids, at = work.token_ids(token.sequence), token.position + 1
        texts = [WORDS[i].replace("\n", "\\n").replace("\t", "\\t") for i in ids]
        assert token.target == texts[at]
        assert token.before == "".join(texts[max(0, at - 3) : at])
        assert token.after == "".join(texts[at + 1 : at + 3])


def test_the_table_is_a_heading_and_a_line_for_each_token(tmp_path: Path) -> None:
    run = Synthetic(budgets="any").write(tmp_path / "x")
    lines = table(run, 4).splitlines()
    assert len(lines) == 2 + 4
    assert "budget any, context full" in lines[0]
    for line, token in zip(lines[2:], hardest(run, 4), strict=True):
        assert line.endswith(f"{token.before}[{token.target}]{token.after}".rstrip())
        assert token.pattern in line


def test_without_a_tokenizer_tokens_are_their_ids(tmp_path: Path) -> None:
    work = Synthetic(texts=False)
    token = hardest(work.write(tmp_path / "x"), 1)[0]
    assert token.target == f" {work.token_ids(token.sequence)[token.position + 1]}"


def test_questions_without_an_answer_are_errors(tmp_path: Path) -> None:
    run = Synthetic(nulls=False).write(tmp_path / "x")
    for arguments, law in {
        (5, "dificulty"): "unknown measure 'dificulty'; did you mean 'difficulty'\\? available: difficulty, gain",
        (0, "difficulty"): "`top` must be at least 1; got 0",
        (5, "excess"): "search with `null_draws=4`",
        (5, "difficulty", "7"): "not searched under budget '7'",
    }.items():
        with pytest.raises(ValueError, match=law):
            hardest(run, *arguments)
