"""A tiny Duo-LLM on disk with a tokenizer and training text, and a loop that runs it one token at a time with a cache."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from duo_oracle.models.checkpoint import write_checkpoint
from duo_oracle.models.duo_llm.module import DuoLlama, DuoLlamaConfig
from duo_oracle.models.router_training.config import RouterConfig
from duo_oracle.models.text.tokenizer import train_tokenizer
from duo_oracle.models.training.batches import texts_of

WORDS = "the cat sat on a mat and saw the other cat run over the hill to the sea where it sat down again".split()
N_LAYERS, N_HIDDEN, N_VOCABULARY, N_POSITIONS = 3, 16, 280, 16


def write_text(path: Path, n_documents: int = 60, seed: int = 0) -> str:
    generator = np.random.default_rng(seed)
    rows = [{"document": f"d{i}", "text": " ".join(generator.choice(WORDS, 30))} for i in range(n_documents)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def write_model(directory: Path, text: str, seed: int = 0, n_letters: int = N_LAYERS) -> DuoLlama:
    """Random weights, wide enough apart that branches matter; the module as it is read back."""
    config = DuoLlamaConfig(
        vocab_size=N_VOCABULARY,
        hidden_size=N_HIDDEN,
        intermediate_size=32,
        small_intermediate_size=4,
        num_hidden_layers=n_letters,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=N_POSITIONS,
        head_dim=8,
    )
    generator = torch.Generator().manual_seed(seed)
    module = DuoLlama(config)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(noise if parameter.dim() > 1 else 1 + noise)
    tokenizer = train_tokenizer(texts_of((text,)), N_VOCABULARY)
    write_checkpoint(directory, config.to_dict(), module.state_dict(), tokenizer.to_str(), torch.float32)
    return module.eval().requires_grad_(False)


def router_config(folder: Path, router: str, **options: object) -> RouterConfig:
    """A training of 24 steps of 4 windows on the text in `folder`."""
    given = {
        "model": str(folder / "model"),
        "text": (str(folder / "text.jsonl"),),
        "router": router,
        "out": str(folder / "router"),
        "budget": 1.0,
        "tokens": 24 * 4 * N_POSITIONS,
        "batch": 4,
        "calibration_tokens": 600,
        "checkpoint_minutes": 0.0,
        "holdouts": (str(folder / "text.jsonl"),),
        "holdout_tokens": 200,
        "threads": 1,
        "work": str(folder / "work"),
    }
    return RouterConfig(**{**given, **options})  # type: ignore[arg-type]
