"""Pretrained families are transformers' own models: the same logits, by their plain pass and by the tree; and what they refuse."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from duo_oracle.models.checkpoint import Checkpoint, read_checkpoint
from duo_oracle.models.family import DTYPES, load_model, load_module
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.exact import ExactOracle
from duo_oracle.oracle.model import cheapest_branch
from duo_oracle.oracle.patterns import Branch, RoutingPattern
from tests.models.pretrained_models import EACH_FAMILY, random_checkpoint
from tests.small_models import random_tokens

N_TOKENS = 11


def theirs(family: str, directory: Path, **changes: Any) -> Any:
    """A tiny random model of transformers, saved as users have it, without small FFNs; weights spread so that layers matter."""
    config, _ = random_checkpoint(family, 0)
    given = {key: value for key, value in {**config, **changes}.items() if key not in ("model_type", "small_intermediate_size")}
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(transformers.CONFIG_MAPPING[family].from_dict(given)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3 + (parameter.dim() == 1))
    model.save_pretrained(directory)
    return model


def all_big(n_letters: int) -> torch.Tensor:
    return torch.full((1, N_TOKENS, n_letters), int(Branch.BIG), dtype=torch.uint8)


def losses(logits_1TV: torch.Tensor, token_id_T: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits_1TV[0, :-1].double(), token_id_T[1:], reduction="none")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", EACH_FAMILY)
def test_all_big_is_the_stock_model(family: str, dtype: str, tmp_path: Path) -> None:
    stock = theirs(family, tmp_path).to(DTYPES[dtype])
    model, token_id_T = load_model(read_checkpoint(str(tmp_path)), dtype), random_tokens(N_TOKENS)
    with torch.no_grad():
        expected_1TV = stock(token_id_T[None]).logits
    found_1TV = model.forward(token_id_T[None], all_big(model.n_letters), SkipReading.FFN)
    assert found_1TV.dtype == DTYPES[dtype]
    assert (losses(found_1TV, token_id_T) - losses(expected_1TV, token_id_T)).abs().max() < 1e-4
    assert losses(expected_1TV, token_id_T).std() > 0.1  # the model says something


@pytest.mark.parametrize("context", ["same", "fixed", "committed"])
@pytest.mark.parametrize("family", EACH_FAMILY)
def test_the_tree_of_all_big_is_the_stock_model(family: str, context: str, tmp_path: Path) -> None:
    stock, token_id_T = theirs(family, tmp_path), random_tokens(N_TOKENS)
    with torch.no_grad():
        expected_T = losses(stock(token_id_T[None]).logits, token_id_T).numpy()
    model = load_model(read_checkpoint(str(tmp_path)))
    oracle = ExactOracle(model, (Branch.BIG,), parse_budgets("any", model.n_letters), SkipReading.FFN)
    if context == "fixed":
        paths = oracle.in_fixed_context(0, token_id_T, RoutingPattern.uniform(Branch.BIG, model.n_letters))
    else:
        paths = oracle.in_same_context(0, token_id_T) if context == "same" else oracle.in_committed_context([0], [token_id_T])[0]
    assert abs(paths.loss_R - expected_T).max() < 1e-4
    assert abs(paths.loss_full_R - expected_T).max() < 1e-4


@pytest.mark.parametrize(
    "family", ["llama", *(pytest.param(name, marks=pytest.mark.families) for name in ("mistral", "qwen2", "qwen3"))]
)
@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": False},
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
                "rope_theta": 500000.0,
            }
        },
    ],
)
def test_variants_of_llama_are_the_stock_model(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    stock, token_id_T = theirs(family, tmp_path, **changes), random_tokens(N_TOKENS)
    with torch.no_grad():
        expected_T = losses(stock(token_id_T[None]).logits, token_id_T).numpy()
    model = load_model(read_checkpoint(str(tmp_path)))
    oracle = ExactOracle(model, (Branch.BIG,), parse_budgets("any", model.n_letters), SkipReading.FFN)
    big = RoutingPattern.uniform(Branch.BIG, model.n_letters)
    assert abs(oracle.in_fixed_context(0, token_id_T, big).loss_R - expected_T).max() < 1e-4


def test_a_gpt2_without_the_prefix_of_its_trunk_is_the_same_model(tmp_path: Path) -> None:
    """As the hub has it: `wte.weight`, not `transformer.wte.weight`."""
    stock, token_id_T = theirs("gpt2", tmp_path), random_tokens(N_TOKENS)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    model = load_model(read_checkpoint(str(tmp_path)))
    with torch.no_grad():
        expected_1TV = stock(token_id_T[None]).logits
    assert torch.allclose(model.forward(token_id_T[None], all_big(3), SkipReading.FFN), expected_1TV, atol=1e-5)


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_a_bare_model_has_no_small_ffn_and_is_compared_with_all_skip(family: str, tmp_path: Path) -> None:
    theirs(family, tmp_path)
    model = load_model(read_checkpoint(str(tmp_path)))
    assert model.small_layers == ()
    assert cheapest_branch(model) is Branch.SKIP


def test_small_ffns_may_stand_at_some_layers(tmp_path: Path) -> None:
    config, tensors = random_checkpoint("llama", 0)
    config["small_layers"] = [1, 2]
    kept = {name: tensor for name, tensor in tensors.items() if "layers.0.small" not in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load_model(read_checkpoint(str(tmp_path)), route_layers="1-2")
    assert (model.small_layers, cheapest_branch(model)) == ((1, 2), Branch.SMALL)
    assert cheapest_branch(load_model(read_checkpoint(str(tmp_path)))) is Branch.SKIP


def test_positions_go_on_beyond_a_sliding_window(tmp_path: Path) -> None:
    stock, token_id_T = theirs("mistral", tmp_path, sliding_window=5), random_tokens(N_TOKENS)
    with torch.no_grad():
        expected_T = losses(stock(token_id_T[None]).logits, token_id_T).numpy()
    model = load_model(read_checkpoint(str(tmp_path)))
    assert model.n_positions == 32
    oracle = ExactOracle(model, (Branch.BIG,), parse_budgets("any", model.n_letters), SkipReading.FFN)
    assert abs(oracle.in_committed_context([0], [token_id_T])[0].loss_R - expected_T).max() < 1e-4


def test_weights_are_used_where_they_lie(tmp_path: Path) -> None:
    theirs("llama", tmp_path)
    checkpoint = read_checkpoint(str(tmp_path))
    model = load_model(checkpoint)
    given = checkpoint.tensors["model.embed_tokens.weight"]
    assert model.unembedding_VD.data_ptr() == given.data_ptr() or given.data_ptr() % 64


def write_config(directory: Path, **changes: Any) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        ("llama", {"model_type": "lama"}, "unknown model_type 'lama'; transformers"),
        ("llama", {"model_type": {"a": 1}}, "unknown model_type {'a': 1}; transformers"),
        ("llama", {"model_type": ["llama"]}, "unknown model_type ['llama']; transformers"),
        ("llama", {"model_type": "mamba"}, "mamba"),
        (
            "llama",
            {"auto_map": {"AutoModelForCausalLM": "modeling.Mine"}},
            "auto_map names code of the checkpoint's own, which is not",
        ),
        ("llama", {"num_attention_heads": 3}, "config.json"),
        ("llama", {"small_intermediate_size": 0}, "small_intermediate_size must be a whole number above 0; got 0"),
        ("llama", {"small_intermediate_size": 8, "small_layers": [7]}, "small_layers must be numbers of the model's 3 layers"),
        ("llama", {"small_intermediate_size": 8}, "has no tensor model.layers.0.small_mlp"),
    ],
)
def test_what_a_family_cannot_do_is_one_line(family: str, changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    theirs(family, tmp_path)
    write_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=r"\w") as refusal:
        load_model(read_checkpoint(str(tmp_path)))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_without_transformers_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    config, tensors = random_checkpoint("llama", 0)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'duo-oracle\[hf\]'"):
        load_model(Checkpoint(config, tensors, None, ""))


def test_a_name_of_the_hub_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="or OWNER/NAME of the hub; there is no 'nobody/nothing-at-all'") as refusal:
        read_checkpoint("nobody/nothing-at-all")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_the_module_that_routers_run_on_is_the_searched_model(family: str) -> None:
    config, tensors = random_checkpoint(family, 2)
    checkpoint, token_id_T = Checkpoint(config, tensors, None, ""), random_tokens(N_TOKENS)
    mask_BTL = torch.randint(0, 3, (1, N_TOKENS, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    module, model = (load(checkpoint, route_layers="0,2") for load in (load_module, load_model))
    with torch.no_grad():
        parted_BTV, whole_BTV = module(token_id_T[None], mask_BTL), model.forward(token_id_T[None], mask_BTL, SkipReading.FFN)
        assert torch.allclose(parted_BTV, whole_BTV, atol=1e-5)
