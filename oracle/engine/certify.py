"""Certified search of the vocabulary head: the best leaf of a tree, proven, with few of its leaves evaluated.

The loss of leaf h with label y is lse(h) - w_y.h, and lse(h) = log sum_v exp(w_v.h) is convex. With a distribution q as target it
is lse(h) - t.h, t = sum_v q_v w_v: a label is one such direction, and no direction is longer than the longest w_v. The tangent of
lse at an evaluated leaf h0 bounds it from below everywhere:

    lse(h) >= lse(h0) + g0.(h - h0),    g0 = sum_v softmax(W h0)_v w_v

This is Kelley's cutting-plane method (1960) on a finite set: keep for each leaf the greatest of the cuts, minus t.h; evaluate
the leaf of least bound; stop when no unevaluated leaf's bound is below the best. The cuts do not depend on the target, so
several targets of a position share them, and those of several budgets, which are sets of leaves.

Rounding. A computed bound may exceed the exact one by the error of dot products of length D in the head's arithmetic of
unit roundoff u. Errors of signs as they fall grow with sqrt(D) (Higham and Mary, 2019, probabilistic backward error
analysis), so the bound is lowered by 8 u (sqrt(D) (max_v |w_v| |h| + max_v |b_v|) + |lse|), eight of their standard deviations.

A head with a bias b is as convex. One whose logits are softly capped is not: every leaf is evaluated, which proves as much.

Leaves come in blocks, so that the memory needed does not grow with their number; positions go side by side.

Axes: N positions, P leaves of the block, Y targets (the real label, the drawn ones, and last a reference's distribution where there
is one), Q budgets, M evaluated leaves, D hidden, L layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from duo_oracle.oracle.budgets import Budget
from duo_oracle.oracle.engine.choice import Choice, Groups, tie_tolerance
from duo_oracle.oracle.engine.device import resident
from duo_oracle.oracle.engine.head import Distributions, Head, Tangent
from duo_oracle.oracle.model import finite
from duo_oracle.oracle.patterns import Branch

Draw = Callable[[Tensor], Tensor]
"""The labels of N positions, int64 (N, 1 + draws), from their states under the all-big pattern, h_ND."""

_GUARD = 8.0


class CertifiedSearch:
    """The least loss of N positions under every budget and target, over blocks of leaves given to `search` one after another.

    `best` is the choice by the real label, and `by_reference` the one by the reference's expected loss, where there is one.

    The first block must hold what gains are counted from: all-big, and the pattern that takes the `cheapest` branch at every layer.
    """

    def __init__(
        self,
        head: Head,
        budgets: tuple[Budget, ...],
        draw: Draw,
        cheapest: Branch = Branch.SMALL,
        reference: Distributions | None = None,
    ) -> None:
        self._head, self._budgets, self._draw, self._cheapest = head, budgets, draw, cheapest
        self._reference = reference
        self._unit_roundoff = torch.finfo(head.dtype).eps / 2
        self._cuts: list[list[Tangent]] = []  # per position: offsets c (in lse_M) and gradients g of lse(h) >= c + g.h
        self._rounds: list[_Cuts] = []  # the same where positions go together
        self.label_NY: Tensor | None = None

    def search(self, h_NPD: Tensor, groups: Groups, every: bool = False) -> Tensor | None:
        """Certify a block of leaves, given in the order of the groups.

        With `every`, each leaf is evaluated instead, and their losses of the real label are returned, loss_NP. So are the leaves of
        a head that is not convex, where no tangent is a bound.

        Raises InputError for a state or a loss that is not finite: a NaN is below no threshold, and would end its group's proof.
        """
        block = _Block(h_NPD, groups)
        finite(block.length_NP, "a loss")
        if self.label_NY is None:
            self._begin(block)
        assert self.label_NY is not None
        block.target_logit_NYP = self._target_logits(h_NPD)
        if every or not self._head.convex:
            n, p, d = h_NPD.shape
            block.lse_NP = finite(self._head.lse(h_NPD.reshape(n * p, d)).view(n, p), "a loss")
            block.evaluated_NP[:] = True
        else:
            self._certify(block)
        self._keep_best(block)
        self.leaves_N += block.evaluated_NP.sum(dim=1)
        self.evaluations_Q += groups.sizes_Q
        return block.lse_NP - block.target_logit_NYP[:, 0] if every else None

    def _begin(self, block: _Block) -> None:
        """Evaluate all-big and the cheapest pattern, and draw the labels from all-big's distribution."""
        n = len(block.h_NPD)
        device, dtype = block.h_NPD.device, block.h_NPD.dtype
        self._cuts = [[] for _ in range(n)]
        small, big = block.groups.place_of(self._cheapest), block.groups.place_of(Branch.BIG)
        self.label_NY = self._draw(block.h_NPD[:, big])
        picked_NP = torch.zeros(block.h_NPD.shape[:2], dtype=torch.bool, device=device)
        picked_NP[:, [small, big]] = True
        self._evaluate(block, picked_NP)
        logit_NYR = self._target_logits(block.h_NPD[:, [small, big]])
        loss_NYR = block.lse_NP[:, None, [small, big]] - logit_NYR
        self.loss_cheapest_NY, self.loss_full_NY = loss_NYR[:, :, 0], loss_NYR[:, :, 1]
        self.entropy_full_N = self._head.entropy(block.h_NPD[:, big])
        n_budgets, n_letters = len(self._budgets), block.groups.branches_PL.shape[1]
        self.loss_NYQ = torch.full((n, loss_NYR.shape[1], n_budgets), torch.inf, dtype=dtype, device=device)
        self.best = Choice(0, n, n_budgets, n_letters, loss_NYR)
        self.by_reference = None if self._reference is None else Choice(-1, n, n_budgets, n_letters, loss_NYR)
        self.leaves_N = torch.zeros(n, dtype=torch.int64, device=device)
        self.evaluations_Q = np.zeros(n_budgets, dtype=np.int64)

    def _target_logits(self, h_NPD: Tensor) -> Tensor:
        """The logits that losses subtract, expected ones for the reference: (N, Y, P)."""
        assert self.label_NY is not None
        logit_NYP = self._head.labels_logits(h_NPD, self.label_NY)
        if self._reference is None:
            return logit_NYP
        return torch.cat([logit_NYP, self._head.expected_logits(h_NPD, self._reference)[:, None]], dim=1)

    def _evaluate(self, block: _Block, picked_NP: Tensor) -> None:
        """Evaluate the picked leaves through the whole head, and let each bound all the others of its position."""
        position_M, place_M = picked_NP.nonzero(as_tuple=True)
        h_MD = block.h_NPD[position_M, place_M]
        block.evaluated_NP |= picked_NP
        if not self._head.convex:
            block.lse_NP[position_M, place_M] = finite(self._head.lse(h_MD), "a loss")
            return
        tangent = self._head.tangent(h_MD)
        block.lse_NP[position_M, place_M] = finite(tangent.lse_M, "a loss")
        offset_M = tangent.lse_M - torch.linalg.vecdot(tangent.gradient_MD, h_MD)
        if together(block.h_NPD.device):
            self._rounds.append(_Cuts.of(position_M, len(block.h_NPD), offset_M, tangent.gradient_MD))
            self._rounds[-1].raise_bounds(block)
            return
        counts = picked_NP.sum(dim=1).tolist()
        for position, cut in enumerate(zip(offset_M.split(counts), tangent.gradient_MD.split(counts), strict=True)):
            if counts[position]:
                self._cuts[position].append(Tangent(*cut))
                block.raise_bounds(position, Tangent(*cut))

    def _certify(self, block: _Block) -> None:
        for cuts_of_all in self._rounds:
            cuts_of_all.raise_bounds(block)
        for position, cuts in enumerate(self._cuts):
            if cuts:
                gradient_MD, offset_M = torch.cat([cut.gradient_MD for cut in cuts]), torch.cat([cut.lse_M for cut in cuts])
                block.raise_bounds(position, Tangent(offset_M, gradient_MD))
        spans = block.groups.spans
        if not spans:
            return
        device = block.h_NPD.device
        admits_GQ = resident(block.groups.admits_QG, device).T
        place_GW = resident(block.groups.padded_GW, device)
        scale = _GUARD * self._unit_roundoff
        root_d = block.h_NPD.shape[2] ** 0.5
        guard_NP = scale * (root_d * self._head.longest * block.length_NP + block.bound_NP.abs())
        guard_NP = guard_NP + scale * root_d * self._head.greatest_bias
        guard_NP = guard_NP + tie_tolerance(block.bound_NP, self._head.dtype)
        logit_NYP, least_NYQ = block.target_logit_NYP, self.loss_NYQ
        while True:
            best_NYQ = torch.minimum(block.groups.least_by_budget(block.losses(logit_NYP)), least_NYQ)
            threshold_NYG = torch.where(admits_GQ, best_NYQ[:, :, None], -torch.inf).amax(dim=3)
            bound_NYP = torch.where(block.evaluated_NP, torch.inf, block.bound_NP - guard_NP)[:, None] - logit_NYP
            lowest_NYG, at_NYG = bound_NYP[..., place_GW].min(dim=3)
            wanted_NYG = (lowest_NYG <= threshold_NYG) & (lowest_NYG < torch.inf)
            position_W, _, group_W = wanted_NYG.nonzero(as_tuple=True)
            if not len(position_W):
                return
            picked_NP = torch.zeros_like(block.evaluated_NP)
            picked_NP[position_W, place_GW[group_W, at_NYG[wanted_NYG]]] = True
            self._evaluate(block, picked_NP)
            open_Y = wanted_NYG.any(dim=2).any(dim=0)
            if not open_Y.all():  # a target that is certified at every position stays so: bounds rise, and the best falls
                logit_NYP, least_NYQ = logit_NYP[:, open_Y], least_NYQ[:, open_Y]

    def _keep_best(self, block: _Block) -> None:
        """Fold the block's best into the best so far."""
        groups = block.groups
        if not groups.spans:
            return
        loss_NYP = block.losses(block.target_logit_NYP)
        least_NYQ = groups.least_by_budget(loss_NYP)
        for choice in (self.best, self.by_reference):
            if choice is not None:
                choice.fold(groups, loss_NYP, least_NYQ, self.loss_NYQ, self._head.dtype)
        self.loss_NYQ = torch.minimum(self.loss_NYQ, least_NYQ)


