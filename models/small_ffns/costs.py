"""What small FFNs cost: losses of a text all-big, with all of them, and with each alone. Knows nothing of how they were made.

Each token is computed once up to the first layer that differs; the law that it is held to is the plain forward pass.

Axes: B batch, T token, D hidden.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from duo_oracle.models.routable import RoutableModule
from duo_oracle.models.text.windows import Window, read_sequences
from duo_oracle.oracle.base.progress import progress
from duo_oracle.oracle.model import losses_of
from duo_oracle.oracle.patterns import Branch


@dataclass(frozen=True)
class SmallCosts:
    """Mean losses in nats per token: all-big, with every small FFN, and with the small FFN of one layer alone."""

    n_tokens: int
    loss_big: float
    loss_small: float
    loss_alone: dict[int, float]

    @property
    def cost_small(self) -> float:
        return self.loss_small - self.loss_big

    def cost_alone(self, layer: int) -> float:
        return self.loss_alone[layer] - self.loss_big

    def to_dict(self) -> dict[str, Any]:
        return {
            "tokens": self.n_tokens,
            "loss_big": round(self.loss_big, 5),
            "loss_small": round(self.loss_small, 5),
            "cost_small": round(self.cost_small, 5),
            "cost_alone": {str(layer): round(self.cost_alone(layer), 5) for layer in self.loss_alone},
        }


def spread_sequences(
    source: str, tokenizer: Tokenizer | None, n_vocabulary: int, n_positions: int, seq_len: int | None, max_tokens: int
) -> list[Window]:
    """Windows of a source up to `max_tokens` scored positions: the first of every document, then the others, in order.

    The last is cut short where it would go past. Raises InputError as `read_sequences`.
    """
    first = list(_up_to(read_sequences(source, tokenizer, n_vocabulary, n_positions, seq_len, per_document=1), max_tokens))
    if sum(sequence.n_positions for sequence in first) == max_tokens:
        return first
    every = list(read_sequences(source, tokenizer, n_vocabulary, n_positions, seq_len))
    place: dict[int, int] = {}
    n_before: Counter[str] = Counter()
    for sequence in every:
        place[sequence.index] = n_before[sequence.document]
        n_before[sequence.document] += 1
    return list(_up_to(sorted(every, key=lambda sequence: place[sequence.index]), max_tokens))


def _up_to(sequences: Iterable[Window], max_tokens: int) -> Iterable[Window]:
    for sequence in sequences:
        yield Window(sequence.index, sequence.document, sequence.token_ids[: max_tokens + 1])
        max_tokens -= sequence.n_positions
        if max_tokens <= 0:
            return


@torch.no_grad()
def small_costs(module: RoutableModule, layers: tuple[int, ...], sequences: list[Window], what: str = "measuring") -> SmallCosts:
    """The losses of the sequences. `layers`, ascending, have a small FFN; the others stay big."""
    big, small, alone = 0.0, 0.0, dict.fromkeys(layers, 0.0)
    n_tokens = sum(sequence.n_positions for sequence in sequences)
    with progress(total=n_tokens, unit="token", desc=what) as bar:
        for sequence in sequences:
            token_id_BT = torch.from_numpy(sequence.token_ids.astype("int64"))[None].to(module.unembedding_VD.device)
            target_T = token_id_BT[0, 1:]
            x_BTD = module.embed(token_id_BT[:, :-1])
            for layer in range(module.depth):
                if layer == layers[0]:
                    small += _loss(module, _run(module, x_BTD, layer, layers), target_T)
                if layer in alone:
                    alone[layer] += _loss(module, _run(module, x_BTD, layer, (layer,)), target_T)
                x_BTD = _layer(module, layer, Branch.BIG, x_BTD)
            big += _loss(module, x_BTD, target_T)
            bar.update(sequence.n_positions)
    return SmallCosts(n_tokens, big / n_tokens, small / n_tokens, {layer: total / n_tokens for layer, total in alone.items()})


def _run(module: RoutableModule, x_BTD: Tensor, first: int, small: Collection[int]) -> Tensor:
    """The states after the last layer, of states before layer `first`."""
    for layer in range(first, module.depth):
        x_BTD = _layer(module, layer, Branch.SMALL if layer in small else Branch.BIG, x_BTD)
    return x_BTD


def _layer(module: RoutableModule, layer: int, branch: Branch, x_BTD: Tensor) -> Tensor:
    attended_BTD = module.attend(layer, x_BTD)
    return attended_BTD + module.ffn(layer, branch, module.ffn_input(layer, attended_BTD, x_BTD))


def _loss(module: RoutableModule, x_BTD: Tensor, target_T: Tensor) -> float:
    """The sum of the losses."""
    return float(losses_of(module.logits(x_BTD[0]), target_T).sum())
