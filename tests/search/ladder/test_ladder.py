"""The ladder: probes find what the states know and no more, every rung is realised in the run's context, wrong runs are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from duo_oracle import results
from duo_oracle.models.checkpoint import write_checkpoint
from duo_oracle.models.families import duo_llama
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.ladder.rungs import Ladder, lines_of
from duo_oracle.search.api.laddering import ladder
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.job.unit import scorer_of
from duo_oracle.search.ladder.climbing import Climb, Climbed, climb
from duo_oracle.search.ladder.probes import Router
from duo_oracle.search.ladder.worth import sample_patterns, worth_of_run
from duo_oracle.search.rerun.opened import open_run
from duo_oracle.search.rerun.pattern_tables import pattern_losses
from duo_oracle.search.rerun.references import with_reference

Asks = Callable[..., SearchConfig]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "other"
    write_checkpoint(directory, *duo_llama.random_checkpoint(7), None, torch.float32)
    return directory


def climbed(config: SearchConfig, **how: object) -> Climbed:
    run_search(config)
    return climb(open_run(results.load(config.out)), Climb(**how))  # type: ignore[arg-type]


def rung(found: Ladder, name: str) -> np.ndarray:
    (loss_N,) = [one.loss_N for one in found.rungs if one.name == name]
    return loss_N


def test_every_kind_of_rung_is_there_and_the_known_ones_are_the_runs_own(asks_duo: Asks, other: Path) -> None:
    config = asks_duo(context="full", budget="any,0-3", reference=str(other))
    found = climbed(config, routers=("fixed:BsB", "random:1"))
    run = results.load(config.out)
    assert [one.budget for one in found.ladders] == ["any", "1"]
    paths = run.paths().sort_values(["sequence", "position"])
    for one in found.ladders:
        rows = paths[paths["budget"] == one.budget]
        np.testing.assert_allclose(rung(one, "hindsight"), rows["loss"], atol=1e-6)
        np.testing.assert_allclose(rung(one, "reference"), rows["ref_loss"], atol=1e-6)
        averaged = ("excess", *(() if one.budget == "any" else ("layer probe", "router")))  # these hold the budget on average alone
        for other_rung in one.rungs:
            if other_rung.kind not in averaged:
                assert (other_rung.loss_N >= rung(one, "hindsight") - 1e-5).all(), other_rung.name
    kinds = {one.kind for one in found.ladders[0].rungs}
    assert kinds == {
        *("random", "shuffled", "previous", "fixed", "router", "layer probe", "probe"),
        *("additive", "reference", "excess", "hindsight"),
    }
    by_name = {line.name: line for line in lines_of(found.ladders[0])}
    assert by_name["fixed:BsB"].n_big == 2
    assert {line.kind for line in lines_of(found.ladders[1]) if line.name.startswith(("fixed:", "random:"))} == {"router"}
    assert "fixed:BsB" not in {line.name for line in lines_of(found.ladders[1])}  # its budget is 2


def test_a_budget_of_all_layers_leaves_nothing_to_choose(asks_duo: Asks, other: Path) -> None:
    (found,) = climbed(asks_duo(context="full", budget="3", reference=str(other)), budgets=("3",)).ladders
    for one in found.rungs:
        if one.kind not in ("excess",):
            np.testing.assert_allclose(one.loss_N, found.loss_full_N, atol=1e-5)
    line = next(line for line in lines_of(found) if line.kind == "probe")
    assert line.share is None  # the reference is not above the fixed pattern


@pytest.mark.parametrize("context", ["full", "sBs", "router:random:1"])
def test_branches_worth_is_that_of_scored_patterns(asks_duo: Asks, other: Path, context: str) -> None:
    config = asks_duo(context=context, budget="any", branches=".sB", reference=str(other))
    run_search(config)
    opened = open_run(results.load(config.out))
    windows = list(with_reference(opened, opened.sequences))
    worth = worth_of_run(opened, windows, sample=64, seed=0)
    assert len(worth.branches_PL) == 27  # all of them
    assert worth.weight_P == pytest.approx(np.full(27, 1 / 27))
    found = opened.run.paths()
    assert worth.real_NP.min(axis=1) == pytest.approx(found["loss"].to_numpy(), abs=1e-5)
    assert worth.expected_NP is not None
    best_N = worth.expected_NP.argmin(axis=1)
    full = [tuple(row) for row in worth.branches_PL.tolist()].index((2, 2, 2))
    gain_N = worth.expected_NP[:, full] - worth.expected_NP[np.arange(len(best_N)), best_N]
    assert gain_N == pytest.approx(found["ref_expected_gain"].to_numpy(), abs=1e-5)
    # the mean of all patterns with a branch at a layer, less that with the first: what effects are in a whole table
    effect_NLK = worth.effects(worth.real_NP)
    with_big, with_skip = (worth.real_NP[:, worth.branches_PL[:, 1] == b].mean(axis=1) for b in (Branch.BIG, Branch.SKIP))
    assert effect_NLK[:, 1, 2] == pytest.approx(with_big - with_skip, abs=1e-6)


def test_a_routed_walk_is_the_pattern_that_it_chose(asks_duo: Asks) -> None:
    config = asks_duo(context="sBs", budget="any", branches=".sB", skip="layer")
    run_search(config)
    opened = open_run(results.load(config.out))
    router = Router(opened, opened.sequences)
    generator = np.random.default_rng(0)
    for number, window in enumerate(opened.sequences):
        chosen_NL, h_ND, x_LND = router.run(number, lambda _, x_ND: generator.integers(0, 3, len(x_ND)).astype(np.uint8))
        token_id_T = torch.from_numpy(window.token_ids.astype(np.int64))
        scorer = scorer_of(opened.model, window, token_id_T, opened.problem, NullLabels())
        states_ND = scorer.route(lambda letter, x_ND, chosen_NL=chosen_NL: chosen_NL[:, letter])[1]  # type: ignore[attr-defined]
        logits_NV = states_ND.double() @ opened.model.unembedding_VD.double().T
        loss_N = torch.nn.functional.cross_entropy(logits_NV, token_id_T[1:], reduction="none").numpy()
        assert scorer.score(np.arange(len(loss_N)), chosen_NL) == pytest.approx(loss_N, abs=1e-4)
        assert x_LND.shape == (3, window.n_positions, h_ND.shape[1])
        assert np.square(x_LND).mean(axis=2) == pytest.approx(1, abs=1e-4)


def test_a_reference_with_more_of_the_document_is_asked_as_in_the_search(asks_duo: Asks) -> None:
    config = asks_duo(context="full", budget="any", reference="self", reference_context=6, seq_len=3, offset=2)
    run_search(config)
    opened = open_run(results.load(config.out))
    branches_PL = sample_patterns(opened.problem, 64, 0)[0]
    assert len(branches_PL) == 8
    expected = [
        pattern_losses(opened.model, opened.problem, window, branches_PL)[1] for window in with_reference(opened, opened.sequences)
    ]
    expected_NP = np.concatenate([one for one in expected if one is not None])
    full = [tuple(row) for row in branches_PL.tolist()].index((2, 2, 2))
    gain_N = expected_NP[:, full] - expected_NP.min(axis=1)
    assert gain_N == pytest.approx(opened.run.paths()["ref_expected_gain"].to_numpy(), abs=1e-5)
    assert gain_N.max() > 1e-3


@pytest.mark.slow
def test_a_probe_gains_where_the_state_tells_and_not_where_it_is_shuffled(asks_duo: Asks, other: Path, tmp_path: Path) -> None:
    """A text in which every token says the next one: what the last state tells of it, other documents teach."""
    generator = np.random.default_rng(3)
    after = generator.permutation(40)[:8]
    rows = []
    for n in range(12):
        ids = [int(generator.integers(8))]
        for _ in range(9):
            ids.append(int(after[ids[-1] % 8]))
        rows.append({"document": f"text {n}", "tokens": ids})
    data = tmp_path / "text.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = climbed(asks_duo(data=str(data), context="full", budget="any", reference=str(other)), rounds=1).ladders
    lines = {line.name: line for line in lines_of(found)}
    probe, shuffled = (lines[f"linear probe, {name}"] for name in ("last state, taught real", "its predictions shuffled"))
    assert probe.over_fixed is not None
    assert shuffled.over_fixed is not None
    assert probe.over_fixed.sign > 0 >= shuffled.over_fixed.sign
    assert lines["linear probe, states at the layers, taught real"].gain.mean > lines["best fixed pattern"].gain.mean


@pytest.mark.slow
def test_the_command_and_the_function_say_the_same(
    asks_duo: Asks, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = asks_duo(context="full", budget="any,1", reference=str(other))
    run_search(config)
    found = ladder(config.out, budgets="1", routers="random:1")
    assert set(found.table()["budget"]) == {"1"}
    assert "budget 1" in str(found)
    assert found.markdown().startswith("| budget 1 |")
    capsys.readouterr()
    picture = tmp_path / "ladder.svg"
    assert main(["ladder", config.out, "--budget", "1", "--router", "random:1", "--format", "json", "--plot", str(picture)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in said] == found.table()["name"].tolist()
    assert [row["gain"] for row in said] == pytest.approx(found.table()["gain"].tolist())
    first = picture.read_bytes()
    found.plot().save(picture)
    assert picture.read_bytes() == first


def test_without_a_reference_the_probes_are_taught_real_losses(asks_duo: Asks) -> None:
    found = climbed(asks_duo(context="full", budget="any"))
    kinds = {one.kind for one in found.ladders[0].rungs}
    assert not kinds & {"reference", "additive"}
    assert {one.taught for one in found.ladders[0].rungs} == {None, "real"}
    assert any("no reference" in note for note in found.notes)


@pytest.mark.parametrize("context", ["committed", "same"])
def test_contexts_without_one_routing_are_refused(asks_duo: Asks, context: str) -> None:
    with pytest.raises(InputError, match="a ladder stands in a context"):
        climbed(asks_duo(context=context))


def test_what_does_not_fit_is_refused(asks_duo: Asks, other: Path, duo: Path, tmp_path: Path) -> None:
    data = tmp_path / "text.jsonl"
    rows = [{"document": name, "tokens": [1, 2, 3, 4, 5, 6]} for name in "ab"]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = asks_duo(data=str(data), context="full", budget="any", reference=str(other), seq_len=4)
    with pytest.raises(InputError, match="budget"):
        climbed(config, budgets=("1",))
    opened = open_run(results.load(config.out))
    with pytest.raises(InputError, match="under another reference"):
        climb(opened, Climb(reference=str(duo)))
    with pytest.raises(InputError, match="tell all branches' effects apart"):
        climb(open_run(results.load(config.out)), Climb(sample=1, seed=1))
    data.write_text(data.read_text().replace("4", "7"))
    with pytest.raises(InputError, match="was searched over other text"):
        climb(open_run(results.load(config.out)), Climb())
    data.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(InputError, match="learnt from other documents; there is one"):
        climbed(asks_duo(data=str(data), context="full", budget="any", out=str(tmp_path / "one")))
    with pytest.raises(InputError, match="alone"):
        climbed(asks_duo(context="full", branches="B", out=str(tmp_path / "alone")))
