"""Certified search of the vocabulary head: the best leaf of a tree, proven, with few of its leaves evaluated.

The loss of leaf h with label y is lse(h) - w_y.h, and lse(h) = log sum_v exp(w_v.h) is convex. Its tangent at an evaluated leaf
h0 therefore bounds it from below everywhere:

    lse(h) >= lse(h0) + g0.(h - h0),    g0 = sum_v softmax(W h0)_v w_v

This is Kelley's cutting-plane method (1960) on a finite set: keep for each leaf the greatest of the cuts, minus w_y.h; evaluate
the leaf of least bound; stop when no unevaluated leaf's bound is below the best. The cuts do not depend on the label, so
several labels of a position share them, and those of several budgets, which are sets of leaves.

Rounding. A computed bound may exceed the exact one by the error of dot products of length D in the head's arithmetic of
unit roundoff u. Errors of signs as they fall grow with sqrt(D) (Higham and Mary, 2019, probabilistic backward error
analysis), so the bound is lowered by 8 u (sqrt(D) (max_v |w_v| |h| + max_v |b_v|) + |lse|), eight of their standard deviations.

A head with a bias b is as convex. One whose logits are softly capped is not: every leaf is evaluated, which proves as much.

Leaves come in blocks, so that the memory needed does not grow with their number; positions go side by side.

Axes: N positions, P leaves of the block, Y labels (the first is the real one), Q budgets, M evaluated leaves, D hidden, L layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from duo_oracle.oracle.budgets import Budget
from duo_oracle.oracle.engine.head import Head, Tangent
from duo_oracle.oracle.patterns import Branch, branch_counts, tie_order, to_strings

Draw = Callable[[Tensor], Tensor]
"""The labels of N positions, int64 (N, Y), from their states under the all-big pattern, h_ND."""

_GUARD = 8.0


def tie_tolerance(loss: Tensor, dtype: torch.dtype) -> Tensor:
    """How far apart equal losses may be computed: four units in the last place of a log-sum-exp of the loss's size or of one."""
    return 4 * torch.finfo(dtype).eps * (1 + loss.abs().clamp(max=torch.finfo(dtype).max / 2))


@dataclass(frozen=True)
class Groups:
    """The leaves of a block in the order of ties, cut where a budget begins or ends: by their number of B's.

    A group is a run of leaves that the same budgets admit. Leaves that no budget admits (references) come last, in none.
    """

    order_P: np.ndarray  # leaves of the tree in this order
    branches_PL: np.ndarray  # their branches, in this order
    spans: tuple[slice, ...]
    admits_QG: np.ndarray  # bool: which budgets admit each group

    @classmethod
    def of(cls, branches_PL: np.ndarray, allowed: tuple[Branch, ...], budgets: tuple[Budget, ...]) -> Groups:
        n_letters = branches_PL.shape[1]
        n_big_P = branch_counts(branches_PL, Branch.BIG)
        admits_QK = np.array([budget.allows(n_letters) for budget in budgets])
        in_budgets_K: np.ndarray = np.any(admits_QK, axis=0)
        inside_P = np.isin(branches_PL, np.array(allowed, dtype=np.uint8)).all(axis=1) & in_budgets_K[n_big_P]
        tied_P = tie_order(branches_PL)
        order_P = np.concatenate([tied_P[inside_P[tied_P]], tied_P[~inside_P[tied_P]]])
        n_inside = int(inside_P.sum())
        admits_QP = admits_QK[:, n_big_P[order_P[:n_inside]]]
        starts = np.flatnonzero(np.r_[True, (admits_QP[:, 1:] != admits_QP[:, :-1]).any(axis=0)][:n_inside])
        spans = tuple(slice(int(a), int(b)) for a, b in zip(starts, np.r_[starts[1:], n_inside], strict=True))
        return cls(order_P, branches_PL[order_P], spans, admits_QP[:, starts])

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
        least_NYG = loss_NYP[..., torch.from_numpy(self.padded_GW).to(loss_NYP.device)].amin(dim=3)
        admits_QG = torch.from_numpy(self.admits_QG).to(loss_NYP.device)
        return torch.where(admits_QG, least_NYG[:, :, None], torch.inf).amin(dim=3)

    @property
    def sizes_Q(self) -> np.ndarray:
        """How many leaves each budget admits."""
        return self.admits_QG @ np.array([span.stop - span.start for span in self.spans], dtype=np.int64)


