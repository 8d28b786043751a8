"""The good inputs that are mutated: tiny models, texts, runs, routers and route files, made once in a folder."""

from __future__ import annotations

import gzip
import json
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from duo_oracle.models.checkpoint import read_checkpoint, write_checkpoint
from duo_oracle.models.duo_llm.module import DuoLlama, DuoLlamaConfig
from duo_oracle.models.linear_router import LinearMaps, LinearRouter, write_linear
from duo_oracle.models.text.tokenizer import train_tokenizer
from duo_oracle.oracle.patterns import Branch
from duo_oracle.search.cli import main

SENTENCE = "the cat sat on a mat and saw the other cat run over the hill to the sea"
N_VOCABULARY, N_LETTERS, N_HIDDEN = 280, 3, 16


def make_seeds(folder: Path) -> None:
    """Writes every good input into `folder`."""
    rows = [{"document": f"d{n}", "text": SENTENCE[4 * n : 4 * n + 9]} for n in range(3)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "data.txt").write_text(SENTENCE[:24])
    (folder / "data.txt.gz").write_bytes(gzip.compress(SENTENCE[:24].encode()))
    (folder / "tokens.jsonl").write_text('{"document": "a", "tokens": [3, 1, 4, 1, 5]}\n{"document": "b", "tokens": [9, 2, 6]}\n')
    table = pa.Table.from_pylist([*rows, {"document": "d3", "text": "other"}])
    pq.write_table(table, folder / "data.parquet")
    feather.write_feather(table, str(folder / "data.arrow"), compression="uncompressed")
    _duo(folder / "duo")
    _pretrained(folder)
    _router(folder)
    _runs(folder)
    _reference(folder)
    _gguf(folder / "model.gguf")


def _duo(directory: Path) -> None:
    config = DuoLlamaConfig(N_VOCABULARY, N_HIDDEN, 32, 4, N_LETTERS, 2, 1, 32, 8)
    generator = torch.Generator().manual_seed(0)
    module = DuoLlama(config)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(noise if parameter.dim() > 1 else 1 + noise)
    tokenizer = train_tokenizer([SENTENCE], N_VOCABULARY)
    write_checkpoint(directory, config.to_dict(), module.state_dict(), tokenizer.to_str(), torch.float32)


def _pretrained(folder: Path) -> None:
    """A Llama and a mixture of experts as transformers saves them, and the Llama in two shards."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    sizes = {
        "vocab_size": N_VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 32,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    kinds = {
        "llama": transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)),
        "mixtral": transformers.MixtralForCausalLM(transformers.MixtralConfig(**sizes, num_local_experts=2, num_experts_per_tok=1)),
        "gpt2": transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=N_VOCABULARY, bos_token_id=0, eos_token_id=0, n_embd=16, n_layer=2, n_head=2, n_positions=32
            )
        ),
    }
    tokenizer = (folder / "duo" / "tokenizer.json").read_text()
    for name, model in kinds.items():
        model.save_pretrained(folder / name)
        (folder / name / "tokenizer.json").write_text(tokenizer)
    sharded = folder / "sharded"
    sharded.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (sharded / name).write_bytes((folder / "llama" / name).read_bytes())
    tensors = load_file(folder / "llama" / "model.safetensors")
    names = sorted(tensors)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, sharded / file, metadata={"format": "pt"})
    weight_map = {name: file for file, held in shards.items() for name in held}
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    said = {"bos_token": {"content": "a"}, "eos_token": "b", "model_max_length": 32, "add_bos_token": True}
    (sharded / "tokenizer_config.json").write_text(json.dumps(said))
    (sharded / "special_tokens_map.json").write_text(json.dumps({"eos_token": "b"}))


def _router(folder: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(N_LETTERS, 2, N_HIDDEN, generator=generator)
    maps = LinearMaps(weight, torch.randn(N_LETTERS, 2, generator=generator), torch.zeros(N_LETTERS))
    fingerprint = read_checkpoint(str(folder / "duo")).fingerprint
    router = LinearRouter("budget", maps, (Branch.SMALL, Branch.BIG), fingerprint, budget=1.0)
    write_linear(folder / "router", router, {"settings": {"alpha": 30.0, "sharpness": 10.0}}, {})


def run_quietly(*words: object) -> tuple[int, str, str]:
    """The command's status, stdout and stderr, in this process."""
    out, err = TextIOWrapper(BytesIO(), encoding="utf-8", errors="surrogateescape", newline=""), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([str(word) for word in words])
    out.flush()
    return status, out.buffer.getvalue().decode("utf-8", "replace"), err.getvalue()  # type: ignore[attr-defined]


