"""A mixture trained here over a table of experts: held to whole passes with sets that are written down here, token by token."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from duo_oracle.models.experts.over_table import NO_EXPERT
from duo_oracle.models.families.moe_llama import build, over_experts, random_tensors
from duo_oracle.models.moe_llm.config import MoeLlamaConfig
from duo_oracle.models.moe_llm.experts import MoeLlamaExperts
from duo_oracle.models.moe_llm.module import MoeLlama
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import Branch, BranchTable, parse_table
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import SkipReading
from tests.models.experts_in_contexts import searched_in_contexts

SMALL = MoeLlamaConfig(40, 16, 24, 3, 4, 2, 32, 4, granularity=2, expansion=3)
ROUTERS = ("token_choice", "expert_choice", "expert_threshold")
N_TOKENS, POSITION = 7, 4


def mixture_over(spec: str, layers: tuple[int, ...] | None = None, gate: str = "own", **changes: object) -> MoeLlamaExperts:
    config = replace(SMALL, **changes)  # type: ignore[arg-type]
    return over_experts(
        build(config.to_dict(), random_tensors(config, 3), torch.float32, torch.device("cpu")), parse_table(spec, gate), layers
    )


def ids_of(seed: int = 3, n: int = N_TOKENS) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 40, n))


def slow_logits(module: MoeLlama, table: BranchTable, layers: tuple[int, ...], ids_T: Tensor, mask_BTL: np.ndarray) -> Tensor:
    """Whole passes in which each token's set is looked up, one token at a time."""

    def choose(layer: int, logit_BTE: Tensor) -> Tensor:
        gate = module.mixture(layer).gate
        chosen_BTE = torch.zeros_like(logit_BTE, dtype=torch.bool)
        by_choice = module.config.router == "token_choice"
        wanted_BTE = logit_BTE + gate.bias if by_choice else logit_BTE - gate.cutoff
        for b, t in np.ndindex(*logit_BTE.shape[:2]):
            wanted = wanted_BTE[b, t].tolist()
            ranked = sorted(range(len(wanted)), key=lambda expert: -wanted[expert])
            branch = int(mask_BTL[b, t, layers.index(layer)])
            if branch == Branch.BIG:
                experts = ranked[: module.config.n_active] if by_choice else [e for e in ranked if wanted[e] > 0]
            elif table.kind == "sets":
                experts = list(table.chosen(branch))
            else:
                experts = [ranked[rank] for rank in table.chosen(branch)]
            chosen_BTE[b, t, experts] = True
        return chosen_BTE

    def weigh(layer: int, logit_BTE: Tensor, chosen_BTE: Tensor) -> Tensor:
        weight_BTE = torch.sigmoid(logit_BTE)
        for b, t in np.ndindex(*logit_BTE.shape[:2]):
            if mask_BTL[b, t, layers.index(layer)] != Branch.BIG and chosen_BTE[b, t].any():
                weight_BTE[b, t] /= weight_BTE[b, t][chosen_BTE[b, t]].sum()
        return weight_BTE

    with torch.no_grad():
        return module.mixed_logits(
            ids_T[None, :-1].expand(len(mask_BTL), -1), choose, weigh if table.gate == "renormalised" else None
        )


@pytest.mark.parametrize(
    ("spec", "router", "gate"),
    [("top:0,1,2,4", router, "own") for router in ROUTERS]
    + [("ranks:1+2,1+3,4", "expert_threshold", "own"), ("sets:0+1,3,2+5", "expert_choice", "own")]
    + [("top:0,1,2,4", "token_choice", "renormalised"), ("sets:0+1,3,2+5", "expert_threshold", "renormalised")],
)
def test_the_best_pattern_is_that_of_all_patterns_by_whole_passes(spec: str, router: str, gate: str) -> None:
    model = mixture_over(spec, gate=gate, router=router)
    table, layers, ids_T = model.table, model.routed_layers, ids_of()
    assert layers == (1, 2)
    for found, patterns_PL, mask_PTL in searched_in_contexts(model, ids_T, POSITION):
        logits_PTV = slow_logits(model.module, table, layers, ids_T, mask_PTL)
        slow_P = F.cross_entropy(
            logits_PTV[:, POSITION].double(), ids_T[POSITION + 1].expand(len(mask_PTL)), reduction="none"
        ).numpy()
        row = int(np.flatnonzero(found.position_R == POSITION)[0])
        assert found.loss_R[row] == pytest.approx(slow_P.min(), abs=1e-5)
        assert slow_P[(patterns_PL == found.branches_RL[row]).all(axis=1)][0] == pytest.approx(slow_P.min(), abs=1e-5)
        again_PTV = model.forward(ids_T[None, :-1].expand(len(mask_PTL), -1), torch.from_numpy(mask_PTL), SkipReading.FFN)
        assert torch.allclose(again_PTV, logits_PTV, atol=1e-5)


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("shared", [True, False])
def test_the_models_own_set_is_always_a_digit(router: str, shared: bool) -> None:
    model = mixture_over("top:0,1,2,3,4,5,6", router=router, shared_expert=shared)
    ids_T = ids_of(5, 30)
    own_TL, cost_T = model.own_routes(ids_T)
    assert (own_TL > Branch.BIG).all()
    digits_TL = np.array([[model.table.branches[code - 3].cost for code in codes_L] for codes_L in own_TL.tolist()])
    assert (digits_TL.sum(axis=1) == cost_T).all()
    assert (len(np.unique(digits_TL)) == 1) == (router == "token_choice")
    full = torch.full((1, 30, model.n_letters), int(Branch.BIG), dtype=torch.uint8)
    routed_TV = model.forward(ids_T[None], torch.from_numpy(own_TL)[None], SkipReading.FFN)
    assert torch.allclose(routed_TV, model.forward(ids_T[None], full, SkipReading.FFN), atol=2e-6)
    own_TLk = model.own_experts(ids_T)
    assert ((own_TLk != NO_EXPERT).sum(dim=2).numpy() == digits_TL).all()


def test_the_own_set_is_found_among_sets_and_ranks_and_is_none_of_others() -> None:
    model = mixture_over("sets:0,1,2,3,4,5", router="token_choice")
    own_TL, cost_T = model.own_routes(ids_of(5, 30))
    assert (own_TL - 3 == model.own_experts(ids_of(5, 30))[..., 0].numpy()).all()
    assert (cost_T == 2).all()
    assert model.own_cost == 2
    assert (mixture_over("ranks:2,1", router="token_choice").own_routes(ids_of())[0] == 4).all()
    assert (mixture_over("ranks:2,3", router="token_choice").own_routes(ids_of())[0] == 0).all()
    codes_TL, cost_T = mixture_over("top:1,2", gate="renormalised", router="token_choice").own_routes(ids_of())
    assert (codes_TL == 0).all()  # the same set at other weights is not what the router does
    assert (cost_T == 2).all()


def test_what_the_experts_cannot_be_is_one_line() -> None:
    with pytest.raises(InputError, match="name the 7 best experts; layer 1 has 6"):
        mixture_over("top:1,7")
    with pytest.raises(InputError, match="name expert 6; layer 1 has 6 experts, 0 to 5"):
        mixture_over("sets:1,6")
    with pytest.raises(InputError, match="layer 0 has none"):
        mixture_over("top:1,2", (0, 1))
    with pytest.raises(InputError, match="no layer of this moe_llama model has experts"):
        mixture_over("top:1", router="dense")
    assert mixture_over("top:1,2", router="expert_threshold").own_cost is None
    with pytest.raises(InputError, match="where all tokens have the same"):
        parse_budgets("own", 2, 2, None)
