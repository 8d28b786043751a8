"""Small random Duo-LLMs, and the slow way to score a pattern: the law that every faster way is held to."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
import torch.nn.functional as F

from duo_oracle.models.duo_llm.module import DuoLlama, DuoLlamaConfig
from duo_oracle.models.duo_llm.packed import PackedDuoLlama
from duo_oracle.oracle.contexts import Context, ContextKind, SkipReading
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.patterns import Branch


def small_duo(
    seed: int = 0,
    n_letters: int = 3,
    n_hidden: int = 16,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    n_vocabulary: int = 40,
    n_positions: int = 32,
    dtype: torch.dtype = torch.float32,
    spread: float = 0.3,
) -> PackedDuoLlama:
    """Random weights, wide enough apart that patterns differ by tenths of a nat."""
    config = DuoLlamaConfig(
        vocab_size=n_vocabulary,
        hidden_size=n_hidden,
        intermediate_size=2 * n_hidden,
        small_intermediate_size=n_hidden // 4,
        num_hidden_layers=n_letters,
        num_attention_heads=n_heads,
        num_key_value_heads=n_kv_heads,
        max_position_embeddings=n_positions,
        head_dim=4,
    )
    generator = torch.Generator().manual_seed(seed)
    module = DuoLlama(config)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * spread
            parameter.copy_(noise if parameter.dim() > 1 else 1 + noise)
    return PackedDuoLlama(module.to(dtype))


def random_tokens(n: int, n_vocabulary: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, n_vocabulary, (n,), generator=torch.Generator().manual_seed(seed))


def all_patterns(n_letters: int, branches: tuple[Branch, ...]) -> np.ndarray:
    """Every pattern as a row of branches_PL, without any budget."""
    return np.array(list(product(branches, repeat=n_letters)), dtype=np.uint8)


def plain_losses(model: OracleModel, token_id_T: torch.Tensor, mask_BTL: np.ndarray, skip: SkipReading) -> np.ndarray:
    """Losses of every position but the last under each routing mask, by one plain forward pass a mask: float64 (B, T - 1)."""
    n_masks = len(mask_BTL)
    logits_BTV = model.forward(token_id_T[:-1].expand(n_masks, -1), torch.from_numpy(mask_BTL), skip)
    loss_BT = F.cross_entropy(logits_BTV.double().transpose(1, 2), token_id_T[1:].expand(n_masks, -1), reduction="none")
    return loss_BT.numpy()


def brute_force(
    model: OracleModel,
    token_id_T: torch.Tensor,
    position: int,
    branches_PL: np.ndarray,
    context: Context,
    skip: SkipReading,
    chosen_TL: np.ndarray,
) -> np.ndarray:
    """The loss of every pattern at one position: float64 (P,). `chosen_TL` is what earlier tokens ran (committed context alone)."""
    n_scored = len(token_id_T) - 1
    if context.kind is ContextKind.SAME:
        mask_PTL = np.repeat(branches_PL[:, None], n_scored, axis=1)
    elif context.kind is ContextKind.COMMITTED:
        mask_PTL = np.repeat(chosen_TL[None], len(branches_PL), axis=0)
    else:
        assert context.pattern is not None
        mask_PTL = np.tile(np.array(context.pattern.branches, dtype=np.uint8), (len(branches_PL), n_scored, 1))
    mask_PTL[:, position] = branches_PL
    return plain_losses(model, token_id_T, mask_PTL, skip)[:, position]