def _made(*words: object) -> str:
    status, out, err = run_quietly(*words)
    assert status == 0, err
    return out


def _runs(folder: Path) -> None:
    common = ("search", folder / "duo", folder / "data.jsonl", "--local", "--unit-sequences", 1)
    _made(*common, "--context", "full", "--budget", "0-2,any", "--keep", "losses", "--null-draws", 1, "--out", folder / "run")
    _made(*common, "--strategy", "random_search", "--set", "n=3", "--keep", "trials", "--out", folder / "tried")
    values = json.loads((folder / "run" / "run.json").read_text())
    half, units = folder / "half", values["units"]
    half.mkdir()
    for unit in units[:2]:
        for table in unit["parts"]:
            name = f"{table}/part-{unit['unit']:05d}.parquet"
            (half / table).mkdir(exist_ok=True)
            (half / name).write_bytes((folder / "run" / name).read_bytes())
    (half / "run.json").write_text(json.dumps({**values, "state": "running", "units": []}))
    lines = [*units[:2], {"unit": 2, "message": "failed once"}]
    (half / "units.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (half / "config.yaml").write_bytes((folder / "run" / "config.yaml").read_bytes())
    config = "strategy: beam\nset: {width: 2}\nbranches: sB\ncontext: full\nbudget: 0-2\nnull_draws: 1\nlocal: true\nseq_len: 8\n"
    (folder / "config.yaml").write_text(config)
    _made("route", folder / "duo", folder / "router", folder / "data.jsonl", "--out", folder / "routes.parquet")
    out = _made("strategies", folder / "run", "--strategy", "random_search:n=2", "--budget", "1", "--format", "json")
    (folder / "strategies.json").write_text(out)


def _reference(folder: Path) -> None:
    _made("export-reference", folder / "duo", folder / "data.jsonl", "--out", folder / "reference.parquet", "--top", 4)


def _gguf(path: Path) -> None:
    import gguf
    from tokenizers import pre_tokenizers

    tokens = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġt"]
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {
        "block_count": 1,
        "context_length": 16,
        "embedding_length": 8,
        "feed_forward_length": 8,
        "head_count": 2,
        "head_count_kv": 1,
        "rope_freq_base": 500.0,
        "layer_norm_rms_eps": 1e-5,
        "tokenizer_model": "gpt2",
        "tokenizer_pre": "smollm",
        "token_list": tokens,
        "token_types": [3, *[1] * (len(tokens) - 1)],
        "token_merges": ["Ġ t"],
        "bos_token_id": 1,
        "eos_token_id": 0,
    }.items():
        getattr(writer, f"add_{key}")(value)
    generator = np.random.default_rng(0)
    shapes = {"token_embd": (len(tokens), 8), "output_norm": (8,)}
    shapes |= {f"blk.0.{name}": (8, 8) for name in ("attn_q", "attn_output", "ffn_gate", "ffn_up", "ffn_down")}
    shapes |= {"blk.0.attn_k": (4, 8), "blk.0.attn_v": (4, 8), "blk.0.attn_norm": (8,), "blk.0.ffn_norm": (8,)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", generator.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