class CertifiedSearch:
    """The least loss of N positions under every budget and label, over blocks of leaves given to `search` one after another.

    The first block must hold the references: all-big, and the pattern that takes the `cheapest` branch at every layer.
    """

    def __init__(self, head: Head, budgets: tuple[Budget, ...], draw: Draw, cheapest: Branch = Branch.SMALL) -> None:
        self._head, self._budgets, self._draw, self._cheapest = head, budgets, draw, cheapest
        self._unit_roundoff = torch.finfo(head.dtype).eps / 2
        self._cuts: list[list[Tangent]] = []  # per position: offsets c (in lse_M) and gradients g of lse(h) >= c + g.h
        self.label_NY: Tensor | None = None

    def search(self, h_NPD: Tensor, groups: Groups, every: bool = False) -> Tensor | None:
        """Certify a block of leaves, given in the order of the groups.

        With `every`, each leaf is evaluated instead, and their losses of the real label are returned, loss_NP. So are the leaves of
        a head that is not convex, where no tangent is a bound.
        """
        block = _Block(h_NPD, groups)
        if self.label_NY is None:
            self._begin(block)
        assert self.label_NY is not None
        block.label_logit_NYP = self._head.labels_logits(h_NPD, self.label_NY)
        if every or not self._head.convex:
            n, p, d = h_NPD.shape
            block.lse_NP = self._head.lse(h_NPD.reshape(n * p, d)).view(n, p)
            block.evaluated_NP[:] = True
        else:
            self._certify(block)
        self._keep_best(block)
        self.leaves_N += block.evaluated_NP.sum(dim=1)
        self.evaluations_Q += groups.sizes_Q
        return block.lse_NP - block.label_logit_NYP[:, 0] if every else None

    def _begin(self, block: _Block) -> None:
        """Evaluate the references, and draw the labels from all-big's distribution."""
        n = len(block.h_NPD)
        device, dtype = block.h_NPD.device, block.h_NPD.dtype
        self._cuts = [[] for _ in range(n)]
        small, big = block.groups.place_of(self._cheapest), block.groups.place_of(Branch.BIG)
        self.label_NY = self._draw(block.h_NPD[:, big])
        picked_NP = torch.zeros(block.h_NPD.shape[:2], dtype=torch.bool, device=device)
        picked_NP[:, [small, big]] = True
        self._evaluate(block, picked_NP)
        logit_NYR = self._head.labels_logits(block.h_NPD[:, [small, big]], self.label_NY)
        loss_NYR = block.lse_NP[:, None, [small, big]] - logit_NYR
        self.loss_cheapest_NY, self.loss_full_NY = loss_NYR[:, :, 0], loss_NYR[:, :, 1]
        self.entropy_full_N = self._head.entropy(block.h_NPD[:, big])
        n_labels, n_budgets, n_letters = self.label_NY.shape[1], len(self._budgets), block.groups.branches_PL.shape[1]
        self.loss_NYQ = torch.full((n, n_labels, n_budgets), torch.inf, dtype=dtype, device=device)
        self.chosen_NQ = torch.full((n, n_budgets), torch.inf, dtype=dtype, device=device)
        self.branches_NQL = np.zeros((n, n_budgets, n_letters), dtype=np.uint8)
        self.leaves_N = torch.zeros(n, dtype=torch.int64, device=device)
        self.evaluations_Q = np.zeros(n_budgets, dtype=np.int64)

    def _evaluate(self, block: _Block, picked_NP: Tensor) -> None:
        """Evaluate the picked leaves through the whole head, and let each bound all the others of its position."""
        position_M, place_M = picked_NP.nonzero(as_tuple=True)
        h_MD = block.h_NPD[position_M, place_M]
        block.evaluated_NP |= picked_NP
        if not self._head.convex:
            block.lse_NP[position_M, place_M] = self._head.lse(h_MD)
            return
        tangent = self._head.tangent(h_MD)
        block.lse_NP[position_M, place_M] = tangent.lse_M
        offset_M = tangent.lse_M - torch.linalg.vecdot(tangent.gradient_MD, h_MD)
        counts = picked_NP.sum(dim=1).tolist()
        for position, cut in enumerate(zip(offset_M.split(counts), tangent.gradient_MD.split(counts), strict=True)):
            if counts[position]:
                self._cuts[position].append(Tangent(*cut))
                block.raise_bounds(position, Tangent(*cut))

    def _certify(self, block: _Block) -> None:
        for position, cuts in enumerate(self._cuts):
            if cuts:
                gradient_MD, offset_M = torch.cat([cut.gradient_MD for cut in cuts]), torch.cat([cut.lse_M for cut in cuts])
                block.raise_bounds(position, Tangent(offset_M, gradient_MD))
        spans = block.groups.spans
        if not spans:
            return
        device = block.h_NPD.device
        admits_GQ = torch.from_numpy(block.groups.admits_QG.T.copy()).to(device)
        place_GW = torch.from_numpy(block.groups.padded_GW).to(device)
        scale = _GUARD * self._unit_roundoff
        root_d = block.h_NPD.shape[2] ** 0.5
        guard_NP = scale * (root_d * self._head.longest * block.length_NP + block.bound_NP.abs())
        guard_NP = guard_NP + scale * root_d * self._head.greatest_bias
        guard_NP = guard_NP + tie_tolerance(block.bound_NP, self._head.dtype)
        while True:
            best_NYQ = torch.minimum(block.groups.least_by_budget(block.losses()), self.loss_NYQ)
            threshold_NYG = torch.where(admits_GQ, best_NYQ[:, :, None], -torch.inf).amax(dim=3)
            bound_NYP = torch.where(block.evaluated_NP, torch.inf, block.bound_NP - guard_NP)[:, None] - block.label_logit_NYP
            lowest_NYG, at_NYG = bound_NYP[..., place_GW].min(dim=3)
            wanted_NYG = (lowest_NYG <= threshold_NYG) & (lowest_NYG < torch.inf)
            position_W, _, group_W = wanted_NYG.nonzero(as_tuple=True)
            if not len(position_W):
                return
            picked_NP = torch.zeros_like(block.evaluated_NP)
            picked_NP[position_W, place_GW[group_W, at_NYG[wanted_NYG]]] = True
            self._evaluate(block, picked_NP)

    def _keep_best(self, block: _Block) -> None:
        """Fold the block's best into the best so far; equal losses go by the order of ties."""
        groups = block.groups
        if not groups.spans:
            return
        loss_NYP = block.losses()
        least_NYQ = groups.least_by_budget(loss_NYP)
        # the first leaf, in the order of ties, whose loss is the least up to rounding
        tie_NQ1 = (least_NYQ[:, 0] + tie_tolerance(least_NYQ[:, 0], self._head.dtype))[..., None]
        tied_NQP = (loss_NYP[:, :1] <= tie_NQ1) & torch.from_numpy(groups.admits_QP).to(loss_NYP.device)
        place_NQ = tied_NQP.to(torch.uint8).argmax(dim=2)
        loss_NQ = loss_NYP[:, 0].gather(1, place_NQ)
        old_NQ, self.loss_NYQ = self.loss_NYQ[:, 0].clone(), torch.minimum(self.loss_NYQ, least_NYQ)
        margin_NQ = tie_tolerance(loss_NQ, self._head.dtype)
        better_NQ, equal_NQ = (loss_NQ < old_NQ - margin_NQ).tolist(), (loss_NQ <= old_NQ + margin_NQ).tolist()
        for position, places in enumerate(place_NQ.tolist()):
            for budget, place in enumerate(places):
                if not groups.admits_QG[budget].any():
                    continue
                branches_L, kept_L = groups.branches_PL[place], self.branches_NQL[position, budget]
                better, equal = better_NQ[position][budget], equal_NQ[position][budget]
                if better or (equal and _tie_key(branches_L) < _tie_key(kept_L)):
                    self.branches_NQL[position, budget] = branches_L
                    self.chosen_NQ[position, budget] = loss_NQ[position, budget]


