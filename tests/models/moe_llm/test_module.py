"""The mixture of experts: held to a plain loop over tokens and experts; causal; routed in training as another program does."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from duo_oracle.models.families.moe_llama import build, build_module, random_checkpoint, random_tensors
from duo_oracle.models.moe_llm.config import MoeLlamaConfig
from duo_oracle.models.moe_llm.export import exported
from duo_oracle.models.moe_llm.module import Mixture, MoeLlama
from duo_oracle.models.moe_llm.routing import balance_loss, move_gate, training_choice
from duo_oracle.models.testing.families import walked_logits
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch

SMALL = MoeLlamaConfig(40, 16, 24, 3, 4, 2, 32, 4, granularity=2, expansion=3)
ROUTERS = ("token_choice", "expert_choice", "expert_threshold")


def model_of(**changes: object) -> MoeLlama:
    config = replace(SMALL, **changes)  # type: ignore[arg-type]
    return build_module(config.to_dict(), random_tensors(config, 3))


def tokens(n_batch: int = 2, n_tokens: int = 9) -> torch.Tensor:
    return torch.randint(0, 40, (n_batch, n_tokens), generator=torch.Generator().manual_seed(1))


def plain_mixture(mixture: Mixture, x: list[float]) -> list[float]:
    """What a mixture adds to one token, by loops and plain numbers, from its definition."""
    config, gate, experts = mixture.config, mixture.gate, mixture.experts

    def product(matrix: torch.Tensor, vector: list[float]) -> list[float]:
        return [sum(w * v for w, v in zip(row, vector, strict=True)) for row in matrix.tolist()]

    def swiglu(gate_matrix: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> list[float]:
        inner = [g / (1 + math.exp(-g)) * u for g, u in zip(product(gate_matrix, x), product(up, x), strict=True)]
        return product(down, inner)

    logit = product(gate.weight, x)
    if config.router == "token_choice":
        order = sorted(range(len(logit)), key=lambda e: -(logit[e] + gate.bias[e].item()))
        chosen = order[: config.granularity - int(config.shared_expert)]
    else:
        chosen = [e for e, value in enumerate(logit) if value > gate.cutoff[e].item()]
    total = [0.0] * len(x)
    for e in chosen:
        half = experts.gate_up_proj.shape[1] // 2
        out = swiglu(experts.gate_up_proj[e, :half], experts.gate_up_proj[e, half:], experts.down_proj[e])
        total = [a + b / (1 + math.exp(-logit[e])) for a, b in zip(total, out, strict=True)]
    shared = mixture.shared_experts
    if shared is not None:
        out = swiglu(shared.gate_proj.weight, shared.up_proj.weight, shared.down_proj.weight)
        total = [a + b for a, b in zip(total, out, strict=True)]
    return total


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("router", ROUTERS)
def test_a_mixture_is_the_sum_over_its_chosen_experts(router: str, shared: bool) -> None:
    module = model_of(router=router, shared_expert=shared)
    x_ND = torch.randn(6, 16, generator=torch.Generator().manual_seed(5))
    found_ND = module.ffn(1, Branch.BIG, x_ND)
    for x_D, found_D in zip(x_ND, found_ND, strict=True):
        assert found_D.tolist() == pytest.approx(plain_mixture(module.mixture(1), x_D.tolist()), abs=1e-4)
    small_ND = module.ffn(1, Branch.SMALL, x_ND) if shared else None
    assert small_ND is None or not torch.allclose(small_ND, found_ND)
    assert module.small_layers == ((1, 2) if shared else ())


@pytest.mark.parametrize("router", [*ROUTERS, "dense"])
def test_evaluation_is_causal_and_one_token_at_a_time_as_in_one_pass(router: str) -> None:
    config = replace(SMALL, router=router, dense_layers=0)
    model = build(config.to_dict(), random_tensors(config, 4), torch.float64, torch.device("cpu"))
    token_id_BT = tokens()
    all_own_BTL = torch.full((*token_id_BT.shape, 3), int(Branch.BIG), dtype=torch.uint8)
    logits_BTV = model.forward(token_id_BT, all_own_BTL, SkipReading.FFN)
    for row in range(2):
        walked_TV = walked_logits(model, token_id_BT[row], all_own_BTL[row], SkipReading.FFN)
        assert torch.allclose(walked_TV, logits_BTV[row], atol=1e-8)
    changed_BT = token_id_BT.clone()
    changed_BT[:, 6:] = (changed_BT[:, 6:] + 7) % 40
    again_BTV = model.forward(changed_BT, all_own_BTL, SkipReading.FFN)
    assert torch.allclose(again_BTV[:, :6], logits_BTV[:, :6], atol=1e-10)
    assert not torch.allclose(again_BTV[:, 6:], logits_BTV[:, 6:])
    module = build_module(config.to_dict(), random_tensors(config, 4)).double()
    assert torch.allclose(module.mixed_logits(token_id_BT), logits_BTV, atol=1e-8)


def test_expert_choice_as_it_is_trained_looks_at_later_tokens() -> None:
    module = model_of(router="expert_choice", dense_layers=0)
    token_id_BT = tokens()
    changed_BT = token_id_BT.clone()
    changed_BT[:, 6:] = (changed_BT[:, 6:] + 7) % 40

    def trained(ids_BT: torch.Tensor) -> torch.Tensor:
        return module.mixed_logits(ids_BT, lambda layer, logit_BTE: training_choice(module.mixture(layer), logit_BTE))

    assert not torch.allclose(trained(token_id_BT)[:, :6], trained(changed_BT)[:, :6], atol=1e-3)


@pytest.mark.parametrize(
    ("router", "pool", "balance"),
    [
        ("expert_threshold", "batch", "none"),
        ("expert_choice", "batch", "none"),
        ("expert_choice", "sequence", "none"),
        ("token_choice", "batch", "loss_free"),
        ("token_choice", "batch", "aux"),
    ],
)
def test_training_follows_the_plain_loop_with_an_expert_axis(router: str, pool: str, balance: str) -> None:
    """Choice, capacity, cutoffs, bias: of a layer of six experts, over twelve steps in which logits drift."""
    module = model_of(router=router, routing_pool=pool, balance=balance, capacity=0.5)
    mixture = module.mixture(1)
    gate, beta, u, n_batch, n_tokens, n_experts = mixture.gate, 0.75, 0.125, 2, 18, 6
    with torch.no_grad():
        for kept in (gate.cutoff, gate.cutoff_average, gate.bias):
            kept.zero_()
        gate.n_averaged.zero_()
    average, cutoff, bias = ([0.0] * n_experts for _ in range(3))
    clamped = 0
    for step in range(12):
        generator = torch.Generator().manual_seed(step)
        drift_E = torch.tensor([0.0, 0.5, -0.5, 1.0, -1.0, 0.2]) * (step % 5)
        logit_BTE = torch.randn(n_batch, n_tokens, n_experts, generator=generator) + drift_E
        warming = router == "expert_threshold" and step < 2
        chosen_BTE = training_choice(mixture, logit_BTE, warming)
        values = logit_BTE.tolist()
        places = [(b, t) for b in range(n_batch) for t in range(n_tokens)]
        pools = [[place for place in places if place[0] == b] for b in range(n_batch)] if pool == "sequence" else [places]
        wanted = set()
        kth = [0.0] * n_experts
        for e in range(n_experts):
            for members in pools:
                ranked = sorted(members, key=lambda place, e=e: -values[place[0]][place[1]][e])
                k = len(members) // n_experts  # one of six experts a token
                kth[e] += values[ranked[k - 1][0]][ranked[k - 1][1]][e] / len(pools)
                n = k
                if router == "expert_threshold" and not warming:
                    above = sum(values[b][t][e] > cutoff[e] for b, t in members)
                    n = min(max(above, int(0.5 * k)), int(1.5 * k))
                    clamped += n != above
                if router != "token_choice":
                    wanted |= {(*place, e) for place in ranked[:n]}
        if router == "token_choice":
            for b, t in places:
                best = max(range(n_experts), key=lambda e, b=b, t=t: values[b][t][e] + bias[e])
                wanted.add((b, t, best))
        assert {tuple(place) for place in chosen_BTE.nonzero().tolist()} == wanted, step
        move_gate(mixture, logit_BTE, chosen_BTE, beta, u)
        if router == "token_choice":
            for e in range(n_experts):
                use = sum(place[2] == e for place in wanted) / len(places)
                bias[e] += u * ((use < 1 / 6) - (use > 1 / 6)) if balance == "loss_free" else 0.0
            assert gate.bias.tolist() == pytest.approx(bias, abs=1e-5)
            assert not gate.cutoff.any()
        else:
            for e in range(n_experts):
                average[e] = beta * average[e] + (1 - beta) * kth[e]
                cutoff[e] = average[e] / (1 - beta ** (step + 1))
            assert gate.cutoff.tolist() == pytest.approx(cutoff, abs=1e-4)
            assert gate.n_averaged.item() == step + 1
    assert (clamped > 0) == (router == "expert_threshold")


def test_the_balance_loss_is_one_where_use_and_gates_are_even_and_more_where_they_agree() -> None:
    even_BTE, chosen_BTE = torch.zeros(1, 6, 6), torch.eye(6, dtype=torch.bool)[None]
    assert balance_loss(even_BTE, chosen_BTE).item() == pytest.approx(1.0)
    logit_BTE = torch.tensor([4.0, 0, 0, 0, 0, 0]).expand(1, 6, 6)
    all_first_BTE = torch.zeros(1, 6, 6, dtype=torch.bool)
    all_first_BTE[..., 0] = True
    gates = [1 / (1 + math.exp(-value)) for value in (4, 0, 0, 0, 0, 0)]
    assert balance_loss(logit_BTE, all_first_BTE).item() == pytest.approx(6 * gates[0] / sum(gates))


@pytest.mark.parametrize(("router", "kind"), [("token_choice", "glm4_moe"), ("dense", "llama")])
def test_transformers_loads_what_is_exported(router: str, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = replace(SMALL, router=router, expansion=2)
    tensors = random_tensors(config, 6)
    tensors |= {name: torch.zeros_like(tensor) for name, tensor in tensors.items() if name.endswith(".gate.bias")}
    theirs, renamed = exported(config.to_dict(), tensors)
    assert theirs["model_type"] == kind
    parsed = transformers.AutoConfig.for_model(**theirs)
    model_type = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(parsed)]
    model, found = model_type.from_pretrained(
        None, config=parsed, state_dict=renamed, output_loading_info=True, experts_implementation="eager"
    )
    assert not any(found[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    token_id_BT = tokens()
    with torch.no_grad():
        theirs_BTV = model.eval()(token_id_BT).logits
    ours_BTV = build_module(config.to_dict(), tensors).mixed_logits(token_id_BT)
    assert (F.log_softmax(theirs_BTV, -1) - F.log_softmax(ours_BTV, -1)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"router": "expert_threshold"}, "none compares an expert's logit with a cutoff"),
        ({"router": "expert_choice"}, "none compares an expert's logit with a cutoff"),
        ({"router": "token_choice", "balance": "loss_free"}, "added to the logit here"),
        ({"router": "token_choice", "shared_expert": False, "zero_bias": True}, "stand beside a shared expert"),
    ],
)
def test_what_transformers_cannot_compute_is_refused_with_the_reason(changes: dict[str, object], said: str) -> None:
    zero = changes.pop("zero_bias", False) if "zero_bias" in changes else False
    config = replace(SMALL, **changes)  # type: ignore[arg-type]
    tensors = random_tensors(config, 1)
    if zero:
        tensors |= {name: torch.zeros_like(tensor) for name, tensor in tensors.items() if name.endswith(".gate.bias")}
    with pytest.raises(ValueError, match=said):
        exported(config.to_dict(), tensors)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"granularity": 5}, "intermediate_size must be a multiple of granularity; got 24 and 5"),
        ({"granularity": 1}, "granularity must be at least 2 beside a shared expert"),
        ({"dense_layers": 3}, "dense_layers must leave a layer for the experts; got 3 of 3"),
        ({"router": "tokens"}, "unknown router 'tokens'"),
        ({"expansion": 0}, "expansion must be at least 1; got 0"),
        ({"expansion": None}, "expansion must be of type int; got None"),
        ({"shared_expert": 1}, "shared_expert must be of type bool; got 1"),
        ({"num_key_value_heads": 3}, "num_attention_heads must be a multiple of num_key_value_heads; got 4 and 3"),
        ({"head_dim": 3}, "head_dim must be even"),
        ({"balance": "aux"}, "balance aux is of token_choice; router is expert_threshold"),
    ],
)
def test_configs_out_of_range_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MoeLlamaConfig.from_dict({**SMALL.to_dict(), **change})


def test_a_checkpoint_without_its_cutoffs_is_refused() -> None:
    config, tensors = random_checkpoint(0)
    del tensors["model.layers.1.mlp.gate.cutoff"]
    with pytest.raises(ValueError, match=r"no tensor model\.layers\.1\.mlp\.gate\.cutoff"):
        build_module(config, tensors)
    config, tensors = random_checkpoint(0)
    tensors["extra"] = torch.zeros(1)
    with pytest.raises(ValueError, match="holds tensor extra"):
        build_module(config, tensors)
