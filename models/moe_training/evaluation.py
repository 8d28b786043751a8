"""What a trained mixture does on text it never saw: its loss as it is used and as it was trained, and its experts' use.

Axes: B batch, T token, E expert, L layer with experts, N scored tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from duo_oracle.models.moe_llm.module import Choose, MoeLlama
from duo_oracle.models.moe_llm.routing import training_choice
from duo_oracle.models.routing import batches_of
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.model import losses_of


@dataclass(frozen=True)
class MoeEvaluation:
    """Losses of scored tokens in nats, window by window: causal, and where the windows make pools like those of the training, by
    its own protocol; and the experts that each token took in the causal pass."""

    documents: tuple[str, ...]  # of every window
    causal_WN: tuple[np.ndarray, ...]
    protocol_WN: tuple[np.ndarray, ...] | None
    chosen_WNLE: tuple[np.ndarray, ...]  # bool

    @property
    def document_N(self) -> np.ndarray:
        """The document of every scored token."""
        return np.repeat(np.array(self.documents), [len(losses) for losses in self.causal_WN])

    @property
    def position_N(self) -> np.ndarray:
        """Its place in its window."""
        return np.concatenate([np.arange(len(losses)) for losses in self.causal_WN])

    @property
    def loss(self) -> float:
        return float(np.concatenate(self.causal_WN).mean())

    @property
    def protocol_loss(self) -> float | None:
        return None if self.protocol_WN is None else float(np.concatenate(self.protocol_WN).mean())

    @property
    def usage_LE(self) -> np.ndarray:
        """The share of tokens that take each expert."""
        return np.concatenate(self.chosen_WNLE).mean(axis=0)

    def to_dict(self, rate: float) -> dict[str, Any]:
        """What `evaluation.json` says of a source."""
        usage_LE = self.usage_LE
        shown = {
            "tokens": sum(map(len, self.causal_WN)),
            "loss": round(self.loss, 5),
        }
        if self.protocol_loss is not None:
            shown["loss_protocol"] = round(self.protocol_loss, 5)
        if not usage_LE.size:
            return shown
        return {
            **shown,
            "usage_target": rate,
            "usage_mean": round(float(usage_LE.mean()), 5),
            "usage_LE": usage_LE.round(5).tolist(),
        }


@torch.no_grad()
def evaluate_mixture(module: MoeLlama, windows: Iterable[Window], max_tokens: int, pool: int | None = None) -> MoeEvaluation:
    """The mixture on windows, up to `max_tokens` scored tokens (at least one batch).

    `pool` is how many windows a step of the training routes together. Windows that are packed as the training's are, all of one
    length, are drawn into pools of about that size, and the training's protocol is measured as well: in a pool of fewer windows, or
    of one text alone, an expert's capacity is of other tokens than in training, which is no gap of the model's.
    """
    names: list[str] = []
    causal: list[np.ndarray] = []
    protocol: list[np.ndarray] = []
    chosen: list[np.ndarray] = []
    n_tokens, n_experts = 0, module.config.n_experts
    for batch in batches_of(windows) if pool is None else _pools(list(windows), pool):
        token_id_BT = torch.from_numpy(np.stack([window.token_ids for window in batch]).astype(np.int64))
        token_id_BT = token_id_BT.to(module.unembedding_VD.device)
        taken: list[Tensor] = []

        def own(layer: int, logit_BTE: Tensor, taken: list[Tensor] = taken) -> Tensor:
            chosen_BTE = module.mixture(layer).own_choice(logit_BTE)
            taken.append(chosen_BTE)
            return chosen_BTE

        def trained(layer: int, logit_BTE: Tensor) -> Tensor:
            return training_choice(module.mixture(layer), logit_BTE)

        causal += _losses(module, token_id_BT, own)
        if pool is not None:
            protocol += _losses(module, token_id_BT, trained)
        empty = torch.zeros(*token_id_BT[:, :-1].shape, 0, n_experts, dtype=torch.bool)
        chosen += list((torch.stack(taken, dim=2) if taken else empty).cpu().numpy())
        names += [window.document for window in batch]
        n_tokens += token_id_BT[:, 1:].numel()
        if n_tokens >= max_tokens:
            break
    return MoeEvaluation(tuple(names), tuple(causal), None if pool is None else tuple(protocol), tuple(chosen))


def _pools(windows: list[Window], size: int) -> list[list[Window]]:
    """The windows in pools of about this size, drawn from all texts alike, in the same order for every model."""
    order = np.random.default_rng(0).permutation(len(windows))
    return [[windows[place] for place in part] for part in np.array_split(order, max(1, round(len(windows) / size)))]


def _losses(module: MoeLlama, token_id_BT: Tensor, choose: Choose) -> list[np.ndarray]:
    return list(losses_of(module.mixed_logits(token_id_BT[:, :-1], choose), token_id_BT[:, 1:]).cpu().numpy())
