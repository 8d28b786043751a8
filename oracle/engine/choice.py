"""Leaves of a block in the order of ties, by which budgets admit them; and the best of them under every budget.

Axes: N positions, P leaves of the block, Y targets, Q budgets, G groups of leaves, L layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from duo_oracle.oracle.branches import DUO, Branch, pattern_costs
from duo_oracle.oracle.budgets import Budget
from duo_oracle.oracle.engine.device import resident
from duo_oracle.oracle.patterns import tie_order


def tie_tolerance(loss: Tensor, dtype: torch.dtype) -> Tensor:
    """How far apart equal losses may be computed: four units in the last place of a log-sum-exp of the loss's size or of one."""
    return 4 * torch.finfo(dtype).eps * (1 + loss.abs().clamp(max=torch.finfo(dtype).max / 2))


@dataclass(frozen=True)
class Groups:
    """The leaves of a block in the order of ties, cut where a budget begins or ends: by their cost.

    A group is a run of leaves that the same budgets admit. Leaves that no budget admits (references) come last, in none.
    """

    order_P: np.ndarray  # leaves of the tree in this order
    branches_PL: np.ndarray  # their branches, in this order
    spans: tuple[slice, ...]
    admits_QG: np.ndarray  # bool: which budgets admit each group
    branches: tuple[Branch, ...] = DUO.branches

    @classmethod
    def of(cls, branches_PL: np.ndarray, allowed: tuple[Branch, ...], budgets: tuple[Budget, ...]) -> Groups:
        n_letters = branches_PL.shape[1]
        most = n_letters * max(1, *(branch.cost for branch in allowed))
        cost_P = np.minimum(pattern_costs(branches_PL, allowed), most)  # beyond it stand references alone
        admits_QK = np.array([budget.allows(most) for budget in budgets])
        in_budgets_K: np.ndarray = np.any(admits_QK, axis=0)
        inside_P = np.isin(branches_PL, np.array(allowed, dtype=np.uint8)).all(axis=1) & in_budgets_K[cost_P]
        tied_P = tie_order(branches_PL, allowed)
        order_P = np.concatenate([tied_P[inside_P[tied_P]], tied_P[~inside_P[tied_P]]])
        n_inside = int(inside_P.sum())
        admits_QP = admits_QK[:, cost_P[order_P[:n_inside]]]
        starts = np.flatnonzero(np.r_[True, (admits_QP[:, 1:] != admits_QP[:, :-1]).any(axis=0)][:n_inside])
        spans = tuple(slice(int(a), int(b)) for a, b in zip(starts, np.r_[starts[1:], n_inside], strict=True))
        return cls(order_P, branches_PL[order_P], spans, admits_QP[:, starts], allowed)

    @cached_property
    def padded_GW(self) -> np.ndarray:
        """The places of each group's leaves, int64, padded to the longest group by repeating the last."""
        longest = max(span.stop - span.start for span in self.spans)
        return np.array([np.minimum(np.arange(span.start, span.start + longest), span.stop - 1) for span in self.spans])

    def place_of(self, branch: Branch) -> int:
        """Where the pattern that takes one branch at every layer stands."""
        return int(np.flatnonzero((self.branches_PL == branch).all(axis=1))[0])

    @cached_property
    def admits_QP(self) -> np.ndarray:
        """Which budgets admit each leaf: bool (Q, P)."""
        admits_QP = np.zeros((len(self.admits_QG), len(self.branches_PL)), dtype=bool)
        for span, admits_Q in zip(self.spans, self.admits_QG.T, strict=True):
            admits_QP[:, span] = admits_Q[:, None]
        return admits_QP

    def least_by_budget(self, loss_NYP: Tensor) -> Tensor:
        """The least loss of the leaves that each budget admits, infinite where it admits none: (N, Y, Q)."""
        least_NYG = loss_NYP[..., resident(self.padded_GW, loss_NYP.device)].amin(dim=3)
        admits_QG = resident(self.admits_QG, loss_NYP.device)
        return torch.where(admits_QG, least_NYG[:, :, None], torch.inf).amin(dim=3)

    @property
    def sizes_Q(self) -> np.ndarray:
        """How many leaves each budget admits."""
        return self.admits_QG @ np.array([span.stop - span.start for span in self.spans], dtype=np.int64)


class Choice:
    """The best leaf of N positions under every budget, by one of their targets; equal losses go by the order of ties."""

    def __init__(self, target: int, n: int, n_budgets: int, n_letters: int, like: Tensor) -> None:
        self.target = target
        self.loss_NQ = torch.full((n, n_budgets), torch.inf, dtype=like.dtype, device=like.device)
        self.label_loss_NQ = torch.full_like(self.loss_NQ, torch.inf)
        """The real label's loss of that leaf."""
        self.branches_NQL = np.zeros((n, n_budgets, n_letters), dtype=np.uint8)

    def fold(self, groups: Groups, loss_NYP: Tensor, least_NYQ: Tensor, old_NYQ: Tensor, dtype: torch.dtype) -> None:
        """Fold a block's best into the best so far. `old_NYQ` are the least losses of the blocks before."""
        least_NQ, old_NQ, loss_NP = least_NYQ[:, self.target], old_NYQ[:, self.target], loss_NYP[:, self.target]
        # the first leaf, in the order of ties, whose loss is the least up to rounding
        tie_NQ1 = (least_NQ + tie_tolerance(least_NQ, dtype))[..., None]
        tied_NQP = (loss_NP[:, None] <= tie_NQ1) & resident(groups.admits_QP, loss_NP.device)
        place_NQ = tied_NQP.to(torch.uint8).argmax(dim=2)
        loss_NQ, label_NQ = loss_NP.gather(1, place_NQ), loss_NYP[:, 0].gather(1, place_NQ)
        margin_NQ = tie_tolerance(loss_NQ, dtype)
        place_NQ8, admitted_Q = place_NQ.cpu().numpy(), groups.admits_QG.any(axis=1)
        take_NQ = (loss_NQ < old_NQ - margin_NQ).cpu().numpy() & admitted_Q
        equal_NQ = (loss_NQ <= old_NQ + margin_NQ).cpu().numpy() & admitted_Q & ~take_NQ
        for position, budget in np.argwhere(equal_NQ):
            kept_L = self.branches_NQL[position, budget]
            found_L = groups.branches_PL[place_NQ8[position, budget]]
            take_NQ[position, budget] = _tie_key(found_L, groups.branches) < _tie_key(kept_L, groups.branches)
        self.branches_NQL[take_NQ] = groups.branches_PL[place_NQ8[take_NQ]]
        taken_NQ = torch.from_numpy(take_NQ).to(loss_NQ.device)
        self.loss_NQ = torch.where(taken_NQ, loss_NQ, self.loss_NQ)
        self.label_loss_NQ = torch.where(taken_NQ, label_NQ, self.label_loss_NQ)


def _tie_key(branches_L: np.ndarray, branches: tuple[Branch, ...]) -> tuple[int, bytes]:
    return int(pattern_costs(branches_L, branches)), branches_L.tobytes()
