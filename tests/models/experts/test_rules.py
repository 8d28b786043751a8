"""The rules of expert routing, with an expert axis, held equal to plain loops over lists."""

from __future__ import annotations

import pytest
import torch

from duo_oracle.models.experts.rules import (
    capacity_bounds,
    default_beta,
    default_u,
    kth_largest,
    move_bias,
    move_cutoffs,
    over_cutoffs,
    top_k,
)

N_EXPERTS, N_TOKENS, K = 5, 24, 6


def drifting_logits(step: int) -> torch.Tensor:
    """logit_EN whose level wanders, so that cutoffs lag behind it on both sides."""
    generator = torch.Generator().manual_seed(step)
    drift_E = torch.tensor([0.0, 0.2, -0.2, 1.5, -1.5]) * (step if step < 8 else 16 - step)
    return torch.randn(N_EXPERTS, N_TOKENS, generator=generator) + drift_E[:, None]


@pytest.mark.parametrize(("beta", "capacity"), [(0.5, 0.5), (0.9, 0.25), (0.99, None)])
def test_thresholds_with_an_expert_axis_follow_the_plain_loop(beta: float, capacity: float | None) -> None:
    average_E, n_averaged, cutoff_E = torch.zeros(N_EXPERTS), torch.zeros(()), torch.zeros(N_EXPERTS)
    average, cutoff = [0.0] * N_EXPERTS, [0.0] * N_EXPERTS
    held = {"fewer": 0, "more": 0}
    bounds = None if capacity is None else capacity_bounds(K, capacity, N_TOKENS)
    for step in range(16):
        logit_EN = drifting_logits(step)
        chosen_EN = over_cutoffs(logit_EN, cutoff_E, bounds)
        for expert, row in enumerate(logit_EN.tolist()):
            order = sorted(range(N_TOKENS), key=lambda token, row=row: -row[token])
            n = sum(value > cutoff[expert] for value in row)
            if capacity is not None:
                least, most = int((1 - capacity) * K), int((1 + capacity) * K)
                held["fewer"] += n < least
                held["more"] += n > most
                n = min(max(n, least), most)
            assert chosen_EN[expert].nonzero().flatten().tolist() == sorted(order[:n]), (step, expert)
            average[expert] = beta * average[expert] + (1 - beta) * row[order[K - 1]]
            cutoff[expert] = average[expert] / (1 - beta ** (step + 1))
        move_cutoffs(average_E, n_averaged, cutoff_E, kth_largest(logit_EN, K), beta)
        assert cutoff_E.tolist() == pytest.approx(cutoff, abs=1e-4)
    assert capacity is None or min(held.values()) > 0


def test_each_expert_takes_its_k_largest() -> None:
    logit_EN = drifting_logits(3)
    chosen_EN = top_k(logit_EN, K)
    for expert, row in enumerate(logit_EN.tolist()):
        order = sorted(range(N_TOKENS), key=lambda token, row=row: -row[token])
        assert chosen_EN[expert].nonzero().flatten().tolist() == sorted(order[:K])
    assert not top_k(logit_EN, 0).any()
    assert kth_largest(logit_EN, K).tolist() == [sorted(row, reverse=True)[K - 1] for row in logit_EN.tolist()]


def test_the_bias_of_loss_free_balance_moves_towards_the_target() -> None:
    bias_E = torch.tensor([0.5, 0.0, -0.5])
    move_bias(bias_E, torch.tensor([0.5, 0.25, 0.0]), torch.full((3,), 0.25), 0.125)
    assert bias_E.tolist() == [0.375, 0.0, -0.375]


def test_capacity_is_cut_to_whole_tokens_of_the_pool() -> None:
    assert capacity_bounds(341, 0.5, 1024) == (170, 511)
    assert capacity_bounds(3, 2.0, 8) == (0, 8)


def test_decay_and_step_are_scaled_to_the_run() -> None:
    assert default_beta(1_000_000) == 0.999
    assert default_beta(400) == pytest.approx(0.9)
    assert default_beta(10) == 0.5
    assert default_u(2_000) == 0.005
    assert default_u(5) == 0.5
