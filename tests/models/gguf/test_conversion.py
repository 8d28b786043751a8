"""Importing a GGUF: the same model and the same tokens as those it was made of, or one line that says why not.

The files are written here as llama.cpp's converter writes them, from a tiny random Llama with fewer key/value heads than heads.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.gguf import conversion as gguf_import
from duo_oracle.models.gguf.conversion import import_gguf
from duo_oracle.models.text.front import front_tokens
from duo_oracle.models.text.tokenizer import encode, load_tokenizer
from duo_oracle.search.cli import main

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")

N_LAYERS, N_HIDDEN, N_INNER, N_HEADS, N_KV_HEADS, N_POSITIONS = 2, 32, 64, 4, 2, 24
SPECIAL, ADDED = "<|endoftext|>", "<tab>"
TOKENS = [SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "20", "Ġt", "Ġth", ADDED]
MERGES = ["2 0", "Ġ t", "Ġt h"]
TYPES = [3, *[1] * (len(TOKENS) - 2), 4]
OUR_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tiny_llama(tied: bool = True) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=N_HIDDEN,
        intermediate_size=N_INNER,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        num_key_value_heads=N_KV_HEADS,
        max_position_embeddings=N_POSITIONS,
        rms_norm_eps=1e-4,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        tie_word_embeddings=tied,
        initializer_range=0.5,  # far from zero, so that a wrong rotation shows
    )
    return transformers.LlamaForCausalLM(config).eval()


def gguf_tensors(model: Any) -> dict[str, np.ndarray]:
    """The model's tensors under GGUF's names, q and k permuted as llama.cpp's converter does."""
    outside = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    outside |= {} if model.config.tie_word_embeddings else {"lm_head.weight": "output.weight"}
    found = {}
    for name, tensor in model.state_dict().items():
        weights = tensor.numpy()
        if name in outside:
            found[outside[name]] = weights
        elif name.startswith("model.layers."):
            layer, ours = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
            heads = {"self_attn.q_proj": N_HEADS, "self_attn.k_proj": N_KV_HEADS}.get(ours)
            if heads:
                weights = weights.reshape(heads, 2, weights.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weights.shape)
            found[f"blk.{layer}.{OUR_NAMES[ours]}.weight"] = np.ascontiguousarray(weights)
    return found


def write_gguf(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    architecture: str = "llama",
    pre: str | None = "smollm",
    tokenizer: str = "gpt2",
    quantise: Any = None,
    merges: list[str] = MERGES,
    **more: Any,
) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(N_LAYERS)
    writer.add_context_length(N_POSITIONS)
    writer.add_embedding_length(N_HIDDEN)
    writer.add_feed_forward_length(N_INNER)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KV_HEADS)
    writer.add_rope_freq_base(500.0)
    writer.add_layer_norm_rms_eps(1e-4)
    writer.add_tokenizer_model(tokenizer)
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types(TYPES)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    for key, value in more.items():
        getattr(writer, f"add_{key}")(value)
    for name, weights in tensors.items():
        if quantise is not None and weights.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(weights, quantise), raw_dtype=quantise)
        else:
            writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_llama()