class _Block:
    """The leaves of one block and what is known of them."""

    def __init__(self, h_NPD: Tensor, groups: Groups) -> None:
        self.h_NPD, self.groups = h_NPD, groups
        self.bound_NP = torch.full(h_NPD.shape[:2], -torch.inf, dtype=h_NPD.dtype, device=h_NPD.device)
        self.lse_NP = torch.zeros_like(self.bound_NP)
        self.evaluated_NP = torch.zeros_like(self.bound_NP, dtype=torch.bool)
        self.length_NP = torch.linalg.vector_norm(h_NPD, dim=2)
        self.label_logit_NYP = h_NPD.new_empty(0)

    def losses(self) -> Tensor:
        """loss_NYP of the evaluated leaves, infinite elsewhere."""
        return torch.where(self.evaluated_NP, self.lse_NP, torch.inf)[:, None] - self.label_logit_NYP

    def raise_bounds(self, position: int, cuts: Tangent) -> None:
        """Let cuts (offsets in `lse_M`) bound the log-sum-exp of every leaf of a position."""
        bound_MP = torch.addmm(cuts.lse_M[:, None], cuts.gradient_MD, self.h_NPD[position].T)
        torch.maximum(self.bound_NP[position], bound_MP.amax(dim=0), out=self.bound_NP[position])


def _tie_key(branches_L: np.ndarray) -> tuple[int, str]:
    return int((branches_L == Branch.BIG).sum()), to_strings(branches_L[None])[0]
