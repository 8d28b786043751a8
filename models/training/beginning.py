"""What a training from nothing begins with: fresh weights, an optimiser, a tokenizer of its own text.

Knows no model in particular.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import torch
from tokenizers import Tokenizer
from torch import nn

from duo_oracle.models.checkpoint import TOKENIZER
from duo_oracle.models.text.tokenizer import load_tokenizer, train_tokenizer
from duo_oracle.oracle.base.whole_file import write_text_whole

TOKENIZER_DOCUMENTS = 3000
"""How many documents the tokenizer is made from, spread evenly over the text files."""
_WRITE_STREAM = ("o_proj", "down_proj")


class AdamWOptions(Protocol):
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


def freshen(module: nn.Module, n_layers: int, seed: int) -> None:
    """Fresh weights: normal with deviation 0.02, less by sqrt(2 L) where a matrix writes to the residual stream. Vectors stay."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() > 1:
                scale = 0.02 / math.sqrt(2 * n_layers) if any(part in name for part in _WRITE_STREAM) else 0.02
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def adamw(learning: Iterable[nn.Parameter], options: AdamWOptions) -> torch.optim.AdamW:
    """AdamW over these parameters; weight decay on matrices only."""
    learning = list(learning)
    matrices, vectors = [p for p in learning if p.dim() >= 2], [p for p in learning if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=options.learning_rate, betas=(0.9, 0.95), fused=True
    )


def training_tokenizer_in(out: Path, texts: Iterable[str], n_vocabulary: int) -> Tokenizer:
    """The tokenizer of `out`, made from the first of the training texts where there is none yet."""
    path = out / TOKENIZER
    if path.exists():
        return load_tokenizer(path.read_text("utf-8"))
    tokenizer = train_tokenizer(itertools.islice(texts, TOKENIZER_DOCUMENTS), n_vocabulary)
    out.mkdir(parents=True, exist_ok=True)
    write_text_whole(path, tokenizer.to_str())
    return tokenizer