def together(device: torch.device) -> bool:
    """Whether the cuts of all positions go through one product. On a CPU one position after the other is as fast, and its bounds do
    not depend on the others'; a GPU waits for the launches."""
    return device.type != "cpu"


@dataclass(frozen=True)
class _Cuts:
    """One round's cuts of N positions side by side, W of each; an offset of minus infinity stands for none."""

    offset_NW: Tensor
    gradient_NWD: Tensor

    @classmethod
    def of(cls, position_M: Tensor, n: int, offset_M: Tensor, gradient_MD: Tensor) -> _Cuts:
        """`position_M` is ascending: which position each cut is of."""
        counts_N = torch.bincount(position_M, minlength=n)
        slot_M = torch.arange(len(position_M), device=position_M.device) - (counts_N.cumsum(0) - counts_N)[position_M]
        width = int(counts_N.max())
        offset_NW = offset_M.new_full((n, width), -torch.inf)
        gradient_NWD = gradient_MD.new_zeros((n, width, gradient_MD.shape[1]))
        offset_NW[position_M, slot_M], gradient_NWD[position_M, slot_M] = offset_M, gradient_MD
        return cls(offset_NW, gradient_NWD)

    def raise_bounds(self, block: _Block) -> None:
        bound_NWP = torch.baddbmm(self.offset_NW[:, :, None], self.gradient_NWD, block.h_NPD.transpose(1, 2))
        torch.maximum(block.bound_NP, bound_NWP.amax(dim=1), out=block.bound_NP)


