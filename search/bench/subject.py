"""What a bench measures on: a shipped or own Duo-LLM with a text, or a random one of given sizes with random tokens."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.duo_llm.module import DuoLlama, DuoLlamaConfig
from duo_oracle.models.families.duo_llama import build_module
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import Window, read_sequences
from duo_oracle.search.bench.config import BenchConfig


def random_module(n_layers: int, hidden: int, vocabulary: int, n_positions: int, seed: int) -> DuoLlama:
    """A Duo-LLM of random weights: big FFNs four times as wide as it, small ones a sixteenth of those."""
    torch.manual_seed(seed)
    heads = max(hidden // 32, 1)
    shape = DuoLlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        small_intermediate_size=hidden // 4,
        num_hidden_layers=n_layers,
        num_attention_heads=heads,
        num_key_value_heads=max(heads // 2, 1),
        max_position_embeddings=n_positions,
        head_dim=32,
    )
    module = DuoLlama(shape)
    for parameter in module.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5 * parameter.shape[1] ** -0.5)
    return module.eval().requires_grad_(False)


def subject(config: BenchConfig) -> tuple[DuoLlama, Tensor]:
    """The module and one sequence of it, int64 of shape (T,)."""
    if config.hidden:
        module = random_module(12, config.hidden, config.vocabulary, 256, config.seed)
        return module, torch.randint(0, config.vocabulary, (config.seq_len,))
    checkpoint = read_checkpoint(config.model)
    module = build_module(checkpoint.config, checkpoint.tensors)
    tokenizer = None if checkpoint.tokenizer_json is None else load_tokenizer(checkpoint.tokenizer_json)
    sequences: Iterator[Window] = read_sequences(
        config.data, tokenizer, module.config.vocab_size, module.config.max_position_embeddings, config.seq_len, 1
    )
    return module, torch.from_numpy(next(sequences).token_ids.astype(np.int64))
