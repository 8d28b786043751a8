"""The report's data: packed columns say what the run's tables say, alternatives are the next best, nothing can end its element."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duo_oracle.results import Run
from duo_oracle.results.report import write_report
from duo_oracle.results.report.alternatives import ALTERNATIVES, read_beside
from duo_oracle.results.report.packing import Blocks, as_script_json
from duo_oracle.results.report.positions import read_run
from duo_oracle.results.report.run_data import STEP
from duo_oracle.results.report.strategies import read_strategies
from duo_oracle.results.store.writer import RunWriter
from duo_oracle.search.cli import main
from tests.results.synthetic import Synthetic

DTYPES = {"f4": "<f4", "u1": "<u1", "u2": "<u2", "u4": "<u4", "i4": "<i4"}
STRATEGIES = [
    {"budget": "2", "strategy": "greedy", "patterns": 6, "evaluations": 3.5, "regret": 0.01, "regret_low": 0.0, "regret_high": 0.02}
]


def parts_of(file: Path) -> tuple[dict[str, Any], dict[int, str]]:
    """The JSON and the blocks of a page, read as a browser does: an element ends at the first `</script`."""
    text = file.read_text(encoding="utf-8")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script', text, re.S)
    assert data
    blocks = re.findall(r'<script type="text/plain" id="block-(\d+)">(.*?)</script', text, re.S)
    return json.loads(data[1]), {int(number): block for number, block in blocks}


def column(spec: dict[str, Any], blocks: dict[int, str]) -> np.ndarray:
    if "block" not in spec:
        return np.full(spec["length"], np.nan if spec["constant"] is None else spec["constant"])
    return np.frombuffer(base64.b64decode(blocks[spec["block"]]), dtype=DTYPES[spec["kind"]])


def routes_file(path: Path, run: Run, patterns: list[str]) -> Path:
    """Patterns in turn along the run's tokens."""
    rows = run.tokens().sort_values(["sequence", "position"])
    chosen = [patterns[i % len(patterns)] for i in range(len(rows))]
    pq.write_table(pa.table({"sequence": rows["sequence"], "position": rows["position"], "pattern": chosen}), path)
    return path


@pytest.mark.parametrize("context", ["full", "committed"])
@pytest.mark.parametrize("texts", [True, False])
def test_a_page_holds_every_number_of_the_paths_table(tmp_path: Path, context: str, texts: bool) -> None:
    run = Synthetic(documents=3, context=context, budgets="0,2,any,atmost:2", texts=texts).write(tmp_path / "run")
    write_report([run], tmp_path / "page.html")
    data, blocks = parts_of(tmp_path / "page.html")
    (page,) = data["runs"]
    tokens = run.tokens().sort_values(["sequence", "position"])
    paths = run.sql("SELECT * FROM oracle")
    assert [budget["name"] for budget in page["budgets"]] == list(run.budgets)
    for k, budget in enumerate(run.budgets):
        mine = paths[paths["budget"] == budget].sort_values(["sequence", "position"])
        for name in ("loss", "loss_cheapest", "loss_full", "null_gain", "evaluations", "certified"):
            assert np.array_equal(column(page["columns"][f"{name}.{k}"], blocks), mine[name].to_numpy()), (name, budget)
        classes = run.sql(f"SELECT class FROM measures WHERE budget = '{budget}' ORDER BY sequence, position")["class"]
        assert [page["classes"][int(code)] for code in column(page["columns"][f"class.{k}"], blocks)] == classes.tolist()
        codes = column(page["columns"][f"pattern.{k}"], blocks)
        assert [page["patterns"][int(code)] for code in codes] == mine["pattern"].tolist()
    pieces = [page["pieces"][int(code)] for code in column(page["columns"]["piece"], blocks)]
    for sequence, document, start, length, first in page["passages"]:
        rows = tokens[tokens["sequence"] == sequence]
        offset = start + page["passages"].index([sequence, document, start, length, first])
        said = rows["token"].tolist() if texts else [f" {i}" for i in rows["token_id"]]
        assert pieces[offset : offset + length] == said
        assert pieces[offset + length] == (rows["target"].iloc[-1] if texts else f" {rows['target_id'].iloc[-1]}")
        assert page["documents"][document] == rows["document"].iloc[0]


