"""What was measured beside a run's search, as the report has it: numbers of the tables, controls, and ladders of this run alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from selenium.webdriver.common.by import By

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results import Run
from duo_oracle.results.answers.effects import effects_of_run
from duo_oracle.results.answers.joint import joint_gap
from duo_oracle.results.ladder.rungs import Ladder, Rung, lines_of
from duo_oracle.results.ladder.table import as_table, line_of
from duo_oracle.results.report import write_report
from duo_oracle.results.report.beside_search import beside_search
from duo_oracle.results.report.ladders import read_ladder
from duo_oracle.results.store.beside import GrowingTable
from duo_oracle.results.store.columns import COLUMNS
from tests.results.report.browser import console, opened, said, show
from tests.results.report.test_report import parts_of
from tests.results.synthetic import Synthetic

MADE = Synthetic(documents=4, windows=1, length=9, budgets="0-4,any")


def grown(run: Run, table: str, values: dict[str, Any], seed: int = 0) -> None:
    """A row per token in the run's `table`: `values` where they are given, random numbers elsewhere."""
    rng, tokens = np.random.default_rng(seed), run.dataset("tokens").to_table(columns=["sequence", "position"])
    columns: dict[str, Any] = {name: tokens[name] for name in tokens.column_names}
    for column in COLUMNS[table]:
        drawn = rng.gamma(1.0, 0.1, tokens.num_rows) if pa.types.is_floating(column.type) else None
        value = values.get(column.name, drawn)
        columns.setdefault(column.name, pa.array([value] * tokens.num_rows) if np.isscalar(value) or value is None else value)
    file = GrowingTable(run, table, f"made-{seed}")
    file.add(columns)
    file.save()


def with_effects_and_joint(run: Run) -> Run:
    none = dict.fromkeys(("own_expected", "later_expected", "expected_1", "expected_2_4", "expected_5_16", "expected_17_64"))
    for layer in (0, 3):
        values = {"letter": layer, "layer": layer, "base": "ssss", "ahead": 2, "before": "s", "after": "B"}
        if layer == 3:  # the model's last: nothing reads what it writes
            values |= {"kl_later": 0.0, "later_effect": 0.0}
        grown(run, "effects", none | values, seed=layer)
    joint = {"budget": "any", "width": 0, "pattern": "ssBB", "cost": 2, "pattern_committed": "sssB", "cost_committed": 1}
    grown(run, "joint", {**joint, "expected": None, "expected_committed": None, "expected_full": None})
    return run


def ladder_of(run: Run) -> Ladder:
    """Rungs of known gains on the run's tokens."""
    rng, tokens = np.random.default_rng(3), run.tokens()
    full_N = rng.gamma(2.0, 1.5, len(tokens))
    gains = {"fixed": 0.02, "shuffled": 0.02, "probe": 0.1, "reference": 0.2, "excess": 0.25, "hindsight": 0.6}
    rungs = [
        Rung(f"the {kind}", kind, full_N - gain - rng.normal(0, 0.01, len(full_N)), np.full(len(full_N), 2.0))
        for kind, gain in gains.items()
    ]
    return Ladder("any", tokens["document"].to_numpy(), full_N, tuple(rungs))


def ladder_file(path: Path, run: Run, **other: Any) -> Path:
    rows = as_table(lines_of(ladder_of(run)), run.manifest.run_id).to_pylist()
    path.write_text(json.dumps([row | other for row in rows]))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return with_effects_and_joint(MADE.write(tmp_path_factory.mktemp("runs") / "run"))


def numbers(estimate: Any) -> list[float]:
    return pytest.approx([estimate.mean, estimate.low, estimate.high])


def test_effects_and_joint_routes_are_those_of_the_runs_tables(run: Run) -> None:
    effects, joint = beside_search(run)
    found, gap = effects_of_run(run, "ssss", 2), joint_gap(run, "any", 0).loss
    assert [row[0] for row in effects["rows"]] == ["0", "3", "all"]
    shares = [one.kl.share for one in (*found.layers, found.whole)]
    assert [row[effects["drawn"]] for row in effects["rows"]] == [numbers(share) for share in shares]
    assert effects["title"].endswith("from all-small")
    assert f"{shares[2].mean:.1%}" in effects["says"][0]
    assert "its share must be 0, and is 0.000" in effects["control"]
    assert joint["rows"][0][joint["drawn"]] == numbers(gap.gap)
    assert str(gap.gap) in joint["says"][0]
    assert "more selection bias" in joint["control"]
    for part in (effects, joint):
        assert {len(row) for row in part["rows"]} == {len(part["columns"])}


