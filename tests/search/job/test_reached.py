"""What a reference expects comes true on text that is drawn from it, and not on text that is drawn from the searched model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from duo_oracle import results
from duo_oracle.models.checkpoint import read_checkpoint, write_checkpoint
from duo_oracle.models.families import duo_llama
from duo_oracle.models.family import load_model
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.answers.reached import Reached, reached_of_run, sentence
from duo_oracle.results.answers.summary import summarise
from duo_oracle.results.statistics.intervals import paired
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.rerun.opened import open_run
from duo_oracle.search.rerun.routers import compare_routers

Asks = Callable[..., SearchConfig]
N_DOCUMENTS, N_TOKENS = 80, 9


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "other"
    write_checkpoint(directory, *duo_llama.random_checkpoint(7), None, torch.float32)
    return directory


def text_drawn_from(directory: Path, file: Path, seed: int) -> str:
    """Documents whose every token but the first is drawn from the full model after the tokens before it."""
    model, generator = load_model(read_checkpoint(str(directory))), torch.Generator().manual_seed(seed)
    ids_BT = torch.randint(0, model.n_vocabulary, (N_DOCUMENTS, 1), generator=generator)
    for n in range(1, N_TOKENS):
        mask_BTL = torch.full((N_DOCUMENTS, n, model.n_letters), int(Branch.BIG), dtype=torch.uint8)
        p_BV = model.forward(ids_BT, mask_BTL, SkipReading.FFN)[:, -1].double().softmax(dim=1)
        ids_BT = torch.cat([ids_BT, torch.multinomial(p_BV, 1, generator=generator)], dim=1)
    rows = [{"document": f"text {n}", "tokens": ids_T.tolist()} for n, ids_T in enumerate(ids_BT)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def searched(config: SearchConfig) -> tuple[results.Run, dict[str, Reached]]:
    run_search(config)
    run = results.load(config.out)
    return run, {line.budget: line for line in reached_of_run(run)}


def test_on_text_of_the_reference_what_it_expects_comes_true(asks_duo: Asks, other: Path, tmp_path: Path) -> None:
    data = text_drawn_from(other, tmp_path / "text.jsonl", 1)
    run, lines = searched(asks_duo(data=data, reference=str(other), context="full", budget="any,0-2"))
    rows = run.paths().merge(run.tokens(), on=["sequence", "position"])
    for budget, line in lines.items():
        mine = rows[rows["budget"] == budget]
        realised_N = (mine["loss_full"] - mine["ref_loss"]).to_numpy()
        assert line.realised.mean == pytest.approx(realised_N.mean(), abs=1e-6)
        assert line.expected.mean == pytest.approx(mine["ref_expected_gain"].mean(), abs=1e-6)
        assert line.realised.low <= line.expected.mean <= line.realised.high
        assert paired(realised_N, mine["ref_expected_gain"].to_numpy(), mine["document"].to_numpy()).sign == 0
        assert line.hindsight.mean >= line.realised.mean
    assert lines["any"].realised.sign > 0
    assert lines["any"].surprise.sign == 0  # calibrated, being the truth
    assert lines["any"].share is not None
    assert lines["any"].share.mean == pytest.approx(lines["any"].realised.mean / lines["any"].hindsight.mean)
    said = summarise(run)
    assert "what can be reached" in said
    assert "of the hindsight gain, and that is no selection bias" in said


def test_on_text_of_the_model_itself_another_reference_gains_nothing(
    asks_duo: Asks, duo: Path, other: Path, tmp_path: Path
) -> None:
    data = text_drawn_from(duo, tmp_path / "text.jsonl", 2)
    _, lines = searched(asks_duo(data=data, reference=str(other), context="full", budget="any,0-2"))
    for line in lines.values():
        assert line.realised.sign <= 0
        assert line.hindsight.mean >= line.realised.mean
    assert lines["any"].expected.mean > 0.01  # what the reference thinks
    assert lines["any"].realised.mean < 0
    assert lines["any"].loss_reference.mean > lines["any"].loss_full.mean
    assert "would lose to all-big" in sentence(list(lines.values())) or "no gain over all-big" in sentence(list(lines.values()))


def test_a_reference_that_saw_no_more_than_the_model_is_called_so(asks_duo: Asks) -> None:
    run, lines = searched(asks_duo(context="full", reference="self"))
    assert lines["any"].expected.mean == pytest.approx(0, abs=1e-5)
    assert "it saw no more than the model" in summarise(run)


def test_answers_of_a_run_without_a_reference_say_nothing_of_one(asks_duo: Asks) -> None:
    run, lines = searched(asks_duo(context="full"))
    assert not lines
    assert "reached" not in summarise(run)
    assert not [name for name in run.curve() if name.startswith("ref_")]
    assert run.query("reached")[["reference_loss", "expected", "realised", "same_pattern"]].isna().all().all()


def test_tables_of_what_is_reached(asks_duo: Asks, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, lines = searched(asks_duo(context="full", budget="any,1", reference=str(other)))
    curve = run.curve().set_index("budget")
    for budget, line in lines.items():
        assert curve.loc[budget, "ref_gain"] == pytest.approx(line.realised.mean)
        assert curve.loc[budget, "ref_expected_gain_low"] == pytest.approx(line.expected.low)
    classes = run.query("reached")
    whole = classes[classes["budget"] == "any"]
    assert np.average(whole["realised"], weights=whole["tokens"]) == pytest.approx(lines["any"].realised.mean, abs=1e-6)
    capsys.readouterr()
    assert main(["curve", str(run.path)]) == 0
    assert "What can be reached in context `full`" in capsys.readouterr().out


@pytest.mark.parametrize("context", ["full", "committed"])
def test_the_references_choice_is_a_router_to_compare(asks_duo: Asks, other: Path, context: str) -> None:
    run, _ = searched(
        asks_duo(context=context, budget="2", reference=str(other), objective="label" if context == "full" else "reference")
    )
    found = compare_routers(open_run(run), ("reference:2", "reference", "random:1"))
    named, default, _ = found.routers
    np.testing.assert_allclose(named.loss_N, run.paths()["ref_loss"], atol=2e-5)  # committed: the loss of its own real pass
    assert np.array_equal(named.branches_NL, default.branches_NL)
    assert (named.causal, named.target) == (True, 2.0)
    with pytest.raises(InputError, match="budget"):
        compare_routers(open_run(run), ("reference:1",))


def test_a_run_without_a_reference_has_no_such_router(asks_duo: Asks) -> None:
    run, _ = searched(asks_duo(context="full"))
    with pytest.raises(InputError, match="was searched without a reference"):
        compare_routers(open_run(run), ("reference",))
