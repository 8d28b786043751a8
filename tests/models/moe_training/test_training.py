"""Training mixtures of experts: resumed as if never stopped, the same start and batches for every rule, cutoffs saved and used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from duo_oracle.models.experts.rules import default_beta
from duo_oracle.models.moe_llm.routing import training_choice
from duo_oracle.models.moe_training import training
from duo_oracle.models.moe_training.config import VARIANTS, MoeTrainConfig
from duo_oracle.models.moe_training.evaluation import _pools, evaluate_mixture
from duo_oracle.models.moe_training.learner import Learner, new_module
from duo_oracle.models.moe_training.training import HELD_OUT, read_mixture, read_usage, texts, train_moe
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import Window
from duo_oracle.models.training.batches import texts_of
from duo_oracle.models.training.beginning import training_tokenizer_in
from tests.models.router_fixtures import write_text

N_STEPS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("moe")
    write_text(folder / "text.jsonl", 120)
    return folder


def config_of(folder: Path, out: Path, router: str = "expert_threshold", **options: object) -> MoeTrainConfig:
    given = {
        "text": (str(folder / "text.jsonl"),),
        "out": str(out),
        "router": router,
        "tokens": N_STEPS * 4 * 16,
        "layers": 3,
        "hidden": 16,
        "heads": 2,
        "kv_heads": 1,
        "ffn": 32,
        "vocabulary": 280,
        "positions": 16,
        "batch": 4,
        "learning_rate": 1e-2,
        "expert_warmup": 0.25,
        "checkpoint_minutes": 0.0,
        "holdouts": (),
        "holdout_tokens": 200,
        "threads": 1,
        "work": str(folder / "work"),
    }
    return MoeTrainConfig(**{**given, **options})  # type: ignore[arg-type]


class Stopped(Exception):
    pass


def losses_of_csv(out: Path) -> list[str]:
    return [",".join(line.split(",")[:4]) for line in (out / "loss.csv").read_text().splitlines()]


@pytest.mark.parametrize("router", ["dense", "token_choice_loss_free", "expert_choice_sequence", "expert_threshold"])
def test_a_mixture_that_was_stopped_goes_on_to_the_same_mixture(router, folder, tmp_path, monkeypatch):
    config = config_of(folder, tmp_path / "whole", router)
    train_moe(config)
    stopped = replace(config, out=str(tmp_path / "stopped"))
    gradients = training._gradients

    def failing(step, **of_the_training):
        if step == 17:
            raise Stopped
        return gradients(step, **of_the_training)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_gradients", failing)
        with pytest.raises(Stopped):
            train_moe(stopped)
    assert not (tmp_path / "stopped" / "evaluation.json").exists()
    train_moe(stopped)
    assert losses_of_csv(tmp_path / "stopped") == losses_of_csv(tmp_path / "whole")
    for file in ("model.safetensors", "usage.safetensors"):
        whole, again = (load_file(tmp_path / run / file) for run in ("whole", "stopped"))
        assert whole.keys() == again.keys()
        assert all(torch.equal(torch.nan_to_num(whole[key]), torch.nan_to_num(again[key])) for key in whole)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".csv", ".safetensors", ".md"}


def test_cutoffs_are_saved_as_trained_and_are_what_the_evaluation_uses(folder, tmp_path):
    config = config_of(folder, tmp_path / "m")
    train_moe(config)
    module, usage = read_mixture(config.out), read_usage(tmp_path / "m")
    assert module.mixture(1).gate.n_averaged.item() == N_STEPS
    assert module.mixture(1).gate.weight.dtype == torch.float32
    stored = load_file(tmp_path / "m" / "model.safetensors")
    assert {stored[name].dtype for name in stored if ".gate." in name} == {torch.float32}
    assert {stored[name].dtype for name in stored if ".experts." in name} == {torch.float16}
    record = json.loads((tmp_path / "m" / "evaluation.json").read_text())[HELD_OUT]
    tokenizer = load_tokenizer((tmp_path / "m" / "tokenizer.json").read_text())
    found = evaluate_mixture(module, texts(config, tokenizer)[1], config.holdout_tokens, config.batch)
    assert record["loss"] == pytest.approx(found.loss, abs=1e-4)
    assert np.array(record["usage_LE"]) == pytest.approx(found.usage_LE, abs=1e-4)
    assert record["usage_target"] == 1 / 8
    used, passed, held = usage["used"], usage["passed"], usage["held"]
    assert used.shape == passed.shape == (N_STEPS, 2, 8)
    assert torch.allclose(used[:6], torch.tensor(8 / 64))  # expert choice in the warm-up
    assert torch.isnan(passed[0]).all()
    assert passed[1:].isfinite().all()
    least, most = 4 / 64, 12 / 64
    clamped = passed[6:].clamp(least, most)
    assert torch.allclose(used[6:], clamped)
    assert torch.equal(held[6:], (passed[6:] > most).float() - (passed[6:] < least).float())
    assert held[1:].any()


def test_all_rules_begin_with_the_same_weights_and_see_the_same_batches(folder, tmp_path, capsys):
    config = config_of(folder, tmp_path / "all", "all", tokens=2 * 4 * 16)
    train_moe(config)
    assert {path.name for path in (tmp_path / "all").iterdir()} == set(VARIANTS)
    assert capsys.readouterr().out.count("nats per token") == len(VARIANTS)
    experts = [new_module(one, 280) for one in config.one_by_one() if one.router != "dense"]
    first = experts[0].state_dict()
    assert all(torch.equal(tensor, other.state_dict()[name]) for other in experts for name, tensor in first.items())
    tokenizer = load_tokenizer((tmp_path / "all" / "dense" / "tokenizer.json").read_text())
    batches = [texts(one, tokenizer)[0].batch(3) for one in config.one_by_one()]
    assert all(np.array_equal(batch, batches[0]) for batch in batches)
    assert read_mixture(str(tmp_path / "all" / "dense")).config.router == "dense"


def test_the_gap_between_training_and_evaluation_is_measured_and_is_that_of_the_pool(folder, tmp_path):
    """Token choice chooses by the token alone: no gap. Expert choice over short sequences: another choice, another loss."""
    for router, same in (("token_choice", True), ("expert_choice_sequence", False)):
        config = config_of(folder, tmp_path / router, router)
        train_moe(config)
        record = json.loads((tmp_path / router / "evaluation.json").read_text())[HELD_OUT]
        assert (record["loss"] == record["loss_protocol"]) == same


def test_loss_free_balance_evens_the_use_and_the_aux_loss_reaches_the_gates(folder, tmp_path):
    config = config_of(folder, tmp_path / "x", "token_choice_aux")
    learner = Learner(new_module(config, 280), config)
    windows = texts(config, training_tokenizer_in(tmp_path, texts_of(config.text), 280))[0]
    loss, penalty = learner.loss(windows.token_id_BT(0, "cpu"), 0)
    assert loss.item() > 0
    assert penalty.item() == pytest.approx(2 * 0.001, rel=0.2)  # two layers, all but even at the start
    penalty.backward()
    assert learner.module.mixture(1).gate.weight.grad.abs().sum() > 0
    free = config_of(folder, tmp_path / "free", "token_choice_loss_free", u=0.25)
    learner = Learner(new_module(free, 280), free)
    with torch.no_grad():
        learner.module.mixture(1).gate.weight.mul_(50)
    spread = []
    for step in range(N_STEPS):
        learner.loss(windows.token_id_BT(0, "cpu"), step)
        learner.finish(step)
        spread.append(float(learner.used[step, 0].std()))
    assert min(spread[-6:]) < spread[0] / 2


def test_the_first_steps_of_expert_threshold_are_expert_choice(folder, tmp_path):
    config = config_of(folder, tmp_path / "x")
    learner = Learner(new_module(config, 280), config)
    assert learner.n_warmup == 6
    assert learner.beta == default_beta(N_STEPS)
    logit_BTE = torch.randn(4, 16, 8, generator=torch.Generator().manual_seed(0))
    mixture = learner.module.mixture(1)
    warm = training_choice(mixture, logit_BTE, warming=True)
    assert warm.sum(dim=(0, 1)).tolist() == [8] * 8
    assert not torch.equal(warm, training_choice(mixture, logit_BTE))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"router": "tokens"}, "unknown router 'tokens'"),
        ({"text": ()}, "training needs at least one text file; got none"),
        ({"granularity": 1}, "`granularity` must be at least 2 with `shared_expert`"),
        ({"granularity": 3}, "`ffn` must be a multiple of `granularity`; got 32 and 3"),
        ({"dense_layers": 3}, "`dense_layers` must leave a layer for the experts; got 3 of 3 layers"),
        ({"beta": 1.0}, "`beta` must lie between 0 and 1, 1 excluded; got 1.0"),
        ({"u": 0.0}, "`u` must be above 0; got 0.0"),
        ({"expert_warmup": 2.0}, "`expert_warmup` must lie between 0 and 1; got 2.0"),
        ({"capacity": -1.0}, "`capacity` must be at least 0; got -1.0"),
        ({"expansion": 40}, "every expert must find a token in its pool; got 80 experts and windows of 16"),
        ({"tokenizer": "nowhere"}, "nowhere"),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0; got 0.0"),
    ],
)
def test_bad_options_are_refused(change, message, folder, tmp_path):
    with pytest.raises(ValueError, match=message) as fault:
        train_moe(replace(config_of(folder, tmp_path / "m"), **change))
    assert "\n" not in str(fault.value)


def test_pools_are_of_the_trainings_size_and_of_all_texts():
    windows = [Window(number, f"held out {number}", np.arange(4, dtype=np.int32)) for number in range(35)]
    pools = [[window.index for window in pool] for pool in _pools(windows, 8)]
    assert sorted(map(len, pools)) == [8, 9, 9, 9]
    assert sorted(index for pool in pools for index in pool) == list(range(35))
    assert all(min(pool) < 17 < max(pool) for pool in pools)
    assert [[window.index for window in pool] for pool in _pools(windows, 8)] == pools
    assert list(map(len, _pools(windows[:3], 8))) == [3]