@pytest.fixture
def file(model: Any, tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", gguf_tensors(model))


def logits(model: Any) -> torch.Tensor:
    token_ids = torch.arange(7, 7 + N_POSITIONS)[None]
    with torch.no_grad():
        return model(token_ids).logits


def loaded(directory: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(directory).eval()


@pytest.mark.parametrize("tied", [True, False])
def test_the_imported_model_is_the_original_bit_for_bit(tmp_path: Path, tied: bool) -> None:
    original = tiny_llama(tied)
    done = import_gguf(write_gguf(tmp_path / "a.gguf", gguf_tensors(original)), tmp_path / "out")
    imported = loaded(tmp_path / "out")
    assert type(imported) is transformers.LlamaForCausalLM
    assert imported.state_dict().keys() == original.state_dict().keys()
    assert all(torch.equal(tensor, original.state_dict()[name]) for name, tensor in imported.state_dict().items())
    assert torch.equal(logits(imported), logits(original))
    assert done.n_parameters == sum(parameter.numel() for parameter in original.parameters())
    assert imported.config.num_key_value_heads == N_KV_HEADS < N_HEADS
    assert imported.config.rope_parameters["rope_theta"] == 500.0
    assert (imported.config.rms_norm_eps, imported.config.max_position_embeddings) == (1e-4, N_POSITIONS)
    assert (imported.config.bos_token_id, imported.config.eos_token_id, imported.config.head_dim) == (1, 0, N_HIDDEN // N_HEADS)
    assert imported.config.tie_word_embeddings is tied


def test_without_putting_rows_back_it_is_another_model(
    file: Path, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_import, "side_by_side", lambda weights, n_heads: weights)
    import_gguf(file, tmp_path / "out")
    assert (logits(loaded(tmp_path / "out")) - logits(model)).abs().max() > 0.1


def test_a_quantised_model_is_the_original_within_its_rounding(model: Any, tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    path = write_gguf(tmp_path / "a.gguf", gguf_tensors(model), quantise=kind)
    import_gguf(path, tmp_path / "out")
    imported, exact = loaded(tmp_path / "out").state_dict(), model.state_dict()
    for name, tensor in imported.items():
        rounding = exact[name].abs().max() / 127 if tensor.ndim == 2 else 0.0  # 8 bits of each block's greatest value
        assert (tensor - exact[name]).abs().max() <= rounding
    assert not torch.equal(imported["model.embed_tokens.weight"], exact["model.embed_tokens.weight"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_are_stored_as_the_dtype_asked_for(
    file: Path, model: Any, tmp_path: Path, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(file), "--out", str(tmp_path / "out"), "--dtype", dtype]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'out'}: llama, 2 layers, hidden 32, vocabulary 261, 26,944 parameters, {dtype}\n"
    assert err == ""
    checkpoint = read_checkpoint(str(tmp_path / "out"))
    assert checkpoint.config["dtype"] == dtype
    for name, tensor in checkpoint.tensors.items():
        assert torch.equal(tensor, model.state_dict()[name].to(getattr(torch, dtype)))


def tokenizer_in(directory: Path) -> Tokenizer:
    return load_tokenizer((directory / "tokenizer.json").read_text("utf-8"))


def tokens_of(tokenizer: Tokenizer, text: str) -> list[str]:
    return [TOKENS[token_id] for token_id in encode(tokenizer, text)]


def test_each_digit_stands_alone_though_a_merge_joins_two(file: Path, tmp_path: Path) -> None:
    import_gguf(file, tmp_path / "out")
    tokenizer = tokenizer_in(tmp_path / "out")
    assert tokens_of(tokenizer, "2024") == ["2", "0", "2", "4"]
    assert tokens_of(tokenizer, "in the 20s") == ["i", "n", "Ġth", "e", "Ġ", "2", "0", "s"]


def test_digits_are_merged_where_the_file_names_the_plain_split(model: Any, tmp_path: Path) -> None:
    import_gguf(write_gguf(tmp_path / "a.gguf", gguf_tensors(model), pre="gpt-2"), tmp_path / "out")
    assert tokens_of(tokenizer_in(tmp_path / "out"), "2024") == ["20", "2", "4"]


def test_any_text_comes_back_and_special_tokens_are_the_files(file: Path, tmp_path: Path) -> None:
    import_gguf(file, tmp_path / "out")
    tokenizer = tokenizer_in(tmp_path / "out")
    for text in ("naïve 日本語\n\n  x\t2024", "the <tab>", SPECIAL):
        assert tokenizer.decode(encode(tokenizer, text), skip_special_tokens=False) == text
    assert encode(tokenizer, ADDED) == [len(TOKENS) - 1]
    assert len(encode(tokenizer, SPECIAL)) > 1, "a separator written in a text is no separator"
    plain = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert plain.encode(SPECIAL).ids == [0]
    assert plain.get_vocab() == {token: index for index, token in enumerate(TOKENS)}


def refusal(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    """Runs the command, and returns the one line that it says."""
    assert main(["import", *map(str, argv)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("duo-oracle: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    return err


def without(name: str) -> dict[str, np.ndarray]:
    tensors = gguf_tensors(tiny_llama())
    del tensors[name]
    return tensors


def having(**more: np.ndarray) -> dict[str, np.ndarray]:
    return gguf_tensors(tiny_llama()) | {name.replace("__", "."): weights for name, weights in more.items()}


ones = np.ones(N_HIDDEN, dtype=np.float32)
BAD_FILES: dict[str, tuple[dict[str, Any], str]] = {
    "architecture": ({"architecture": "gpt2"}, "unsupported architecture 'gpt2'; supported: llama"),
    "pre-tokenizer": ({"pre": "llama-bpe"}, "unsupported pre-tokenizer 'llama-bpe'; supported: codeshell, gpt-2, refact, smollm"),
    "no pre-tokenizer": ({"pre": None}, "the metadata must have tokenizer.ggml.pre; it has not"),
    "tokenizer": ({"tokenizer": "llama"}, "unsupported tokenizer 'llama'; supported: gpt2"),
    "merges": ({"merges": ["2 4"]}, "the tokenizer's merges must be pairs of tokens that make a token"),
    "scaled positions": ({"rope_scaling_type": gguf.RopeScalingType.YARN}, "rotary positions must not be scaled; got 'yarn'"),
    "heads": ({"key_length": 7}, "the size of a head must be even for rotary positions; got 7"),
    "rotary size": ({"rope_dimension_count": 4}, "llama.rope.dimension_count must be the size of a head, 8; got 4"),
    "missing tensor": ({"tensors": without("blk.1.ffn_up.weight")}, "the tensor blk.1.ffn_up.weight is missing"),
    "no embedding": ({"tensors": without("token_embd.weight")}, "the tensor token_embd.weight is missing"),
    "few rows": (
        {"tensors": having(token_embd__weight=np.ones((9, N_HIDDEN), np.float32))},
        "the embedding's 9 rows; it has 261",
    ),
    "shape": ({"tensors": having(output_norm__weight=ones[:8])}, "output_norm.weight must have the shape (32,); got (8,)"),
    "bias": (
        {"tensors": having(blk__0__attn_q__bias=ones)},
        "experts or scaled rotary positions; got blk.0.attn_q.bias",
    ),
    "infinity": (
        {"tensors": having(output_norm__weight=ones * np.inf)},
        "finite numbers in torch.float32; tensor output_norm",
    ),
    "quantisation": ({"tensors": having(output_norm__weight=ones.astype(np.float64))}, "is stored as F64, which gguf cannot undo"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_file_that_is_not_a_plain_llama_is_refused_in_one_line(
    model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    options, said = BAD_FILES[what]
    path = write_gguf(tmp_path / "bad.gguf", **{"tensors": gguf_tensors(model), **options})
    line = refusal(capsys, path, "--out", tmp_path / "out")
    assert said in line
    assert str(path) in line
    assert not (tmp_path / "out").exists()


def test_a_file_cut_anywhere_is_refused_in_one_line(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = file.read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [*range(4, 200, 9), *range(200, len(whole) - 1, len(whole) // 60), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        assert f"{cut}: cut short, or not a GGUF file that gguf can read" in refusal(capsys, cut, "--out", tmp_path / "out")


def test_what_is_no_gguf_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    (tmp_path / "a.gguf").write_bytes(b"PK\x03\x04 is a zip file")
    assert "a GGUF file begins with b'GGUF'; this one begins with b'PK" in refusal(capsys, tmp_path / "a.gguf", "--out", out)
    (tmp_path / "a.gguf").write_bytes(b"")
    assert "this one begins with b''" in refusal(capsys, tmp_path / "a.gguf", "--out", out)
    assert "there is no file 'nowhere.gguf'" in refusal(capsys, "nowhere.gguf", "--out", out)
    assert "there is no file" in refusal(capsys, tmp_path, "--out", out)


def test_without_the_gguf_package_it_says_how_to_get_it(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    said = refusal(capsys, file, "--out", tmp_path / "out")
    assert said == "duo-oracle: import needs gguf: pip install 'duo-oracle[gguf]'\n"


def test_a_directory_that_holds_something_is_kept_unless_it_is_to_be_overwritten(
    file: Path, model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert main(["import", str(file), "--out", str(out)]) == 0, "an empty directory is as good as none"
    before = (out / "model.safetensors").read_bytes()
    capsys.readouterr()
    half = ["--dtype", "float16"]
    assert f"unless --overwrite replaces the model in it; {out} is neither" in refusal(capsys, file, "--out", out, *half)
    assert "is neither" in refusal(capsys, file, "--out", file, "--overwrite")
    assert (out / "model.safetensors").read_bytes() == before
    assert main(["import", str(file), "--out", str(out), *half, "--overwrite"]) == 0
    assert read_checkpoint(str(out)).config["dtype"] == "float16"
    assert len((out / "model.safetensors").read_bytes()) < len(before)


def test_a_weight_that_float16_cannot_hold_is_refused(model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_gguf(tmp_path / "a.gguf", having(output_norm__weight=ones * 1e6))
    assert "finite numbers in torch.float16" in refusal(capsys, path, "--out", tmp_path / "out", "--dtype", "float16")
    assert main(["import", str(path), "--out", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("adds", [True, False, None])
def test_the_token_that_a_file_puts_in_front_of_a_text_is_kept(model: Any, tmp_path: Path, adds: bool | None) -> None:
    more = {} if adds is None else {"add_bos_token": adds}
    import_gguf(write_gguf(tmp_path / "a.gguf", gguf_tensors(model), **more), tmp_path / "a", torch.float32)
    checkpoint = read_checkpoint(str(tmp_path / "a"))
    assert checkpoint.tokenizer_json is not None
    tokenizer = load_tokenizer(checkpoint.tokenizer_json)
    front = front_tokens("auto", tokenizer, checkpoint.tokenizer_said, checkpoint.config, len(TOKENS))
    assert front == ((1,) if adds else (0,))  # its BOS, else its end of text
    assert encode(tokenizer, "20") == [TOKENS.index("2"), TOKENS.index("0")]
