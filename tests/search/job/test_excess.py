"""The excess against known truths: zero without a real effect, a planted one in its size, and a temperature that explains it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from duo_oracle import results
from duo_oracle.models.checkpoint import write_checkpoint
from duo_oracle.models.duo_llm.placebo import with_placebo
from duo_oracle.models.families import duo_llama
from duo_oracle.models.families.toy import MODEL_TYPE, ToyModel, random_tensors, random_toy
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.branches import parse_table
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import SkipReading, parse_context
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.statistics.intervals import Estimate, bootstrap
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.job.identity import identity_of
from duo_oracle.search.job.problem import Problem
from duo_oracle.search.job.unit import solve_sequences
from tests.search.rerun.test_selection_bias import PathsSink, text_of_all_big
from tests.small_models import all_patterns, small_duo

N_LAYERS = 4
BUDGETS = "0-4,any"


def solved(model: OracleModel, token_id_BT: np.ndarray, seed: int = 3) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By budget the gain and the excess of every token, sequence after sequence, in the context full."""
    budgets = parse_budgets(BUDGETS, N_LAYERS)
    problem = Problem(
        n_letters=N_LAYERS,
        table=parse_table("sB"),
        budgets=budgets,
        context=parse_context("full", N_LAYERS),
        skip=SkipReading.FFN,
        strategy="exhaustive",
        null_draws=4,
        seed=seed,
    )
    sink = PathsSink()
    solve_sequences(model, [Window(i, str(i), ids) for i, ids in enumerate(token_id_BT)], problem, sink)
    found = {}
    for number, budget in enumerate(budgets):
        rows = [(paths, paths.budget_R == number) for paths in sink.paths_of.values()]
        gain_N = np.concatenate([(paths.loss_full_R - paths.loss_R)[mine] for paths, mine in rows])
        null_N = np.concatenate([paths.null_gain_R[mine] for paths, mine in rows])
        found[str(budget)] = (gain_N, gain_N - null_N)
    return found


