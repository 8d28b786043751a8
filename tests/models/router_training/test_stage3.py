"""Training a router on a tiny frozen model: resumed as if never stopped, at its budget, the model untouched, nothing pickled."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.families.toy import write_toy
from duo_oracle.models.router import ROUTERS, read_router, router_module
from duo_oracle.models.router_training import stage3
from duo_oracle.models.router_training.calibration import evaluate_router
from duo_oracle.models.router_training.data import calibration_sequences, documents_of, split_stream
from duo_oracle.models.router_training.labels import PatternLabels
from duo_oracle.models.router_training.method import Task
from duo_oracle.models.router_training.stage3 import prepare, train_router, trainable_routers
from duo_oracle.models.routers import distilled
from duo_oracle.models.routers.budget import Settings as BudgetSettings
from duo_oracle.models.routers.token_choice import Settings as TokenSettings
from duo_oracle.models.routing import big_per_token, route
from duo_oracle.models.training.batches import document_numbers
from duo_oracle.models.training.schedule import cosine_rate
from duo_oracle.oracle.base.settings import listed_settings, read_settings
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch
from tests.models.router_fixtures import N_HIDDEN, N_LAYERS, N_POSITIONS, N_VOCABULARY, router_config, write_model, write_text

BY_GRADIENT = tuple(name for name in trainable_routers() if name != "distilled")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("routers")
    write_model(folder / "model", write_text(folder / "text.jsonl", 120))
    return folder


class Stopped(Exception):
    pass


def stop_before(step: int, monkeypatch) -> None:
    gradients = stage3._gradients

    def failing(at, **of_the_training):
        if at == step:
            raise Stopped
        return gradients(at, **of_the_training)

    monkeypatch.setattr(stage3, "_gradients", failing)


def losses_of(out: Path) -> list[str]:
    return [",".join(line.split(",")[:4]) for line in (out / "loss.csv").read_text().splitlines()]


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_a_router_that_was_stopped_goes_on_to_the_same_router(name, folder, tmp_path, monkeypatch, capsys):
    model_before = {path.name: path.read_bytes() for path in (folder / "model").iterdir()}
    config = router_config(folder, name, out=str(tmp_path / "whole"))
    train_router(config)
    stopped = replace(config, out=str(tmp_path / "stopped"))
    with monkeypatch.context() as patch:
        stop_before(17, patch)
        with pytest.raises(Stopped):
            train_router(stopped)
    assert not (tmp_path / "stopped" / "router.json").exists()
    train_router(stopped)
    assert losses_of(tmp_path / "stopped") == losses_of(tmp_path / "whole")
    whole, again = (load_file(tmp_path / run / "router.safetensors") for run in ("whole", "stopped"))
    assert whole.keys() == again.keys()
    for key, tensor in whole.items():
        assert torch.equal(torch.nan_to_num(tensor), torch.nan_to_num(again[key])), key
    assert {path.name: path.read_bytes() for path in (folder / "model").iterdir()} == model_before
    kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kinds == {".json", ".csv", ".safetensors", ".md"}
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("B's per token") == 4


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_the_hard_budget_is_met_on_held_out_training_text(name, folder, tmp_path):
    config = router_config(folder, name, out=str(tmp_path / "r"), tokens=12 * 4 * N_POSITIONS, budget=1.3, holdouts=())
    train_router(config)
    prepared = prepare(config)
    record = json.loads((tmp_path / "r" / "router.json").read_text())
    as_trained = record["calibration"]["how"] == "none"
    router = read_router(f"{tmp_path / 'r'}@calibrated" if as_trained else tmp_path / "r")
    skip, fingerprint = SkipReading.FFN, prepared.checkpoint.fingerprint
    mask_NL = np.concatenate(list(route(router, prepared.module, prepared.held, skip, fingerprint)))
    assert big_per_token(mask_NL) == pytest.approx(1.3, rel=0.02)
    if as_trained:
        assert record["calibration"]["budget_after"] == record["calibration"]["budget_before"]
        assert record["calibrated"]["how"] == "layer"
    else:
        assert record["calibration"]["budget_after"] == pytest.approx(big_per_token(mask_NL))
    if "layer" in (record["calibration"]["how"], record.get("calibrated", {}).get("how")):
        assert (mask_NL == Branch.BIG).mean(axis=0) == pytest.approx(np.full(N_LAYERS, 1.3 / N_LAYERS), rel=0.05)
    tensors = load_file(tmp_path / "r" / "router.safetensors")
    assert tensors["training/usage"].shape == (12, N_LAYERS)
    early = [read_router(f"{tmp_path / 'r'}@{step}") for step in (3, 6)]
    assert not torch.equal(early[0].maps.weight_LKD, early[1].maps.weight_LKD)
    assert not torch.equal(early[1].maps.weight_LKD, router.maps.weight_LKD)


@pytest.mark.parametrize("name", ["expert_choice", "expert_threshold"])
def test_expert_routers_choose_by_the_cutoffs_of_their_training(name, folder, tmp_path):
    config = router_config(folder, name, out=str(tmp_path / "r"), tokens=12 * 4 * N_POSITIONS, budget=1.3)
    train_router(config)
    tensors = load_file(tmp_path / "r" / "router.safetensors")
    assert torch.equal(tensors["cutoff"], tensors["uncalibrated/cutoff"])
    assert not torch.equal(tensors["cutoff"], tensors["calibrated/cutoff"])
    last = tensors["training/batch_cutoff"][-4:].mean(dim=0)  # near the last batches' own, as an average of them is
    assert torch.allclose(tensors["cutoff"], last, atol=0.2)
    prepared, record = prepare(config), json.loads((tmp_path / "r" / "router.json").read_text())
    fingerprint = prepared.checkpoint.fingerprint
    masks = [
        np.concatenate(
            list(route(read_router(f"{tmp_path / 'r'}{variant}"), prepared.module, prepared.held, SkipReading.FFN, fingerprint))
        )
        for variant in ("", "@calibrated")
    ]
    assert record["calibration"]["budget_after"] == pytest.approx(big_per_token(masks[0]))
    (evaluation,), (again,) = record["evaluation"].values(), record["calibrated"]["evaluation"].values()
    assert evaluation["tokens"] == again["tokens"]
    assert evaluation["usage_L"] != again["usage_L"]
    assert torch.isnan(tensors["training/passed"][0]).all()
    assert tensors["training/passed"][1:].isfinite().all()
    assert tensors["training/held"][1:].isfinite().all() == (name == "expert_threshold")


def test_the_budget_router_is_better_than_random_routing_of_its_budget(folder, tmp_path):
    config = router_config(
        folder, "budget", out=str(tmp_path / "r"), tokens=60 * 8 * N_POSITIONS, batch=8, learning_rate=0.05, holdouts=()
    )
    train_router(config)
    prepared, router = prepare(config), read_router(tmp_path / "r")
    trained = evaluate_router(router, prepared.module, prepared.held, SkipReading.FFN)
    drawn = evaluate_router(read_router("random:1"), prepared.module, prepared.held, SkipReading.FFN)
    assert trained.budget == pytest.approx(drawn.budget, rel=0.02)
    assert sum(trained.usage_L) == pytest.approx(trained.budget, abs=1e-3)
    assert trained.loss < drawn.loss - 0.02


@pytest.mark.parametrize("branches", [".B", ".sB"])
def test_routers_with_skips_train_under_either_reading(branches, folder, tmp_path):
    config = router_config(
        folder,
        "budget",
        out=str(tmp_path / "r"),
        branches=branches,
        skip=SkipReading.LAYER,
        tokens=4 * 4 * N_POSITIONS,
        holdouts=(),
    )
    train_router(config)
    router = read_router(tmp_path / "r")
    assert router.skip is SkipReading.LAYER
    assert "".join(branch.letter for branch in router.branches) == branches


def planted_labels(module, weight_LD: torch.Tensor, bias_L: torch.Tensor, n: int, noise: float, seed: int) -> list[PatternLabels]:
    """Losses that are a sum over layers of effects linear in the hidden state, with noise of the whole loss."""
    generator = np.random.default_rng(seed)
    task = Task(N_LAYERS, N_HIDDEN, (Branch.SMALL, Branch.BIG), 1.0, 1)
    found = []
    patterns_PL = np.array(np.meshgrid(*[[1, 2]] * N_LAYERS)).reshape(N_LAYERS, -1).T.astype(np.uint8)
    for _ in range(n):
        token_ids = generator.integers(0, N_VOCABULARY, N_POSITIONS).astype(np.int32)
        context_TL = generator.integers(1, 3, (N_POSITIONS - 1, N_LAYERS)).astype(np.uint8)
        one = PatternLabels(token_ids, context_TL, np.zeros(0, np.int64), np.zeros((0, N_LAYERS), np.uint8), np.zeros(0))
        x_TLD = distilled.states_of(one, module, task, SkipReading.FFN, None)
        effect_TL = ((x_TLD * weight_LD).sum(-1) + bias_L).double().numpy()
        n_tokens = N_POSITIONS - 1
        position_R = np.repeat(np.arange(n_tokens), len(patterns_PL))
        branches_RL = np.tile(patterns_PL, (n_tokens, 1))
        loss_R = 3 + (effect_TL[position_R] * (branches_RL == 2)).sum(1) + noise * generator.standard_normal(len(position_R))
        found.append(replace(one, position_R=position_R, branches_RL=branches_RL, loss_R=loss_R))
    return found


def test_distilled_finds_effects_that_were_planted(folder):
    module = prepare(router_config(folder, "budget")).module
    generator = torch.Generator().manual_seed(3)
    weight_LD, bias_L = torch.randn(N_LAYERS, N_HIDDEN, generator=generator) * 0.2, torch.tensor([0.1, -0.2, 0.3])
    labels = planted_labels(module, weight_LD, bias_L, 40, noise=0.2, seed=4)
    task = Task(N_LAYERS, N_HIDDEN, (Branch.SMALL, Branch.BIG), 1.0, 1)
    maps, how, report = distilled.fit(task, distilled.Settings(rounds=1), module, labels, SkipReading.FFN, 0)
    assert how == "pooled"
    assert torch.allclose(maps.weight_LKD[:, 1], -weight_LD, atol=0.05)
    assert torch.allclose(maps.bias_LK[:, 1], -bias_L, atol=0.05)
    assert report["held_out_r2"] > 0.9
    assert report["patterns"] == 40 * 15 * 8


def test_tuning_begins_where_distilling_ends(folder, tmp_path):
    module = prepare(router_config(folder, "budget")).module
    generator = torch.Generator().manual_seed(5)
    weight_LD, bias_L = torch.randn(N_LAYERS, N_HIDDEN, generator=generator) * 0.2, torch.zeros(N_LAYERS)
    labels = planted_labels(module, weight_LD, bias_L, 20, noise=0.1, seed=6)
    config = router_config(folder, "distilled", out=str(tmp_path / "plain"), tokens=2 * 4 * N_POSITIONS, holdouts=())
    train_router(config, labels)
    still = replace(config, out=str(tmp_path / "tuned"), settings={"tune": "yes"}, learning_rate=1e-9)
    train_router(still, labels)
    held, fingerprint = prepare(config).held, prepare(config).checkpoint.fingerprint
    plain, tuned = (
        np.concatenate(list(route(read_router(tmp_path / name), module, held, SkipReading.FFN, fingerprint)))
        for name in ("plain", "tuned")
    )
    assert (plain == tuned).mean() > 0.99


def test_effects_of_a_token_are_those_of_its_patterns_and_weigh_what_they_say():
    task = Task(3, 4, (Branch.SMALL, Branch.BIG), 1.0, 1)
    effect_L = np.array([0.5, -1.0, 0.25])
    token_ids, context_TL = np.zeros(4, np.int32), np.ones((3, 3), np.uint8)
    branches_RL = np.array([[1, 1, 1], [2, 1, 1], [1, 2, 1], [1, 1, 2], [2, 2, 1], [2, 2, 1]], dtype=np.uint8)
    position_R = np.array([0, 0, 0, 0, 2, 1])  # all effects of token 0; nothing of tokens 1 and 2, with one pattern each
    loss_R = 2 + ((branches_RL == 2) * effect_L).sum(1)
    effects = distilled.token_effects(PatternLabels(token_ids, context_TL, position_R, branches_RL, loss_R), task)
    effect_TLK, weight_TLK = effects.effect_TLK, effects.weight_TLK
    assert effect_TLK[0, :, 1] == pytest.approx(effect_L)
    assert weight_TLK[0, :, 1] == pytest.approx(np.ones(3))
    assert not weight_TLK[1:].any()
    tied = PatternLabels(token_ids, context_TL, position_R, branches_RL, np.full(6, 2.0))
    assert not distilled.token_effects(tied, task).effect_TLK.any()


def test_a_stream_is_split_by_whole_documents_and_none_is_on_both_sides():
    stream = np.concatenate([np.array([*([i + 1] * ((i + 3) % 5 + 1)), 0]) for i in range(50)]).astype(np.uint32)
    trained, held = split_stream(stream, separator=0)
    assert [int(document[0]) for document in held] == [1, 21, 41]
    assert not {1, 21, 41} & set(trained.tolist())
    assert len(documents_of(stream, 0)) == 40  # ten are one token long: nothing to predict
    few = np.array([5] * 50 + [0] + [6] * 49 + [0])
    trained, held = split_stream(few, separator=0)
    assert len(trained) == 96
    assert held[0].tolist() == [6] * 4 + [0]
    sequences = calibration_sequences([[np.arange(100)], [np.arange(1000, 1040)]], 0, 16, 64, seed=0)
    assert [len(sequence.token_ids) for sequence in sequences] == [16] * 4
    assert [bool(sequence.token_ids[0] >= 1000) for sequence in sequences] == [False, False, True, True]
    (short,) = calibration_sequences([[np.arange(1, 8)]], 0, 16, 64, seed=0)
    assert short.token_ids.tolist() == [*range(1, 8), 0]


def test_texts_of_one_document_are_on_one_side_of_the_split():
    stream = np.concatenate([[i + 1, i + 1, 0] for i in range(60)]).astype(np.uint32)
    document_R = np.arange(60) // 2
    trained, held = split_stream(stream, 0, document_R)
    assert [int(text[0]) for text in held] == [1, 2, 41, 42]
    assert not {1, 2, 41, 42} & set(trained.tolist())
    assert len(split_stream(stream, 0, document_R // 2)[1]) == 1  # fifteen documents: the last twentieth


def test_documents_are_numbered_by_name(tmp_path):
    rows = [{"text": "a b", "document": name} for name in ("x", "y", "x", "z")] + [{"text": "c d"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert document_numbers(str(tmp_path / "a.jsonl")).tolist() == [0, 1, 0, 2, 3]


def test_the_rate_rises_and_falls_to_a_tenth(folder):
    config = router_config(folder, "budget", learning_rate=1.0, warmup=0.1)
    rates = [cosine_rate(step, 100, config.learning_rate, config.warmup) for step in range(100)]
    assert rates[9] == max(rates) == 1.0
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"router": "bugdet"}, "unknown trained router 'bugdet'; did you mean 'budget'?"),
        ({"router": "random"}, "unknown trained router 'random'"),
        ({"router": "distilled"}, "router distilled learns from an oracle's losses; name search runs on training text with `run`"),
        ({"budget": 3.0}, "`budget` must lie between 0 and the model's 3 layers, both excluded; got 3"),
        ({"budget": -1.0}, "`budget` must lie between 0 and the model's 3 layers, both excluded; got -1"),
        ({"branches": "s"}, "a router chooses between B and at least one other branch; got branches 's'"),
        ({"branches": ".sB", "router": "expert_choice"}, "an expert that is on or off chooses between two branches; got 3"),
        ({"calibrate": "often"}, "unknown calibration 'often'; available: pooled, layer, none"),
        (
            {"settings": {"alhpa": "1"}},
            "unknown setting of router budget 'alhpa'; did you mean 'alpha'. available: alpha, sh",
        ),
        ({"settings": {"alpha": "much"}}, "setting alpha of router budget is a number; got 'much'"),
        ({"settings": {"sharpness": "0.5"}}, "setting sharpness of router budget must lie between 1 and 10000; got 0.5"),
        ({"text": ()}, "training needs at least one text file; got none"),
        ({"tokens": 0}, "`tokens` must be at least 1; got 0"),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0; got 0.0"),
        ({"warmup": 2.0}, "`warmup` must lie between 0 and 1; got 2.0"),
        ({"model": "nowhere"}, "there is no 'nowhere'"),
        ({"holdouts": ("holdout:verse",)}, "unknown holdout 'holdout:verse'"),
    ],
)
def test_bad_options_are_refused(change, message, folder, tmp_path):
    config = router_config(folder, "budget", out=str(tmp_path / "r"))
    with pytest.raises(ValueError, match=message) as fault:
        train_router(replace(config, **change))
    assert "\n" not in str(fault.value)
    assert not (tmp_path / "r" / "router.json").exists()


def test_progress_of_other_options_and_other_models_are_refused(folder, tmp_path):
    config = router_config(folder, "budget", out=str(tmp_path / "r"), tokens=2 * 4 * N_POSITIONS, holdouts=())
    train_router(config)
    with pytest.raises(ValueError, match=r"holds training with budget 1\.0, so it cannot go on with 2\.0"):
        train_router(replace(config, budget=2.0))
    write_toy(tmp_path / "toy", n_vocabulary=280, tokenizer=True)
    with pytest.raises(ValueError, match="models of type 'toy' can be searched, but no router runs on them"):
        train_router(replace(config, model=str(tmp_path / "toy"), out=str(tmp_path / "other")))
    with pytest.raises(ValueError, match="router budget learns from text alone"):
        train_router(replace(config, out=str(tmp_path / "other")), labels=[])
    with pytest.raises(ValueError, match="the runs hold none"):
        train_router(replace(config, router="distilled", out=str(tmp_path / "other")), labels=[])


def test_settings_are_read_as_the_types_of_their_defaults():
    assert read_settings("router budget", BudgetSettings, {"alpha": "3"}) == BudgetSettings(alpha=3.0)
    assert read_settings("router token_choice", TokenSettings, {"balance": "none"}).balance == "none"
    with pytest.raises(ValueError, match="unknown setting balance of router token_choice 'fair'"):
        read_settings("router token_choice", TokenSettings, {"balance": "fair"})


@pytest.mark.parametrize("name", trainable_routers())
def test_the_listed_settings_are_those_of_the_class_and_each_says_what_it_does(name):
    source = ROUTERS.source(name)
    assert source is not None
    listed = listed_settings(source)
    assert list(listed) == [f"{key}={value}" for key, value in vars(router_module(name).Settings()).items()]
    assert all(listed.values())


def test_a_model_without_a_tokenizer_is_refused(folder, tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "model" / name).write_bytes((folder / "model" / name).read_bytes())
    assert read_checkpoint(str(tmp_path / "model")).tokenizer_json is None
    with pytest.raises(ValueError, match=r"the model must have a tokenizer\.json"):
        train_router(router_config(folder, "budget", model=str(tmp_path / "model"), out=str(tmp_path / "r")))
