"""Every command that reads runs, over one of a table of experts: right, or refused in one line that names the table."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import duo_oracle
from duo_oracle.models.plain_losses import window_losses
from duo_oracle.results import load
from duo_oracle.results.sql import query, questions
from duo_oracle.search.cli import main
from duo_oracle.search.rerun.opened import open_run
from tests.models.hf.tiny import save_tiny
from tests.results.report.browser import choose_budget, console, opened, show

TABLE = "top:1,2,4"
RIGHT = (
    "curve RUN --plot OUT.svg",
    "pareto RUN",
    "controls RUN",
    "controls RUN --replica RUN",
    "controls RUN --calibration",
    "difficulty RUN",
    "difficulty RUN --within-surprise",
    "difficulty RUN --group token-type",
    "runs show RUN",
    "verify RUN",
    "compare RUN --router own",
    "strategies RUN --budget 4 --strategy greedy --strategy beam",
)
REFUSED = (
    "joint RUN",
    "ladder RUN",
    "compare RUN --router random:2",
)
pytestmark = pytest.mark.slow
OF_LETTERS = ("landscape", "layer_by_position", "layer_effect", "layer_use")


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over experts of three layers of a tiny Mixtral, every pattern's loss kept."""
    folder = tmp_path_factory.mktemp("experts")
    (folder / "model").mkdir()
    save_tiny("Mixtral", folder / "model")
    tokens = np.random.default_rng(0).integers(3, 60, (3, 8)).tolist()
    pd.DataFrame({"document": ["a", "b", "c"], "tokens": tokens}).to_parquet(folder / "tokens.parquet")
    argv = [
        "search",
        str(folder / "model"),
        str(folder / "tokens.parquet"),
        "--branches",
        TABLE,
        "--route-layers",
        "0-2",
        "--local",
    ]
    argv += ["--context", "full", "--budget", "any,own,3-5,atmost:4", "--keep", "losses", "--null-draws", "3"]
    assert main([*argv, "--out", str(folder / "run")]) == 0
    return folder / "run"


