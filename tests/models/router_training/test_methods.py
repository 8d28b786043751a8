"""The update rules of the trained routers, held equal to plain Python loops over lists; and the forward pass they learn in."""

from __future__ import annotations

import math

import pytest
import torch

from duo_oracle.models.router_training.method import Task, big_or_small, straight_through
from duo_oracle.models.router_training.mixture import mixed_logits
from duo_oracle.models.routers.budget import Budget
from duo_oracle.models.routers.budget import Settings as BudgetSettings
from duo_oracle.models.routers.expert_choice import ExpertChoice
from duo_oracle.models.routers.expert_choice import Settings as ChoiceSettings
from duo_oracle.models.routers.expert_threshold import ExpertThreshold
from duo_oracle.models.routers.expert_threshold import Settings as ThresholdSettings
from duo_oracle.models.routers.token_choice import Settings as TokenSettings
from duo_oracle.models.routers.token_choice import TokenChoice
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch
from tests.models.router_fixtures import N_HIDDEN, N_LAYERS, N_VOCABULARY, write_model, write_text

TWO, THREE = (Branch.SMALL, Branch.BIG), tuple(Branch)


def states(seed: int, n_batch: int = 2, n_tokens: int = 10) -> list[torch.Tensor]:
    """x_BTD of every layer."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n_batch, n_tokens, N_HIDDEN, generator=generator) for _ in range(N_LAYERS)]


def with_weights(method, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        method.weight_LKD.copy_(torch.randn(method.weight_LKD.shape, generator=generator))
        method.bias_LK.copy_(torch.randn(method.bias_LK.shape, generator=generator))
    return method


def logit_lists(method, x_LBTD) -> list[list[list[float]]]:
    """logits[layer][token][branch] by sums of products."""
    weights, biases = method.weight_LKD.tolist(), method.bias_LK.tolist()
    return [
        [
            [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weights[layer], biases[layer], strict=True)]
            for x in x_BTD.flatten(0, 1).tolist()
        ]
        for layer, x_BTD in enumerate(x_LBTD)
    ]


def shares(method, x_LBTD, step: int) -> list[list[list[float]]]:
    """share[layer][token][branch] of a training step."""
    return [method.mix(layer, x_BTD, step).detach().flatten(0, 1).tolist() for layer, x_BTD in enumerate(x_LBTD)]


def ranked(values: list[float]) -> list[int]:
    return sorted(range(len(values)), key=lambda place: -values[place])


def test_expert_choice_takes_the_top_k_tokens_of_the_batch_at_every_layer():
    method = with_weights(ExpertChoice(Task(N_LAYERS, N_HIDDEN, TWO, 1.05, 5), ChoiceSettings()))
    x_LBTD = states(1)
    found = shares(method, x_LBTD, 0)
    for layer, rows in enumerate(logit_lists(method, x_LBTD)):
        ahead = [big - small for small, big in rows]
        taken = set(ranked(ahead)[: round(20 * 1.05 / N_LAYERS)])
        assert found[layer] == [[0.0, 1.0] if token in taken else [1.0, 0.0] for token in range(20)]


@pytest.mark.parametrize("pooled", [False, True])
def test_expert_threshold_follows_the_plain_loop(pooled):
    n_steps, budget, beta, capacity = 12, 1.05, 0.8, 0.5
    settings = ThresholdSettings(cutoff="pooled" if pooled else "layer", beta=beta, warmup=0.25, capacity=capacity)
    method = with_weights(ExpertThreshold(Task(N_LAYERS, N_HIDDEN, TWO, budget, n_steps), settings))
    k = round(20 * budget / N_LAYERS)
    average, cutoff = [0.0] * N_LAYERS, [0.0] * N_LAYERS
    clamped = 0
    for step in range(n_steps):
        # the third state of affairs, all logits lower or higher, makes the clamp work from both sides
        shift = {5: -4.0, 6: 4.0}.get(step, 0.0)
        with torch.no_grad():
            method.bias_LK[:, 1] += shift
        x_LBTD = states(step)
        found = shares(method, x_LBTD, step)
        kth = []
        everything: list[float] = []
        for layer, rows in enumerate(logit_lists(method, x_LBTD)):
            ahead = [big - small for small, big in rows]
            order = ranked(ahead)
            if step < 3:
                taken = set(order[:k])
            else:
                above = [token for token in range(20) if ahead[token] > cutoff[layer]]
                n = len(above)
                if not pooled:
                    n = min(max(n, int((1 - capacity) * k)), int((1 + capacity) * k))
                clamped += n != len(above)
                taken = set(order[:n])
            assert found[layer] == [[0.0, 1.0] if token in taken else [1.0, 0.0] for token in range(20)], (step, layer)
            assert method.usage_SL[step, layer].item() == pytest.approx(len(taken) / 20)
            assert method.cutoff_SL[step, layer].item() == pytest.approx(cutoff[layer], abs=1e-5)
            over = sum(value > cutoff[layer] for value in ahead)
            if step:  # counted before warm-up and capacity change it
                assert method.passed_SL[step, layer].item() == pytest.approx(over / 20)
            within = int((1 - capacity) * k) <= over <= int((1 + capacity) * k)
            if step and not pooled:
                assert (method.held_SL[step, layer].item() == 0) == within
            else:
                assert math.isnan(method.held_SL[step, layer].item())
            kth.append(sorted(ahead, reverse=True)[k - 1])
            everything += ahead
        method.finish(step)
        assert method.batch_cutoff_SL[step].tolist() == pytest.approx(kth, abs=1e-5)
        if pooled:
            kth = [sorted(everything, reverse=True)[round(60 * budget / N_LAYERS) - 1]] * N_LAYERS
        for layer in range(N_LAYERS):
            average[layer] = beta * average[layer] + (1 - beta) * kth[layer]
            cutoff[layer] = average[layer] / (1 - beta ** (step + 1))
        assert method.maps().cutoff_L.tolist() == pytest.approx(cutoff, abs=1e-4)
        with torch.no_grad():
            method.bias_LK[:, 1] -= shift
    assert (clamped > 0) != pooled


def test_loss_free_token_choice_follows_the_plain_loop():
    budget, u = 1.23, 0.3  # no share of 20 tokens is exactly at a target
    method = with_weights(TokenChoice(Task(N_LAYERS, N_HIDDEN, THREE, budget, 8), TokenSettings(u=u)))
    target = [(1 - budget / N_LAYERS) / 2] * 2 + [budget / N_LAYERS]
    bias = [[0.0] * 3 for _ in range(N_LAYERS)]
    for step in range(8):
        x_LBTD = states(step)
        found = shares(method, x_LBTD, step)
        for layer, rows in enumerate(logit_lists(method, x_LBTD)):
            taken = [max(range(3), key=lambda k, row=row, layer=layer: row[k] + bias[layer][k]) for row in rows]
            assert found[layer] == [[float(k == choice) for k in range(3)] for choice in taken]
            for k in range(3):
                use = taken.count(k) / 20
                bias[layer][k] += u * ((target[k] > use) - (target[k] < use))
        assert method.penalty().item() == 0.0
        method.finish(step)
        maps = method.maps()
        added = (maps.bias_LK - method.bias_LK).tolist()
        assert [value for row in added for value in row] == pytest.approx([value for row in bias for value in row], abs=1e-5)


def test_the_balance_loss_of_token_choice_is_alpha_times_use_times_probability():
    budget, alpha = 1.5, 0.7
    settings = TokenSettings(balance="aux", alpha=alpha)
    method = with_weights(TokenChoice(Task(N_LAYERS, N_HIDDEN, TWO, budget, 8), settings))
    x_LBTD = states(3)
    shares(method, x_LBTD, 0)
    total = 0.0
    for rows in logit_lists(method, x_LBTD):
        use, probability = [0.0, 0.0], [0.0, 0.0]
        for small, big in rows:
            use[int(big > small)] += 1 / 20
            p_big = 1 / (1 + math.exp(small - big))
            probability = [probability[0] + (1 - p_big) / 20, probability[1] + p_big / 20]
        total += sum(f * p / 0.5 for f, p in zip(use, probability, strict=True))  # 1.5 of 3 layers: equal targets
    assert method.penalty().item() == pytest.approx(alpha * total / N_LAYERS, rel=1e-4)
    method.finish(0)
    assert torch.equal(method.maps().bias_LK, method.bias_LK)


def test_the_budget_router_mixes_by_softmax_and_pays_for_the_whole_sequence():
    task = Task(N_LAYERS, N_HIDDEN, THREE, 1.2, 11)
    method = with_weights(Budget(task, BudgetSettings(alpha=5.0, sharpness=6.0)))
    x_LBTD = states(4)
    found = shares(method, x_LBTD, 4)
    big = []
    for layer, rows in enumerate(logit_lists(method, x_LBTD)):
        for token, row in enumerate(rows):
            powers = [math.exp(value * (1 + 5 * 4 / 10)) for value in row]
            assert found[layer][token] == pytest.approx([power / sum(powers) for power in powers], abs=1e-4)
            big.append(powers[-1] / sum(powers))
    assert method.penalty().item() == pytest.approx(5.0 * (sum(big) / len(big) - 1.2 / N_LAYERS) ** 2, rel=1e-3)
    fresh = Budget(task, BudgetSettings())
    assert shares(fresh, x_LBTD, 0)[0][0][-1] == pytest.approx(1.2 / N_LAYERS, abs=1e-5)


def test_the_bias_step_is_scaled_to_the_run_and_balances_a_short_one():
    """Sixty steps, as the shipped routers once had, on logits that all favour big by two: the paper's 0.005 moves them nowhere."""
    task = Task(N_LAYERS, N_HIDDEN, TWO, 1.0, 60)
    use = {}
    for u in (0.005, 0.0):
        method = TokenChoice(task, TokenSettings(u=u))
        with torch.no_grad():
            method.bias_LK[:, 1] = 2.0
            method.weight_LKD.copy_(torch.randn(method.weight_LKD.shape, generator=torch.Generator().manual_seed(1)) * 0.2)
        for step in range(60):
            shares(method, states(step), step)
            method.finish(step)
        use[u] = method.usage_SL[-10:].mean().item()
    assert use[0.005] > 0.8
    assert use[0.0] == pytest.approx(1 / N_LAYERS, abs=0.1)


