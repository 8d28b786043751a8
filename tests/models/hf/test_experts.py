"""Experts as branches: a search over a table of experts is a search by full passes of the library's own model.

The slow way knows nothing of the project's: hooks replace what each router gives by a set and weights that are written down here,
family by family.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.family import load_model
from duo_oracle.models.hf.experts import ExpertsModel
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import Branch, parse_table
from duo_oracle.oracle.contexts import SkipReading
from tests.models.experts_in_contexts import searched_in_contexts
from tests.models.hf.tiny import save_tiny

NAMES = ("Mixtral", "OLMoE", "Qwen2 MoE", "Qwen3 MoE", "Granite MoE", "gpt-oss (sinks)", "DeepSeek V2", "DeepSeek V3")
N_TOKENS, POSITION = 7, 5


def tiny(name: str, folder: Path) -> Path:
    folder.mkdir()
    save_tiny(name, folder)
    return folder


def router_of(layer: Any) -> Any:
    block = layer.block_sparse_moe if hasattr(layer, "block_sparse_moe") else layer.mlp
    return getattr(block, "gate", None) if hasattr(block, "gate") else getattr(block, "router", None)


def weights_of(router: Any, kind: str, h_RD: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Of every expert: what the choice is by, its weight before a set shares it out, and whether one does."""
    logits_RE = F.linear(h_RD, router.weight, getattr(router, "bias", None))
    if kind == "deepseek_v3":
        score_RE = logits_RE.sigmoid()
        choice_RE = score_RE + router.e_score_correction_bias
        group_RGe = choice_RE.view(len(h_RD), router.num_group, -1)
        kept = group_RGe.topk(2, dim=-1)[0].sum(-1).topk(router.topk_group, dim=-1)[1]
        mask_RG = torch.zeros(len(h_RD), router.num_group).scatter(1, kept, 1.0)
        mask_RE = mask_RG[:, :, None].expand_as(group_RGe).reshape(choice_RE.shape)
        return choice_RE - 1000 * (mask_RE == 0), score_RE, router.norm_topk_prob  # a group that is left out comes last
    p_RE = logits_RE.softmax(-1)
    if kind == "deepseek_v2":
        return p_RE, p_RE, False
    return p_RE, p_RE, kind in ("mixtral", "granitemoe", "gpt_oss") or bool(getattr(router, "norm_topk_prob", False))


def slow_losses(
    stock: Any, kind: str, table: Any, layers: tuple[int, ...], ids_T: Tensor, mask_BTL: np.ndarray, renormalised: bool = False
) -> np.ndarray:
    """Loss at POSITION of every row, by whole passes with each token's set forced on the routers."""
    handles = []
    scale = getattr(stock.config, "routed_scaling_factor", 1.0)
    for letter, layer in enumerate(layers):
        branch_R = mask_BTL[:, :, letter].ravel()

        def forced(module: Any, args: Any, out: Any, branch_R: np.ndarray = branch_R) -> Any:
            h_RD = args[0].reshape(-1, args[0].shape[-1])
            choice_RE, weight_RE, shares_out = weights_of(module, kind, h_RD)
            rank_RE = choice_RE.argsort(dim=-1, descending=True)
            logits, weights, index = out[0], torch.zeros(len(h_RD), 4), torch.zeros(len(h_RD), 4, dtype=torch.int64)
            for row, branch in enumerate(branch_R.tolist()):
                if branch == Branch.BIG:
                    k = out[2].shape[1]
                    weights[row, :k], index[row, :k] = out[1][row].float(), out[2][row]
                    continue
                chosen = list(table.chosen(branch))
                experts = chosen if table.kind == "sets" else rank_RE[row, chosen].tolist()
                w = weight_RE[row, experts]
                weights[row, : len(experts)] = (w / w.sum() if shares_out or renormalised else w) * scale
                index[row, : len(experts)] = torch.tensor(experts, dtype=torch.int64)
            return logits, weights, index

        handles.append(router_of(stock.model.layers[layer]).register_forward_hook(forced))
    with torch.no_grad():
        logits_BTV = stock(ids_T[None, :-1].expand(len(mask_BTL), -1), use_cache=False).logits
    for handle in handles:
        handle.remove()
    return F.cross_entropy(logits_BTV[:, POSITION].double(), ids_T[POSITION + 1].expand(len(mask_BTL)), reduction="none").numpy()


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.families) for name in NAMES[1:])])
@pytest.mark.parametrize("spec", ["top:1,2,4", "top:0,3", "ranks:1+2,1+3,2+3", "sets:0+1,3"])
def test_the_best_pattern_is_that_of_all_patterns_by_the_librarys_own_passes(name: str, spec: str, tmp_path: Path) -> None:
    import transformers

    directory = tiny(name, tmp_path / "m")
    model = load_model(read_checkpoint(str(directory)), branches=spec)
    assert isinstance(model, ExpertsModel)
    stock = transformers.AutoModelForCausalLM.from_pretrained(
        directory, experts_implementation="eager", attn_implementation="eager"
    )
    kind = stock.config.model_type
    layers, table = model.routed_layers, parse_table(spec)
    ids_T = torch.from_numpy(np.random.default_rng(3).integers(0, model.n_vocabulary, N_TOKENS))
    for found, patterns_PL, mask_PTL in searched_in_contexts(model, ids_T, POSITION):
        slow_P = slow_losses(stock, kind, table, layers, ids_T, mask_PTL)
        row = int(np.flatnonzero(found.position_R == POSITION)[0])
        assert found.loss_R[row] == pytest.approx(slow_P.min(), abs=1e-5)
        assert slow_P[(patterns_PL == found.branches_RL[row]).all(axis=1)][0] == pytest.approx(slow_P.min(), abs=1e-5)
        again = model.forward(ids_T[None, :-1], torch.from_numpy(mask_PTL[:1]), SkipReading.FFN)[0, POSITION].double()
        assert float(F.cross_entropy(again, ids_T[POSITION + 1])) == pytest.approx(float(slow_P[0]), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("OLMoE", {"norm_topk_prob": False}),
        pytest.param("Mixtral", {}, marks=pytest.mark.slow),
        pytest.param("DeepSeek V3", {"norm_topk_prob": False, "routed_scaling_factor": 1.5}, marks=pytest.mark.slow),
    ],
)
def test_renormalised_sets_are_those_of_the_librarys_own_passes_divided_by_their_sum(
    name: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    import transformers

    directory = tiny(name, tmp_path / "m")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | changes))
    checkpoint, spec = read_checkpoint(str(directory)), "top:0,1,3"
    model, own = (load_model(checkpoint, branches=spec, gate=gate) for gate in ("renormalised", "own"))
    assert isinstance(model, ExpertsModel)
    stock = transformers.AutoModelForCausalLM.from_pretrained(
        directory, experts_implementation="eager", attn_implementation="eager"
    )
    kind, layers = stock.config.model_type, model.routed_layers
    ids_T = torch.from_numpy(np.random.default_rng(3).integers(0, model.n_vocabulary, N_TOKENS))
    for found, patterns_PL, mask_PTL in searched_in_contexts(model, ids_T, POSITION):
        slow_P = slow_losses(stock, kind, model.table, layers, ids_T, mask_PTL, renormalised=True)
        row = int(np.flatnonzero(found.position_R == POSITION)[0])
        assert found.loss_R[row] == pytest.approx(slow_P.min(), abs=1e-5)
        assert slow_P[(patterns_PL == found.branches_RL[row]).all(axis=1)][0] == pytest.approx(slow_P.min(), abs=1e-5)
        mask_1TL = torch.from_numpy(mask_PTL[1:2])
        again = model.forward(ids_T[None, :-1], mask_1TL, SkipReading.FFN)[0, POSITION].double()
        assert float(F.cross_entropy(again, ids_T[POSITION + 1])) == pytest.approx(float(slow_P[1]), abs=1e-5)
        same = torch.allclose(own.forward(ids_T[None, :-1], mask_1TL, SkipReading.FFN)[0, POSITION].double(), again, atol=1e-5)
        assert same == (name == "Mixtral")  # whose router shares out by itself