def said(words: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    places = {"RUN": run, "OUT": tmp_path / "out.html", "OUT.svg": tmp_path / "out.svg"}
    status = main([str(places.get(word, word)) for word in words.split()])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("words", RIGHT)
def test_what_reads_costs_and_losses_reads_a_table_of_experts(words: str, mixture: Path, tmp_path: Path, capsys) -> None:
    status, out, err = said(words, mixture, tmp_path, capsys)
    assert status == 0, err
    assert out.strip()
    for text in (out, *(file.read_text() for file in tmp_path.glob("*.svg"))):
        assert not re.search(r"\bbig\b", text), text


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_of_small_and_big_refuses_a_table_of_experts_in_a_line(words: str, mixture: Path, tmp_path: Path, capsys) -> None:
    status, out, err = said(words, mixture, tmp_path, capsys)
    assert (status, out) == (2, "")
    assert "branches . s B" in err
    assert TABLE in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("base", ["full", "142"])
def test_what_a_letter_does_to_later_tokens_is_what_plain_passes_say(base: str, mixture: Path, tmp_path: Path, capsys) -> None:
    status, _, err = said(f"effects RUN --base {base} --ahead 2 --plot OUT.svg", mixture, tmp_path, capsys)
    assert status == 0, err
    opened_run = open_run(load(mixture))
    table, windows = opened_run.run.table, {window.index: window for window in opened_run.sequences}
    written = "BBB" if base == "full" else base
    rows = query([mixture], f"SELECT * FROM effects WHERE base = '{written}'").to_pylist()
    n_others = 3 if base == "full" else 2
    assert len(rows) == sum(window.n_positions - 2 for window in windows.values()) * 3 * n_others
    for row in rows[::17]:
        window = windows[row["sequence"]]
        base_TL = np.tile(np.array(table.parse_branches(written), np.uint8), (window.n_positions, 1))
        flip_TL, place = base_TL.copy(), row["position"] - window.first_position
        assert row["before"] == written[row["letter"]] != row["after"]
        flip_TL[place, row["letter"]] = table.of_letter(row["after"])
        change_T = np.subtract(*(window_losses(opened_run.model, window, mask) for mask in (flip_TL, base_TL)))
        assert row["own_effect"] == pytest.approx(change_T[place], abs=1e-5)
        assert row["later_effect"] == pytest.approx(change_T[place + 1 :][:2].sum(), abs=2e-5)


def test_a_report_draws_experts_by_cost_and_speaks_of_no_big_layer(mixture: Path, tmp_path: Path, capsys) -> None:
    status, _, err = said("report RUN --out OUT", mixture, tmp_path, capsys)
    assert status == 0, err
    run = load(mixture)
    with opened(tmp_path / "profile") as browser:
        show(browser, tmp_path / "out.html")
        choose_budget(browser, run.budgets.index("any"))
        path = run.paths().query("budget == 'any'").iloc[0]["pattern"]
        cells = browser.find_elements("css selector", "#panel .path .cell")
        look = {"1": "cell small", "2": "cell small", "4": "cell big"}
        assert [(cell.text, cell.get_attribute("class")) for cell in cells] == [(letter, look[letter]) for letter in path]
        shares = [text.text for text in browser.find_elements("css selector", "[data-layer-share]")]
        paths = run.paths().query("budget == 'any'")["pattern"].astype(str)
        assert shares == [f"{100 * np.mean([int(pattern[layer]) for pattern in paths]) / 4:.0f}%" for layer in range(3)]
        text = browser.find_element("tag name", "body").text
        assert not re.search(r"\bbig\b|all-small", text, re.IGNORECASE), text
        assert "Gain over the full model" in text
        assert "active experts" in text
        assert console(browser) == []


def test_fixed_patterns_and_costs_are_those_of_the_kept_losses(mixture: Path, tmp_path: Path, capsys) -> None:
    losses = load(mixture).losses()
    assert losses["pattern"].nunique() == 27
    cost = losses["pattern"].astype(str).map(lambda pattern: sum(map(int, pattern)))
    assert (losses["cost"] == cost).all()
    mean = losses.assign(loss=losses["loss"].astype(float)).groupby(cost.to_numpy())["loss"].mean()
    _, out, _ = said("curve RUN --format json", mixture, tmp_path, capsys)
    lines = {line["budget"]: line for line in json.loads(out)}
    paths = load(mixture).paths()
    for budget in ("3", "4", "5"):
        assert lines[budget]["mean_random"] == pytest.approx(mean[int(budget)], abs=1e-5)
        assert lines[budget]["n_big"] == int(budget)
        of_budget = paths[paths["budget"] == budget]
        least = losses[losses["cost"] == int(budget)].groupby(["sequence", "position"])["loss"].min()
        assert np.allclose(of_budget.set_index(["sequence", "position"])["loss"].sort_index(), least.sort_index(), atol=1e-5)
    assert (paths["own_pattern"] == "222").all()
    assert (paths["own_cost"] == 6).all()
    own = paths[paths["budget"] == "6"].set_index(["sequence", "position"])["loss_full"]
    of_own = losses[losses["pattern"] == "222"].set_index(["sequence", "position"])["loss"]
    assert np.allclose(own.sort_index(), of_own.sort_index(), atol=1e-5)
    assert paths["n_big"].isna().all()
    assert paths["n_small"].isna().all()
    assert paths["n_skip"].isna().all()


def test_the_own_router_stands_among_the_kept_losses_of_its_cost(mixture: Path, tmp_path: Path, capsys) -> None:
    losses = load(mixture).losses()
    assert set(losses[losses["cost"] == 6]["pattern"]) == {"222", "114", "141", "411"}
    of_cost = losses[losses["cost"] == 6].astype({"pattern": str, "loss": float})
    table = of_cost.pivot(index=["sequence", "position"], columns="pattern", values="loss")
    own = table["222"]
    document = load(mixture).tokens().set_index(["sequence", "position"])["document"]
    others = {name: table[document.reindex(table.index) != name].mean().idxmin() for name in "abc"}
    fixed = np.array([table.loc[place, others[document[place]]] for place in table.index])
    wanted = {
        "loss of its own routing": own.mean(),
        "regret: own - best of equal cost": (own - table.min(axis=1)).mean(),
        "own - mean of equal cost": (own - table.mean(axis=1)).mean(),
        "percentile: share of equal cost that loses less": (table.lt(own, axis=0).sum(axis=1) + 0.5).mean() / 4,
        "best fixed of equal cost (other documents) - own": (fixed - own).mean(),
    }
    _, out, _ = said("compare RUN --router own --format json", mixture, tmp_path, capsys)
    rows = {row[""]: row for row in json.loads(out)["own"]}
    for name, value in wanted.items():
        assert rows[name]["real labels"]["mean"] == pytest.approx(value, abs=1e-5), name
    table = duo_oracle.compare(mixture, "own", model=str(mixture.parent / "model")).table()
    assert table["real labels"].tolist() == pytest.approx([mean_of(row["real labels"]) for row in rows.values()])
    gain = load(mixture).paths().query("budget == '6'")["null_gain"].mean()
    assert rows["regret: own - best of equal cost"]["drawn labels"]["mean"] == pytest.approx(gain, abs=0.3)  # of other draws
    status, _, err = said("compare RUN --router own --router random:2", mixture, tmp_path, capsys)
    assert (status, len(err.splitlines())) == (2, 1)


def mean_of(cell: object) -> float:
    return cell["mean"] if isinstance(cell, dict) else cell  # type: ignore[return-value]


@pytest.fixture(scope="module")
def own_experts(mixture: Path) -> np.ndarray:
    """What the mixture's own router takes at the run's positions, as `route` writes it."""
    argv = ["route", mixture.parent / "model", "own", mixture.parent / "tokens.parquet", "--route-layers", "0-2"]
    for name in ("own.npy", "own.parquet", "own.npz"):
        assert main([*map(str, argv), "--out", str(mixture.parent / name)]) == 0
    return np.load(mixture.parent / "own.npy", allow_pickle=False)


def test_experts_of_a_file_are_compared_as_the_router_that_took_them(
    mixture: Path, own_experts: np.ndarray, tmp_path: Path, capsys
) -> None:
    assert (own_experts.dtype, own_experts.shape) == (np.int16, (load(mixture).n_tokens, 3, 2))
    scores = np.load(mixture.parent / "own.npz")["scores"]
    assert np.allclose(scores.sum(axis=2), 1, atol=1e-6)  # Mixtral shares a set's weights out
    shuffled = pd.read_parquet(mixture.parent / "own.parquet").sample(frac=1, random_state=0)
    shuffled.to_parquet(tmp_path / "shuffled.parquet")
    routes = f"--routes npy={mixture.parent}/own.npy --routes rows={tmp_path}/shuffled.parquet"
    status, out, err = said(f"compare RUN --router own {routes} --format json", mixture, tmp_path, capsys)
    assert status == 0, err
    found = {name: {row[""].replace(name, "own"): row for row in rows} for name, rows in json.loads(out).items()}
    assert list(found) == ["own", "npy", "rows"]
    for name in ("npy", "rows"):
        for what, row in found[name].items():
            mine = found["own"][what.replace("its routing", "its own routing")]
            assert mean_of(row["real labels"]) == pytest.approx(mean_of(mine["real labels"]), abs=1e-5)
    own_experts[4, 1] = np.sort((own_experts[4, 1] + 1) % 4)
    np.save(tmp_path / "other.npy", own_experts)
    status, _, err = said(f"compare RUN --routes {tmp_path}/other.npy", mixture, tmp_path, capsys)
    assert status == 2
    assert "other.npy row 4, layer 1:" in err
    assert len(err.splitlines()) == 1
    np.save(tmp_path / "short.npy", own_experts[:-1])
    status, _, err = said(f"compare RUN --routes {tmp_path}/short.npy", mixture, tmp_path, capsys)
    assert (status, "scored positions in order" in err) == (2, True)


def test_sets_of_a_file_have_the_losses_that_a_run_over_sets_kept(mixture: Path, tmp_path: Path, capsys) -> None:
    argv = ["search", mixture.parent / "model", mixture.parent / "tokens.parquet", "--branches", "sets:0+1,2+3,1"]
    argv += ["--route-layers", "0-2", "--context", "full", "--keep", "losses", "--null-draws", "0", "--local"]
    assert main([*map(str, argv), "--out", str(tmp_path / "run")]) == 0
    run = load(tmp_path / "run")
    letters = np.random.default_rng(1).integers(0, 3, (run.n_tokens, 3))
    experts = np.array([[0, 1], [2, 3], [1, -1]], dtype=np.int16)[letters]
    np.save(tmp_path / "experts.npy", experts)
    status, out, err = said(f"compare RUN --routes {tmp_path}/experts.npy --format json", tmp_path / "run", tmp_path, capsys)
    assert status == 0, err
    losses = run.losses().astype({"pattern": str, "loss": float})
    table = losses.pivot(index=["sequence", "position"], columns="pattern", values="loss")
    patterns = ["".join("abc"[letter] for letter in row) for row in letters]
    kept = [table.iloc[row][pattern] for row, pattern in enumerate(patterns)]
    rows = {row[""]: row for row in json.loads(out)["experts"]}
    assert rows["loss of its routing"]["real labels"]["mean"] == pytest.approx(np.mean(kept), abs=1e-5)
    places = pd.DataFrame(list(table.index), columns=["sequence", "position"]).assign(pattern=patterns)
    places.to_parquet(tmp_path / "patterns.parquet")
    _, again, _ = said(
        f"compare RUN --routes experts={tmp_path}/patterns.parquet --format json", tmp_path / "run", tmp_path, capsys
    )
    assert again == out
    experts[2, 0] = (0, 3)
    np.save(tmp_path / "experts.npy", experts)
    status, _, err = said(f"compare RUN --routes {tmp_path}/experts.npy", tmp_path / "run", tmp_path, capsys)
    assert (status, "row 2, layer 0: 0+3 is no branch of sets:0+1,2+3,1" in err) == (2, True)


def test_questions_answer_or_refuse(mixture: Path) -> None:
    for name in questions():
        try:
            rows = query([mixture], name)
        except Exception as error:
            said = str(error)
            assert len(said.splitlines()) == 1
            assert name not in OF_LETTERS or f"the question {name} is answered for branches . s B" in said
        else:
            assert name not in OF_LETTERS
            assert name != "best_patterns" or sorted(set(rows["cost"].to_pylist())) == [3, 4, 5, 6, 7, 8, 9, 10, 12]
    table = query([mixture], "SELECT letter, cost, what FROM branches ORDER BY cost").to_pylist()
    assert [(row["letter"], row["cost"]) for row in table] == [("1", 1), ("2", 2), ("4", 4)]
    assert table[2]["what"] == "the 4 best experts"
