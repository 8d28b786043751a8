"""A model of two lines for the tests of verify: causal, routed, differentiable by nobody. Only `forward` is a model's.

Axes: B batch, T token, L layer, D hidden, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch

from duo_oracle.oracle.contexts import Context, ContextKind, SkipReading
from duo_oracle.oracle.patterns import Branch, branch_counts, tie_order
from duo_oracle.oracle.records import OraclePaths
from tests.results.synthetic import Synthetic


class PlainModel:
    """A token adds to the running state what its branches make of its embedding; the head reads the state."""

    def __init__(self, n_letters: int = 4, n_vocabulary: int = 12, n_hidden: int = 6, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.n_letters, self.n_vocabulary, self.n_positions = n_letters, n_vocabulary, 64
        self.device, self.dtype = torch.device("cpu"), torch.float64
        self.embedding_VD = torch.randn(n_vocabulary, n_hidden, generator=generator, dtype=torch.float64)
        self.branch_L3D = torch.randn(n_letters, 3, n_hidden, generator=generator, dtype=torch.float64)
        self.calls = 0

    def forward(self, token_id_BT: torch.Tensor, mask_BTL: torch.Tensor, skip: SkipReading) -> torch.Tensor:
        self.calls += 1
        assert mask_BTL.dtype == torch.uint8
        assert mask_BTL.shape == (*token_id_BT.shape, self.n_letters)
        own_BTD = self.embedding_VD[token_id_BT].clone()
        for layer in range(self.n_letters):
            factor = 1.0 if skip is SkipReading.FFN else 0.5
            own_BTD = own_BTD + factor * torch.sin(own_BTD + self.branch_L3D[layer][mask_BTL[:, :, layer].long()])
        state_BTD = torch.tanh(own_BTD + 0.5 * own_BTD.cumsum(dim=1))
        return state_BTD @ self.embedding_VD.T

    def loss(self, token_id_T: np.ndarray, mask_TL: np.ndarray, position: int, skip: SkipReading) -> float:
        logits_BTV = self.forward(torch.from_numpy(token_id_T)[None].long(), torch.from_numpy(mask_TL)[None], skip)
        return -float(torch.log_softmax(logits_BTV[0, position], -1)[token_id_T[position + 1]])


class BruteForce(Synthetic):
    """A synthetic run whose losses are those of a PlainModel, searched by one forward pass per pattern."""

    model = PlainModel()
    skip = SkipReading.FFN

    def loss_in(self, context: Context, token_id_T: np.ndarray, earlier_TL: np.ndarray, position: int, own_L: np.ndarray) -> float:
        mask_TL = np.tile(own_L, (len(token_id_T), 1))
        if context.kind is not ContextKind.SAME:
            mask_TL[:position] = earlier_TL[:position]
            mask_TL[position + 1 :] = Branch.SKIP  # must not be seen
        return self.model.loss(token_id_T, mask_TL.astype(np.uint8), position, self.skip)

    def solve(self, sequence: int, context: Context) -> OraclePaths:
        token_id_T, branches_PL = self.token_ids(sequence), self.branches_PL[tie_order(self.branches_PL)]
        rows = []
        for number, budget in enumerate(self.parsed_budgets):
            allowed_PL = branches_PL[budget.allows(self.n_letters)[branch_counts(branches_PL, Branch.BIG)]]
            earlier_TL = np.full((len(token_id_T), self.n_letters), Branch.BIG, dtype=np.uint8)
            if context.pattern is not None:
                earlier_TL[:] = context.pattern.branches
            for position in range(len(token_id_T) - 1):
                losses = [self.loss_in(context, token_id_T, earlier_TL, position, own_L) for own_L in allowed_PL]
                best = int(np.argmin(losses))
                uniform = [np.full(self.n_letters, branch, np.uint8) for branch in (self.cheapest, Branch.BIG)]
                small, big = (self.loss_in(context, token_id_T, earlier_TL, position, own_L) for own_L in uniform)
                rows.append((position, number, allowed_PL[best], losses[best], small, big))
                if context.kind is ContextKind.COMMITTED:
                    earlier_TL[position] = allowed_PL[best]
        position_R, budget_R, branches_RL, loss_R, small_R, big_R = (np.array(column) for column in zip(*rows, strict=True))
        n_rows = len(rows)
        return OraclePaths(
            position_R=position_R.astype(np.int32),
            budget_R=budget_R.astype(np.int16),
            branches_RL=branches_RL,
            loss_R=loss_R,
            loss_cheapest_R=small_R,
            loss_full_R=big_R,
            evaluations_R=np.full(n_rows, len(branches_PL), np.int32),
            certified_R=np.ones(n_rows, bool),
            null_gain_R=np.full(n_rows, np.nan),
            null_difficulty_R=np.full(n_rows, np.nan),
            null_above_R=np.full(n_rows, np.nan),
            entropy_full_R=np.full(n_rows, np.nan),
            leaves_R=np.full(n_rows, len(branches_PL), np.int32),
        )
