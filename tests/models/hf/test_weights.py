"""Nothing of a checkpoint is dropped in silence: its weights come out as the library loads them, or it is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.family import load_model
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch
from tests.models.hf.tiny import DEPTH, TINY, save_tiny

Tensors = dict[str, Tensor]


def edit(directory: Path, change: Callable[[Tensors], Any] = lambda _: None, **config: Any) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def refusal(directory: Path) -> str:
    with pytest.raises(InputError, match=r"\w") as caught:
        load_model(read_checkpoint(str(directory)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def to_integers(scale_name: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.endswith("proj.weight")]:
            scale = tensors[name].abs().amax(1, keepdim=True)
            tensors[name] = (tensors[name] / scale * 127).round().to(torch.int8)
            tensors[name.removesuffix(".weight") + scale_name] = scale

    return change


def to_fp8(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.endswith("proj.weight")]:
        scale = tensors[name].abs().max() / 448
        tensors[name], tensors[f"{name}_scale_inv"] = (tensors[name] / scale).to(torch.float8_e4m3fn), scale.reshape(1, 1)


@pytest.mark.parametrize(
    ("scale", "how", "said"),
    [
        (".SCB", {"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes"),
        (".weight_scale", {"quant_method": "compressed-tensors"}, "compressed-tensors"),
        (".scales", {"quant_method": "of-another-world"}, ".scales, which no part of llama takes"),
    ],
)
def test_quantised_weights_that_the_library_cannot_undo_here_are_refused(
    scale: str, how: dict[str, Any], said: str, tmp_path: Path
) -> None:
    save_tiny("Llama 2", tmp_path)
    assert said in refusal(edit(tmp_path, to_integers(scale), quantization_config=how))


def test_integers_without_a_word_on_what_they_mean_are_refused(tmp_path: Path) -> None:
    save_tiny("Llama 2", tmp_path)
    assert "holds torch.int8; config.json has no quantization_config" in refusal(edit(tmp_path, to_integers(".SCB")))


def test_fp8_weights_are_dequantised_or_refused(tmp_path: Path) -> None:
    stock = save_tiny("Qwen3", tmp_path)
    how = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    edit(tmp_path, to_fp8, quantization_config=how)
    if find_spec("accelerate") is None:  # what the library asks for to undo it
        assert "fp8" in refusal(tmp_path)
        return
    model, token_id_1T = load_model(read_checkpoint(str(tmp_path))), torch.arange(3, 15)[None]
    full_1TL = torch.full((1, 12, DEPTH), int(Branch.BIG))
    logits_1TV = model.forward(token_id_1T, full_1TL, SkipReading.FFN)
    with torch.no_grad():
        expected_1TV = stock(token_id_1T).logits
    # 3 bits of mantissa in every weight: read wrongly (scales lost, numbers as they lie), nothing of the logits is left.
    assert torch.nn.functional.cosine_similarity(logits_1TV, expected_1TV, dim=-1).min() > 0.95


def test_a_head_that_is_missing_is_not_made_up(tmp_path: Path) -> None:
    """A merge that lost it, a reward model, a trunk alone."""
    save_tiny("Llama 2", tmp_path / "lost")
    said = refusal(edit(tmp_path / "lost", lambda tensors: tensors.pop("lm_head.weight")))
    assert said == "the checkpoint has no tensor lm_head.weight; llama needs it with shape [96, 32]"
    model = save_tiny("Llama 2", tmp_path / "reward")
    transformers.LlamaForSequenceClassification(model.config).save_pretrained(tmp_path / "reward")
    assert "lm_head.weight" in refusal(tmp_path / "reward")
    model.model.save_pretrained(tmp_path / "trunk")
    assert "no tensor lm_head.weight" in refusal(edit(tmp_path / "trunk", model_type="llama"))


def test_a_head_of_its_own_under_a_tied_flag_is_what_the_library_takes(tmp_path: Path) -> None:
    save_tiny("Llama 2", tmp_path)
    edit(tmp_path, tie_word_embeddings=True)
    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    model = load_model(read_checkpoint(str(tmp_path)))
    assert torch.equal(model.unembedding_VD, stock.get_output_embeddings().weight)
    assert torch.equal(model.unembedding_VD, load_file(tmp_path / "model.safetensors")["lm_head.weight"])


def add_lora(tensors: Tensors) -> None:
    tensors |= {f"model.layers.0.self_attn.q_proj.lora_{name}.default.weight": torch.ones(4, 32) for name in "AB"}


@pytest.mark.parametrize(
    ("saved", "change", "config", "said"),
    [
        ("Llama with biases", None, {"attention_bias": False}, "bias, which no part of llama takes"),
        ("Qwen2.5", None, {"model_type": "llama"}, "bias, which no part of llama takes"),
        ("Llama 2", None, {"num_hidden_layers": DEPTH - 1}, "model.layers.3."),
        ("Llama 2", add_lora, {}, "lora_A.default.weight, which no part of llama takes"),
    ],
)
def test_tensors_that_nothing_takes_are_refused(
    saved: str, change: Callable[[Tensors], Any] | None, config: dict[str, Any], said: str, tmp_path: Path
) -> None:
    save_tiny(saved, tmp_path)
    assert said in refusal(edit(tmp_path, change or (lambda _: None), **config))


def test_tables_that_no_model_reads_are_let_be(tmp_path: Path) -> None:
    def add_tables(tensors: Tensors) -> None:
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)

    save_tiny("Llama 2", tmp_path / "llama")
    load_model(read_checkpoint(str(edit(tmp_path / "llama", add_tables))))

    def add_masks(tensors: Tensors) -> None:
        tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.uint8)
        tensors["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
        tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()

    save_tiny("GPT-2", tmp_path / "gpt2")
    load_model(read_checkpoint(str(edit(tmp_path / "gpt2", add_masks))))


def test_code_of_the_checkpoints_own_is_not_run(tmp_path: Path) -> None:
    save_tiny("Phi 3", tmp_path)
    assert "auto_map names code of the checkpoint's own" in refusal(edit(tmp_path, auto_map={"AutoConfig": "config.Mine"}))


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    save_tiny("Llama 2", tmp_path)
    edit(tmp_path, lambda tensors: tensors["model.norm.weight"].fill_(torch.inf))
    with pytest.raises(InputError, match="weights must be finite numbers"):
        read_checkpoint(str(tmp_path))


def test_a_config_of_a_far_larger_model_than_the_weights_is_refused_before_it_is_made(tmp_path: Path) -> None:
    save_tiny("GPT-2", tmp_path)
    assert "describes a gpt2 model of 12," in refusal(edit(tmp_path, n_embd=16_000))
    assert "not a gpt2 model that transformers can build" in refusal(edit(tmp_path, n_embd=2**62))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1, "many"])
@pytest.mark.parametrize("key", ["max_position_embeddings", "rms_norm_eps", "rope_theta"])
def test_numbers_that_no_config_holds_are_a_line(tmp_path: Path, key: str, value: object) -> None:
    save_tiny("Llama 2", tmp_path)
    assert refusal(edit(tmp_path, **{key: value}))


def test_positions_without_a_table_may_be_any_number(tmp_path: Path) -> None:
    save_tiny("Llama 2", tmp_path)
    assert load_model(read_checkpoint(str(edit(tmp_path, max_position_embeddings=10**12)))).n_positions == 10**12


def test_every_configuration_has_its_row_in_the_docs() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "families.md").read_text("utf-8")
    assert [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines() if line.startswith("| ")][1:] == list(TINY)
