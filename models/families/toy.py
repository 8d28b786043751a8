"""A table-driven model whose best pattern is known without search: the fake that most tests run on, in milliseconds.

The state is the token's one-hot row, a score, and a flag. Attention changes nothing. At each layer the FFN of a branch adds
`table[token, layer, branch]` to the score, and the big FFN also `bonus[layer]` where the last FFN before it was big (the flag).
The logit of v is `base[v, token] + sign[v] * score` with signs +1 and -1, so the loss of target y has the derivative
E_p[sign] - sign_y in the score: it falls strictly with sign_y * score, whatever the base. The best pattern is the one of
the greatest signed score, which a small dynamic program finds. All tables are multiples of 1/64: sums are exact, and ties real.

Axes: V vocabulary, L layer, R the two FFNs (small, big), D = V + 2 state, G S C K d as in `oracle/model.py`, B batch, T token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from duo_oracle.models.checkpoint import write_checkpoint
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.budgets import ANY, Budget
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.patterns import Branch, RoutingPattern

MODEL_TYPE = "toy"


class ToyModel:
    """Implements `oracle.model.OracleModel`. Keys and values exist, and have no width."""

    def __init__(self, table_VLR: Tensor, bonus_L: Tensor, base_VV: Tensor, sign_V: Tensor, n_positions: int) -> None:
        self.table_VLR, self.bonus_L = table_VLR, bonus_L
        self.n_vocabulary, self.n_letters, _ = table_VLR.shape
        self.depth = self.n_letters
        self.routed_layers = self.small_layers = tuple(range(self.depth))
        self.n_hidden, self.n_kv_heads, self.n_head_dim, self.n_positions = self.n_vocabulary + 2, 1, 0, n_positions
        self.dtype, self.device = table_VLR.dtype, table_VLR.device
        self.logit_bias_V: Tensor | None = None
        self.logit_softcap: float | None = None
        self.skip_readings, self.ffn_reads_input = tuple(SkipReading), False
        self.unembedding_VD = torch.cat((base_VV, sign_V.unsqueeze(1), torch.zeros_like(sign_V).unsqueeze(1)), dim=1)

    def embed(self, token_id: Tensor, position: Tensor) -> Tensor:
        return torch.eye(self.n_vocabulary, self.n_hidden, dtype=self.dtype, device=self.device)[token_id]

    def attend(
        self, layer: int, x_GSD: Tensor, position_GS: Tensor, k_GKCd: Tensor, v_GKCd: Tensor, hidden_GSC: Tensor | None = None
    ) -> Tensor:
        return x_GSD

    def attend_causal(self, layer: int, x_BTD: Tensor) -> Tensor:
        return x_BTD

    def key_value(self, layer: int, x_GSD: Tensor, position_GS: Tensor) -> tuple[Tensor, Tensor]:
        empty_GKSd = x_GSD.new_empty(x_GSD.shape[0], self.n_kv_heads, x_GSD.shape[1], self.n_head_dim)
        return empty_GKSd, empty_GKSd

    def ffn(self, layer: int, branch: Branch, x: Tensor, before: Tensor | None = None) -> Tensor:
        big = branch is Branch.BIG
        one_hot, score, flag = x[..., : self.n_vocabulary], x[..., -2], x[..., -1]
        score = score + one_hot @ self.table_VLR[:, layer, int(big)]
        if big:
            score = score + self.bonus_L[layer] * flag
        return torch.cat((one_hot, score.unsqueeze(-1), torch.full_like(score, float(big)).unsqueeze(-1)), dim=-1)

    def final_norm(self, x: Tensor) -> Tensor:
        return x

    def forward(self, token_id_BT: Tensor, mask_BTL: Tensor, skip: SkipReading) -> Tensor:
        x_BTD = self.embed(token_id_BT, torch.arange(token_id_BT.shape[1], device=self.device))
        for layer in range(self.n_letters):
            branch_BT1 = mask_BTL[:, :, layer].unsqueeze(-1)
            small_BTD, big_BTD = self.ffn(layer, Branch.SMALL, x_BTD), self.ffn(layer, Branch.BIG, x_BTD)
            x_BTD = torch.where(branch_BT1 == Branch.BIG, big_BTD, torch.where(branch_BT1 == Branch.SMALL, small_BTD, x_BTD))
        return x_BTD @ self.unembedding_VD.T


def best_pattern(
    model: ToyModel, token_id: int, target_id: int, branches: Iterable[Branch] = (Branch.SMALL, Branch.BIG), budget: Budget = ANY
) -> RoutingPattern:
    """The pattern of least loss for a token and its target among `branches` and `budget`, ties as everywhere: fewer B's, then
    the first string. Raises InputError where no pattern satisfies both.

    `best[layer, k, flag]` is the greatest signed score that the layers from `layer` on can add with exactly k B's.
    """
    n_letters, allowed = model.n_letters, sorted(branches)
    sign = float(model.unembedding_VD[target_id, -2])
    table_LR = sign * model.table_VLR[token_id].double().cpu().numpy()
    bonus_L = sign * model.bonus_L.double().cpu().numpy()

    def step(layer: int, branch: Branch, flag: int) -> tuple[float, int, int]:
        """What a branch adds, how many B's it is, and the flag after it."""
        if branch is Branch.BIG:
            return float(table_LR[layer, 1] + bonus_L[layer] * flag), 1, 1
        return (float(table_LR[layer, 0]), 0, 0) if branch is Branch.SMALL else (0.0, 0, flag)

    best = np.full((n_letters + 1, n_letters + 2, 2), -np.inf)
    best[n_letters, 0] = 0.0
    for layer in reversed(range(n_letters)):
        for n_big in range(n_letters + 1):
            for flag in (0, 1):
                for branch in allowed:
                    gain, cost, after = step(layer, branch, flag)
                    rest = best[layer + 1, n_big - cost, after] if n_big >= cost else -np.inf
                    best[layer, n_big, flag] = max(best[layer, n_big, flag], gain + rest)
    totals = np.where(budget.allows(n_letters), best[0, : n_letters + 1, 0], -np.inf)
    if not np.isfinite(totals).any():
        raise InputError(f"no pattern of the branches {''.join(branch.letter for branch in allowed)} has the budget {budget}")
    n_big, flag, chosen = int(np.argmax(totals)), 0, []
    for layer in range(n_letters):
        for branch in allowed:
            gain, cost, after = step(layer, branch, flag)
            if n_big >= cost and gain + best[layer + 1, n_big - cost, after] == best[layer, n_big, flag]:
                chosen.append(branch)
                n_big, flag = n_big - cost, after
                break
    return RoutingPattern(tuple(chosen))


