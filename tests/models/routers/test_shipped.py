"""The routers that ship with duo-tiny: of that very model, at their budget, and doing what their records say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from duo_oracle.models.checkpoint import SHIPPED, read_checkpoint
from duo_oracle.models.duo_llm.module import DuoLlama
from duo_oracle.models.families.duo_llama import build_module
from duo_oracle.models.router import read_router, shipped_routers
from duo_oracle.models.router_training.calibration import evaluate_router
from duo_oracle.models.routing import route
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import Window, read_sequences
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch


@pytest.fixture(scope="module")
def duo_tiny() -> tuple[DuoLlama, str, list[Window]]:
    checkpoint = read_checkpoint("duo-tiny")
    module = build_module(checkpoint.config, checkpoint.tensors)
    tokenizer = load_tokenizer(checkpoint.tokenizer_json or "")
    return module, checkpoint.fingerprint, list(read_sequences("holdout:prose", tokenizer, 4096, 256, per_document=1))


def record_of(name: str) -> dict:
    model, _, router = name.partition("/")
    return json.loads((SHIPPED[model] / "routers" / router / "router.json").read_text())


def test_every_kind_of_router_ships_at_three_budgets():
    for kind in ("budget", "token_choice", "expert_choice", "expert_threshold", "distilled"):
        for budget in (4, 6, 8):
            assert f"duo-tiny/{kind}-{budget}" in shipped_routers()


@pytest.mark.parametrize("name", shipped_routers())
def test_a_shipped_router_routes_the_shipped_model_with_its_branches(name, duo_tiny):
    module, fingerprint, sequences = duo_tiny
    router = read_router(name)
    assert router.fingerprint == fingerprint
    assert router.budget == float(name.rpartition("-")[2])
    (mask_TL,) = route(router, module, sequences[:1], SkipReading.FFN, fingerprint)
    assert set(np.unique(mask_TL)) <= set(router.branches)
    assert abs((mask_TL == Branch.BIG).sum(axis=1).mean() - router.budget) < 1.5
    assert torch.isfinite(router.maps.weight_LKD).all()


@pytest.mark.parametrize("name", shipped_routers())
def test_its_record_says_that_it_met_its_budget_on_prose(name):
    """Experts as trained, with no cutoff set for the text, less nearly than those that are calibrated on novels."""
    record = record_of(name)
    as_trained = record["calibration"]["how"] == "none"
    assert record["evaluation"]["holdout:prose"]["tokens"] > 30_000
    assert record["evaluation"]["holdout:prose"]["budget"] == pytest.approx(record["budget"], rel=0.06 if as_trained else 0.02)


@pytest.mark.parametrize("name", [f"{kind}-{budget}" for kind in ("expert_choice", "expert_threshold") for budget in (4, 6, 8)])
def test_experts_use_every_layer_at_its_target_rate_on_text_like_that_of_their_training(name):
    record = record_of(f"duo-tiny/{name}")
    assert record["calibration"]["how"] == "none"
    assert record["calibration"]["usage_L"] == pytest.approx([record["budget"] / 12] * 12, rel=0.1)


@pytest.mark.long
def test_the_best_shipped_router_is_better_than_random_routing_of_its_budget(duo_tiny):
    module, _, sequences = duo_tiny
    for name in ("budget-4", "budget-6", "distilled-8"):
        budget = name[-1]
        drawn = evaluate_router(read_router(f"random:{budget}"), module, sequences, SkipReading.FFN)
        trained = evaluate_router(read_router(f"duo-tiny/{name}"), module, sequences, SkipReading.FFN)
        assert trained.loss < drawn.loss