def test_a_ladder_has_its_sentence_and_its_controls(run: Run, tmp_path: Path) -> None:
    of, lines = read_ladder(ladder_file(tmp_path / "ladder.json", run), {run.manifest.run_id})
    assert of == run.manifest.run_id
    made = lines_of(ladder_of(run))
    for line, one in zip(lines, made, strict=True):
        assert (line.budget, line.name, line.kind, line.n_big) == (one.budget, one.name, one.kind, one.n_big)
        assert str(line.gain) == str(one.gain)
        assert str(line.over_fixed) == str(one.over_fixed)
    (part,) = beside_search(MADE.write(tmp_path / "bare"), [lines])
    assert [row[0] for row in part["rows"]] == [line.name for line in made]
    assert part["says"][0].startswith("Budget any: who knows what the reference knows gains 0.1")
    for words in ("so their gains hold no selection bias", "other tokens' is", "not selection bias"):
        assert words in part["control"]
    (bare,) = beside_search(run, [[line for line in lines if line.kind == "fixed"]])[:1]
    assert "no reference" in bare["says"][0]


def test_the_ladder_of_another_run_and_what_is_no_ladder_are_refused(run: Run, tmp_path: Path) -> None:
    mine = {run.manifest.run_id}
    other = ladder_file(tmp_path / "other.json", run, run_id="0123456789abcdef")
    with pytest.raises(InputError, match="is of run 0123456789abcdef, and the report of"):
        write_report([run], tmp_path / "page.html", ladders=[str(other)])
    for wrong, law in (
        ({"kind": "luck"}, "unknown kind"),
        ({"gain": "much"}, "could not convert"),
        ({"run_id": None}, "lacks run_id"),
    ):
        with pytest.raises(InputError, match=law):
            read_ladder(ladder_file(tmp_path / "wrong.json", run, **wrong), mine)
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(InputError, match="holds a dict"):
        read_ladder(tmp_path / "none.json", mine)


def test_a_line_without_an_interval_is_read_as_it_was_written() -> None:
    (line,) = lines_of(Ladder("2", np.array(["one"] * 5), np.ones(5), (Rung("a", "fixed", np.zeros(5), np.full(5, np.nan)),)))
    (row,) = as_table([line], "r").to_pylist()
    assert row["gain_low"] is None
    again = line_of(row)
    assert (str(again.gain), again.n_big, again.over_fixed) == (str(line.gain), None, None)


def test_a_page_shows_them_with_the_run_that_they_are_of(run: Run, tmp_path: Path) -> None:
    bare = replace(MADE, seed=1).write(tmp_path / "bare")
    ladder = ladder_file(tmp_path / "ladder.json", bare)
    write_report([run, bare], tmp_path / "page.html", ladders=[str(ladder)])
    pages = parts_of(tmp_path / "page.html")[0]["runs"]
    assert [[part["kind"] for part in page["beside"]] for page in pages] == [["effects", "joint"], ["ladder"]]


@pytest.mark.slow
def test_the_browser_shows_finding_control_and_table(run: Run, tmp_path: Path) -> None:
    bare = replace(MADE, seed=1).write(tmp_path / "bare")
    write_report([run, bare], tmp_path / "page.html", ladders=[str(ladder_file(tmp_path / "ladder.json", run))])
    with opened(tmp_path / "profile") as browser:
        show(browser, tmp_path / "page.html", width=400)
        places = browser.find_elements(By.CSS_SELECTOR, "#beside .beside")
        assert [place.get_attribute("data-kind") for place in places] == ["ladder", "effects", "joint"]
        gap = joint_gap(run, "any", 0).loss.gap
        for place in places:
            assert place.find_element(By.CSS_SELECTOR, ".finding").text
            assert place.find_element(By.CSS_SELECTOR, ".says").text.startswith("Control. ")
        assert f"{said(gap.mean)} [{said(gap.low)}, {said(gap.high)}]" in places[2].text
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
        browser.execute_script(
            "document.getElementById('run').value = 1; document.getElementById('run').dispatchEvent(new Event('change'))"
        )
        assert not browser.find_element(By.ID, "beside-section").is_displayed()
        assert console(browser) == []