class _Block:
    """The leaves of one block and what is known of them."""

    def __init__(self, h_NPD: Tensor, groups: Groups) -> None:
        self.h_NPD, self.groups = h_NPD, groups
        self.bound_NP = torch.full(h_NPD.shape[:2], -torch.inf, dtype=h_NPD.dtype, device=h_NPD.device)
        self.lse_NP = torch.zeros_like(self.bound_NP)
        self.evaluated_NP = torch.zeros_like(self.bound_NP, dtype=torch.bool)
        self.length_NP = torch.linalg.vector_norm(h_NPD, dim=2)
        self.target_logit_NYP = h_NPD.new_empty(0)

    def losses(self, logit_NYP: Tensor) -> Tensor:
        """loss_NYP of the evaluated leaves under targets of these logits, infinite elsewhere."""
        return torch.where(self.evaluated_NP, self.lse_NP, torch.inf)[:, None] - logit_NYP

    def raise_bounds(self, position: int, cuts: Tangent) -> None:
        """Let cuts (offsets in `lse_M`) bound the log-sum-exp of every leaf of a position."""
        bound_MP = torch.addmm(cuts.lse_M[:, None], cuts.gradient_MD, self.h_NPD[position].T)
        torch.maximum(self.bound_NP[position], bound_MP.amax(dim=0), out=self.bound_NP[position])