def test_the_cutoffs_that_training_ends_with_are_the_router_of_experts():
    assert ExpertChoice(Task(N_LAYERS, N_HIDDEN, TWO, 1.0, 5), ChoiceSettings()).calibration == "none"
    for cutoff, repair in (("layer", "layer"), ("pooled", "pooled")):
        method = ExpertThreshold(Task(N_LAYERS, N_HIDDEN, TWO, 1.0, 5), ThresholdSettings(cutoff=cutoff))
        assert (method.calibration, method.repair) == ("none", repair)


def test_one_expert_needs_two_branches():
    with pytest.raises(ValueError, match="chooses between two branches; got 3"):
        ExpertChoice(Task(N_LAYERS, N_HIDDEN, THREE, 1.0, 5), ChoiceSettings())


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_straight_through_gate_is_one_going_forward_and_passes_its_gradient_where_it_should(everywhere):
    gate = torch.tensor([[0.2, 0.9, 0.6]], requires_grad=True)
    big = torch.tensor([[True, False, True]])
    share_BTK = big_or_small(big, gate, everywhere)
    assert share_BTK.tolist() == [[[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]]
    share_BTK[..., 1].sum().backward()
    assert gate.grad.tolist() == [[1.0, 1.0, 1.0] if everywhere else [1.0, 0.0, 1.0]]
    soft = torch.tensor([0.3, 0.7], requires_grad=True)
    hard = straight_through(torch.tensor([0.0, 1.0]), soft)
    assert hard.tolist() == [0.0, 1.0]


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    return write_model(folder / "model", write_text(folder / "text.jsonl"))


@pytest.mark.parametrize("skip", list(SkipReading))
@pytest.mark.parametrize("branches", [TWO, (Branch.SKIP, Branch.BIG), THREE])
@pytest.mark.parametrize("everywhere", [True, False])
def test_a_mixture_of_zeros_and_ones_is_the_plain_forward_pass(module, branches, skip, everywhere):
    generator = torch.Generator().manual_seed(0)
    token_id_BT = torch.randint(0, N_VOCABULARY, (2, 12), generator=generator)
    place_BTL = torch.randint(0, len(branches), (2, 12, N_LAYERS), generator=generator)
    mask_BTL = torch.tensor([int(branch) for branch in branches])[place_BTL]

    def mix(layer, x_BTD):
        return torch.nn.functional.one_hot(place_BTL[:, :, layer], len(branches)).to(x_BTD.dtype)

    mixed_BTV = mixed_logits(module, token_id_BT, mix, branches, skip, everywhere)
    assert torch.allclose(mixed_BTV, module(token_id_BT, mask_BTL, skip), atol=2e-4)


def test_a_half_and_half_layer_is_the_mean_of_its_branches(module):
    """Of the last layer, because what follows it is the head alone."""
    token_id_BT = torch.randint(0, N_VOCABULARY, (1, 8), generator=torch.Generator().manual_seed(1))
    seen = []
    last = module.model.layers[-1]

    def mix(layer, x_BTD):
        seen.append(x_BTD)
        share = 0.5 if layer == N_LAYERS - 1 else 1.0
        return torch.tensor([1 - share, share]).expand(*x_BTD.shape[:2], 2)

    normed = []
    handle = module.model.norm.register_forward_pre_hook(lambda _, inputs: normed.append(inputs[0]))
    mixed_logits(module, token_id_BT, mix, TWO)
    module(token_id_BT, torch.full((1, 8, N_LAYERS), 2))
    handle.remove()
    mixed, big = normed
    small_less_big = last.small_mlp(seen[-1]) - last.mlp(seen[-1])
    assert torch.allclose(mixed, big + 0.5 * small_less_big, atol=1e-4)