def random_tensors(seed: int, n_letters: int, n_vocabulary: int, interaction: float) -> dict[str, Tensor]:
    """Tables for a toy: scores in multiples of 1/64 within [-1/2, 1/2], bonuses within `interaction` times that."""
    generator = np.random.default_rng(seed)
    bonus = np.round(interaction * generator.integers(-32, 33, n_letters)) / 64
    table = generator.integers(-32, 33, (n_vocabulary, n_letters, 2)) / 64
    base = generator.integers(-128, 129, (n_vocabulary, n_vocabulary)) / 64
    sign = np.where(np.arange(n_vocabulary) % 2, -1.0, 1.0)
    tables = {"table": table, "bonus": bonus, "base": base, "sign": sign}
    return {name: torch.from_numpy(np.ascontiguousarray(values)).float() for name, values in tables.items()}


def random_toy(
    seed: int = 0,
    n_letters: int = 4,
    n_vocabulary: int = 16,
    n_positions: int = 64,
    interaction: float = 0.0,
    dtype: str = "float32",
) -> ToyModel:
    """A toy in memory, the same for the same arguments."""
    tensors = random_tensors(seed, n_letters, n_vocabulary, interaction)
    return build(_config(n_letters, n_vocabulary, n_positions), tensors, getattr(torch, dtype), torch.device("cpu"))


def write_toy(
    directory: Path,
    seed: int = 0,
    n_letters: int = 4,
    n_vocabulary: int = 16,
    n_positions: int = 64,
    interaction: float = 0.0,
    tokenizer: bool = False,
) -> None:
    """Writes a toy's model directory; with a tokenizer, a token is a byte, and the vocabulary has at least 256."""
    if tokenizer:
        n_vocabulary = max(n_vocabulary, 256)
    tokenizer_json = byte_tokenizer().to_str() if tokenizer else None
    tensors = random_tensors(seed, n_letters, n_vocabulary, interaction)
    write_checkpoint(directory, _config(n_letters, n_vocabulary, n_positions), tensors, tokenizer_json, torch.float32)


def byte_tokenizer() -> Tokenizer:
    """A tokenizer whose 256 tokens are the bytes, in the alphabet of byte-level BPE."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: token_id for token_id, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _config(n_letters: int, n_vocabulary: int, n_positions: int) -> dict[str, Any]:
    return {
        "model_type": MODEL_TYPE,
        "vocab_size": n_vocabulary,
        "num_hidden_layers": n_letters,
        "max_position_embeddings": n_positions,
    }


def random_checkpoint(seed: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a toy with interaction, for the tests that every family passes."""
    return _config(4, 16, 64), random_tensors(seed, 4, 16, interaction=1.0)


def build(config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> ToyModel:
    """The toy of a checkpoint. Raises InputError for sizes that are none, and tensors that are missing or of another shape."""
    sizes = {}
    for key in ("vocab_size", "num_hidden_layers", "max_position_embeddings"):
        value = config.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"config.json: {key} must be a whole number above 0; got {value!r}")
        sizes[key] = value
    n_vocabulary, n_letters = sizes["vocab_size"], sizes["num_hidden_layers"]
    shapes = {"table": (n_vocabulary, n_letters, 2), "bonus": (n_letters,), "base": (n_vocabulary,) * 2, "sign": (n_vocabulary,)}
    for name, shape in shapes.items():
        if name not in tensors:
            raise InputError(f"the checkpoint has no tensor {name}; {MODEL_TYPE} needs it with shape {list(shape)}")
        if tuple(tensors[name].shape) != shape:
            raise InputError(f"tensor {name} must have shape {list(shape)} by config.json; found {list(tensors[name].shape)}")
    table, bonus, base, sign = (tensors[name].to(device=device, dtype=dtype) for name in shapes)
    model: OracleModel = ToyModel(table, bonus, base, sign, sizes["max_position_embeddings"])
    assert isinstance(model, ToyModel)
    return model