@pytest.mark.parametrize("context", ["full", "committed"])
def test_alternatives_are_the_next_best_patterns_of_the_budget(tmp_path: Path, context: str) -> None:
    made = Synthetic(documents=3, context=context, budgets="0,2,any")
    positions = read_run(made.write(tmp_path / "run"))
    found = read_beside(positions).alternatives
    names = ["".join(".sB"[b] for b in row) for row in made.branches_PL]
    for passage in positions.passages:
        loss_NP = made.loss_NP(passage.sequence)
        for k, n_big in enumerate((0, 2, None)):
            allowed = [p for p, name in enumerate(names) if n_big is None or name.count("B") == n_big]
            for i in range(passage.length):
                ranked = sorted(allowed, key=lambda p, i=i: loss_NP[i, p])
                wanted = ranked[1 : 1 + ALTERNATIVES]
                row = passage.start + i
                assert found[k].pattern_NA[row].tolist() == [names[p] for p in wanted] + [""] * (ALTERNATIVES - len(wanted))
                above = [loss_NP[i, p] - loss_NP[i, ranked[0]] for p in wanted]
                assert np.allclose(found[k].above_NA[row, : len(wanted)], above, atol=1e-6)
                assert np.isnan(found[k].above_NA[row, len(wanted) :]).all()


def test_alternatives_are_packed_to_a_step(tmp_path: Path) -> None:
    run = Synthetic(budgets="2").write(tmp_path / "run")
    write_report([run], tmp_path / "page.html")
    data, blocks = parts_of(tmp_path / "page.html")
    packed = column(data["runs"][0]["columns"]["above.0"], blocks) * STEP
    exact = read_beside(read_run(run)).alternatives[0].above_NA.ravel()
    assert np.abs(packed - exact).max() <= STEP / 2 + 1e-9


def test_a_routers_loss_is_that_of_its_patterns(tmp_path: Path) -> None:
    made = Synthetic()
    run = made.write(tmp_path / "run")
    routes = routes_file(tmp_path / "routes.parquet", run, ["BssB", "ssss", "BBBB"])
    write_report([run], tmp_path / "page.html", routes={"mine": str(routes)})
    data, blocks = parts_of(tmp_path / "page.html")
    (page,) = data["runs"]
    patterns = ["".join(".sB"[b] for b in row) for row in made.branches_PL]
    every = np.concatenate([made.loss_NP(sequence) for sequence in range(made.documents * made.windows)])
    wanted = [every[i, patterns.index(["BssB", "ssss", "BBBB"][i % 3])] for i in range(len(every))]
    assert np.array_equal(column(page["columns"]["routed.0"], blocks), np.array(wanted, dtype=np.float32))
    (router,) = page["routers"]
    assert router["name"] == "mine"
    assert router["loss"][0] == pytest.approx(np.mean(wanted), abs=1e-5)
    assert router["big"][0] == pytest.approx(np.mean([(2, 0, 4)[i % 3] for i in range(len(every))]))
    assert router["distinct"] == 3


def test_routers_of_a_committed_run_have_choices_and_no_loss(tmp_path: Path) -> None:
    run = Synthetic(documents=2, context="committed", budgets="2,any").write(tmp_path / "run")
    routes = routes_file(tmp_path / "routes.parquet", run, ["BssB"])
    write_report([run], tmp_path / "page.html", routes={"mine": str(routes)})
    page = parts_of(tmp_path / "page.html")[0]["runs"][0]
    assert page["routers"][0]["loss"] is None
    assert "routed.0" not in page["columns"]


def test_routes_go_to_the_runs_whose_positions_they_route(tmp_path: Path) -> None:
    long, short = (
        Synthetic(documents=2, length=9).write(tmp_path / "long"),
        Synthetic(documents=2, length=5).write(tmp_path / "short"),
    )
    routes = routes_file(tmp_path / "routes.parquet", short, ["BssB"])
    write_report([long, short], tmp_path / "page.html", routes={"mine": str(routes)})
    pages = parts_of(tmp_path / "page.html")[0]["runs"]
    assert [len(page["routers"]) for page in pages] == [0, 1]
    same = Synthetic(documents=2, length=9, seed=1).write(tmp_path / "same")
    whole = routes_file(tmp_path / "both.parquet", long, ["BssB"])
    write_report([long, same], tmp_path / "page.html", routes={"mine": str(whole)})  # equal data, so it is of both
    with pytest.raises(ValueError, match="sequence"):
        write_report([long], tmp_path / "page.html", routes={"mine": str(routes)})


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    run = Synthetic().write(tmp_path / "run")
    size = write_report([run], tmp_path / "one.html")
    write_report([run], tmp_path / "two.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert size == (tmp_path / "one.html").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "run", "two.html"]


def test_json_in_a_script_ends_and_opens_nothing() -> None:
    hostile = {
        "</script><!--<script>": ["]]>&lt;", "\u2028\u2029", "\ud800", "\x00\x1b", float("nan"), float("inf"), np.float32(0.5)]
    }
    text = as_script_json(hostile)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"</script><!--<script>": ["]]>&lt;", "\u2028\u2029", "\ud800", "\x00\x1b", None, None, 0.5]}