def mean(values_N: np.ndarray, n_documents: int) -> Estimate:
    return bootstrap(values_N[:, None], np.repeat(np.arange(n_documents), len(values_N) // n_documents))[0]


def test_where_big_is_small_plus_noise_and_the_text_all_bigs_the_excess_covers_zero_at_every_budget() -> None:
    module = small_duo(n_letters=N_LAYERS, n_hidden=16, spread=0.35).module
    config = {**duo_llama.random_checkpoint(0)[0], **vars(module.config), "num_hidden_layers": N_LAYERS}
    tensors = {name: tensor for name, tensor in module.state_dict().items() if not name.startswith("lm_head")}
    fake = duo_llama.build(config, with_placebo(config, tensors, seed=1), torch.float32, torch.device("cpu"))
    found = solved(fake, text_of_all_big(fake, 80, 16))
    for budget, (gain_N, excess_N) in found.items():
        gain, excess = mean(gain_N, 80), mean(excess_N, 80)
        assert excess.low <= 0 <= excess.high, budget
        if budget in ("2", "3", "any"):  # one of 6, 4 or 16 patterns is chosen
            assert gain.low > 0.05, budget
            assert excess.high - excess.low < gain.mean, budget


def planted_model() -> ToyModel:
    """Words 0 to 7 are served by the big FFN of layer 2 alone: each other big FFN takes away half of what it adds."""
    model = random_toy(seed=1, n_letters=N_LAYERS, n_vocabulary=16, n_positions=64)
    model.table_VLR = torch.zeros_like(model.table_VLR)
    model.table_VLR[:8, :, 1] = -0.75
    model.table_VLR[:8, 2, 1] = 1.5
    model.table_VLR[8:, :, 1] = torch.tensor([0.25, -0.25, 0.125, -0.125])  # the others hardly care
    return model


def test_a_planted_effect_is_recovered_in_size() -> None:
    model = planted_model()
    # p_VPY of the next word after each word under each pattern, from the tables alone
    branches_PL = all_patterns(N_LAYERS, (Branch.SMALL, Branch.BIG))
    table_VLR = model.table_VLR.numpy()
    score_VP = np.stack([table_VLR[:, np.arange(N_LAYERS), row_L.astype(int) - 1].sum(axis=1) for row_L in branches_PL], axis=1)
    sign_V, base_VV = model.unembedding_VD[:, -2].numpy(), model.unembedding_VD[:, :16].numpy()
    logits_VPY = base_VV.T[:, None, :] + score_VP[:, :, None] * sign_V
    p_VPY = np.exp(logits_VPY) / np.exp(logits_VPY).sum(axis=2, keepdims=True)
    n_big_P = (branches_PL == Branch.BIG).sum(axis=1)
    serving = int(np.flatnonzero((branches_PL == np.array([1, 1, 2, 1])).all(axis=1))[0])
    truth_VY = p_VPY[:, n_big_P.argmax()].copy()
    truth_VY[:8] = p_VPY[:8, serving]  # the text follows the one big FFN there, all-big elsewhere

    rng = np.random.default_rng(11)
    token_id_BT = rng.integers(0, 16, (60, 40))
    for position in range(1, 40):
        reached_BV = truth_VY[token_id_BT[:, position - 1]].cumsum(axis=1)
        token_id_BT[:, position] = (reached_BV > rng.random((60, 1))).argmax(axis=1)
    found = solved(model, token_id_BT.astype(np.int32))
    before_N = token_id_BT[:, :-1].ravel()
    for budget in parse_budgets(BUDGETS, N_LAYERS):
        # the effect: what the text's labels gain over all-big's labels, in expectation over them, exactly
        gain_VY = np.log(p_VPY[:, budget.allows(N_LAYERS)[n_big_P]].max(axis=1) / p_VPY[:, n_big_P.argmax()])
        size_V = ((truth_VY - p_VPY[:, n_big_P.argmax()]) * gain_VY).sum(axis=1)
        excess = mean(found[str(budget)][1], 60)
        assert excess.low <= size_V[before_N].mean() <= excess.high, budget
        if str(budget) in ("1", "any"):
            assert excess.low > 0.5 * size_V[before_N].mean() > 0.1
        others = bootstrap(np.where(before_N >= 8, found[str(budget)][1], np.nan)[:, None], np.repeat(np.arange(60), 39))[0]
        assert others.low <= 1e-6
        assert others.high >= -1e-6


@pytest.fixture(scope="module")
def overconfident(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A toy whose text was drawn from its all-big at temperature 2, in twelve documents."""
    directory = tmp_path_factory.mktemp("overconfident")
    tensors = random_tensors(2, N_LAYERS, 16, 0.0)
    tensors["base"] = tensors["base"] * 1.5
    config = {"model_type": MODEL_TYPE, "vocab_size": 16, "num_hidden_layers": N_LAYERS, "max_position_embeddings": 64}
    write_checkpoint(directory / "model", config, tensors, None, torch.float32)
    score_V = tensors["table"][:, :, 1].sum(dim=1)
    logits_VY = tensors["base"].T + score_V[:, None] * tensors["sign"]
    p_VY = torch.softmax(logits_VY.double() / 2.0, dim=1).numpy()
    rng = np.random.default_rng(4)
    rows = []
    for document in range(12):
        ids = [int(rng.integers(16))]
        for _ in range(255):
            ids.append(int(rng.choice(16, p=p_VY[ids[-1]])))
        rows.append(json.dumps({"document": f"d{document}", "tokens": ids}) + "\n")
    (directory / "text.jsonl").write_text("".join(rows))
    return directory / "model", directory / "text.jsonl"


@pytest.mark.long
def test_a_fitted_temperature_explains_the_excess_of_an_overconfident_model(
    overconfident: tuple[Path, Path], tmp_path: Path
) -> None:
    model, text = (str(path) for path in overconfident)
    excess = {}
    for temperature in ("1", "fit", "2"):
        out = str(tmp_path / temperature)
        config = SearchConfig(
            model=model, data=text, out=out, local=True, context="full", budget="0,2", null_temperature=temperature
        )
        run_search(config)
        run = results.load(out)
        table = run.paths().merge(run.tokens(), on=["sequence", "position"])
        for budget in ("0", "2"):
            rows = table[table["budget"] == budget]
            excess[temperature, budget] = bootstrap(rows[["excess"]].to_numpy(np.float64), rows["document"].to_numpy())[0]
        if temperature == "fit":
            fitted = run.identity["null_temperatures"]
            assert list(fitted) == sorted(fitted) == sorted(f"d{n}" for n in range(12))
            assert all(1.8 < value < 2.2 for value in fitted.values())
            assert run.identity["null_temperature"] == "fit"
            run_search(config)  # an equal command finds an equal run
        elif temperature == "1":
            assert "null_temperature" not in run.identity
    assert excess["1", "2"].low > 0.02  # the plain excess takes overconfidence for use of compute
    for temperature in ("fit", "2"):
        for budget in ("0", "2"):
            assert excess[temperature, budget].low <= 0 <= excess[temperature, budget].high
            assert excess[temperature, budget].error < excess["1", "2"].mean / 2  # narrow enough to have shown the other


def test_a_temperature_is_a_number_above_zero_or_fitted_on_other_documents(
    asks: Callable[..., SearchConfig], tmp_path: Path
) -> None:
    for wrong in ("0", "-1", "hot", "inf", ""):
        with pytest.raises(ValueError, match="a number above 0, or fit"):
            asks(null_temperature=wrong)
    with pytest.raises(ValueError, match="give `null_draws` 1 or more"):
        run_search(asks(null_temperature="2", null_draws=0))
    alone = tmp_path / "alone.jsonl"
    alone.write_text(json.dumps({"document": "one", "tokens": [1, 2, 3, 4]}) + "\n")
    with pytest.raises(ValueError, match="the data is one document"):
        run_search(asks(null_temperature="fit", data=str(alone)))
    first = identity_of(asks(null_temperature="2"), 4)
    assert first == identity_of(asks(null_temperature="2.0"), 4)
    assert first != identity_of(asks(), 4)
    assert identity_of(asks(null_temperature="1.0"), 4) == identity_of(asks(), 4)