def test_a_states_experts_are_run_once_for_all_its_branches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(read_checkpoint(str(tiny("Mixtral", tmp_path / "m"))), branches="top:1,2,4")
    assert isinstance(model, ExpertsModel)
    rows: list[int] = []
    mixture = model._mixtures[0]
    kind = type(mixture.experts)
    computed = kind.forward

    def counted(self: Any, h_RD: Tensor, index_Rk: Tensor, weight_Rk: Tensor) -> Tensor:
        rows.append(index_Rk.numel())
        return computed(self, h_RD, index_Rk, weight_Rk)

    monkeypatch.setattr(kind, "forward", counted)
    x_SND = torch.randn(5, 1, model.n_hidden, generator=torch.Generator().manual_seed(0))
    parents = {branch: np.arange(5) for branch in model.table.branches}
    assert model.ffn_branches(0, x_SND, parents, x_SND).shape == (15, 1, model.n_hidden)
    assert sum(rows) == 4 * 5


def test_own_routing_is_the_branch_of_its_number_and_the_budget_own_its_cost(tmp_path: Path) -> None:
    model = load_model(read_checkpoint(str(tiny("OLMoE", tmp_path / "m"))), branches="top:1,2,4")
    assert isinstance(model, ExpertsModel)
    assert model.own_cost == 2 * model.n_letters
    ids_1T = torch.arange(3, 9)[None]
    own, two = (torch.full((1, 6, model.n_letters), int(code), dtype=torch.uint8) for code in (Branch.BIG, model.table.branches[1]))
    assert torch.allclose(model.forward(ids_1T, own, SkipReading.FFN), model.forward(ids_1T, two, SkipReading.FFN), atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("top:1,9", "name the 9 best experts; layer 0 has 4"),
        ("ranks:1+2,1+7", "name the 7 best experts"),
        ("sets:0+1,2+8", "name expert 8; layer 0 has 4 experts, 0 to 3"),
    ],
)
def test_a_table_beyond_the_experts_is_refused_in_a_line(spec: str, words: str, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(str(tiny("Mixtral", tmp_path / "m")))
    with pytest.raises(InputError, match=words.replace("+", r"\+")):
        load_model(checkpoint, branches=spec)


def test_a_model_without_experts_and_a_layer_without_are_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no layer of this olmo2 model has experts"):
        load_model(read_checkpoint(str(tiny("OLMo 2", tmp_path / "d"))), branches="top:1,2")
    checkpoint = read_checkpoint(str(tiny("Qwen2 MoE", tmp_path / "m")))
    assert load_model(checkpoint, branches="top:1,2").routed_layers == (1, 2, 3)
    with pytest.raises(InputError, match="layer 0 has none"):
        load_model(checkpoint, route_layers="0-2", branches="top:1,2")