def test_a_block_refuses_what_it_cannot_hold() -> None:
    blocks = Blocks()
    assert blocks.add(np.array([3, 3, 3]), "u1") == {"constant": 3, "length": 3}
    assert blocks.add(np.array([np.nan, np.nan]), "f4") == {"constant": None, "length": 2}
    assert blocks.texts == []
    assert blocks.add_codes(np.arange(254), 254)["kind"] == "u1"
    assert blocks.add_codes(np.arange(300), 300)["kind"] == "u2"
    assert blocks.add_codes(np.arange(70_000), 70_000)["kind"] == "u4"
    with pytest.raises(ValueError, match="300"):
        blocks.add(np.array([1, 300]), "u1")


def test_a_run_without_losses_or_labels_says_so(tmp_path: Path) -> None:
    run = Synthetic(keep=None, nulls=False, documents=1).write(tmp_path / "run")
    write_report([run], tmp_path / "page.html")
    page = parts_of(tmp_path / "page.html")[0]["runs"][0]
    assert "drew no labels" in page["how"][1]
    assert any("One document" in text for text in page["warnings"])
    assert any("No losses were kept" in text for text in page["warnings"])
    assert page["lines"][0]["certified"] == 1
    assert page["lines"][0]["excess"] is None
    assert page["lines"][0]["mean"] is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "is not JSON"),
        ("{}", "holds a dict"),
        ("[]", "an empty list"),
        ('[{"strategy": "greedy", "budget": "2"}]', "row 0 lacks regret"),
        ('[{"strategy": "greedy", "budget": "2", "regret": 0.1}, 3]', "row 1 lacks strategy"),
        ('[{"strategy": "greedy", "budget": "2", "regret": 0.1, "more": [1]}]', "more is neither"),
    ],
)
def test_a_file_that_is_no_table_of_strategies_is_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "strategies.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=said):
        read_strategies(file, {"mine"})


def test_the_command_writes_a_page_and_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Synthetic().write(tmp_path / "run")
    (tmp_path / "strategies.json").write_text(json.dumps(STRATEGIES))
    routes = routes_file(tmp_path / "mine.parquet", run, ["BssB"])
    for spelled, name in ((str(routes), "mine"), (f"yours={routes}", "yours")):
        assert main(["report", str(run.path), "--out", str(tmp_path / "routed.html"), "--routes", spelled]) == 0
        assert parts_of(tmp_path / "routed.html")[0]["runs"][0]["routers"][0]["name"] == name
    capsys.readouterr()
    out = tmp_path / "deep" / "page.html"
    assert (
        main(["report", str(run.path), "--out", str(out), "--strategies", str(tmp_path / "strategies.json"), "--title", "Mine"])
        == 0
    )
    assert "72 tokens of 1 run" in capsys.readouterr().out
    assert parts_of(out)[0]["title"] == "Mine"
    with RunWriter.open(tmp_path / "empty", Synthetic(seed=9).identity, {}):
        pass
    for arguments in (
        [str(run.path), "--out", "page.pdf"],
        ["--out", str(out)],
        [str(tmp_path / "none"), "--out", str(out)],
        [str(tmp_path / "empty"), "--out", str(out)],
        [str(run.path), "--out", str(out), "--routes", f"mine={tmp_path / 'none.parquet'}"],
        [str(run.path), "--out", str(out), "--strategies", str(tmp_path / "none.json")],
        [str(run.path), "--out", str(out), *(["--routes", str(routes)] * 2)],
    ):
        assert main(["report", *arguments]) == 2, arguments
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_table_of_strategies_is_shown_with_its_own_run_alone(tmp_path: Path) -> None:
    run = Synthetic().write(tmp_path / "run")
    for name, run_id in (("own", run.manifest.run_id), ("other", "0123456789abcdef")):
        (tmp_path / f"{name}.json").write_text(json.dumps([{**row, "run_id": run_id} for row in STRATEGIES]))
    write_report([run], tmp_path / "page.html", strategies=[str(tmp_path / "own.json")])
    with pytest.raises(ValueError, match="is of run '0123456789abcdef', and the report of"):
        write_report([run], tmp_path / "page.html", strategies=[str(tmp_path / "other.json")])
