"""The joint oracle: the routes of all tokens of a window together, of the lowest summed loss under one total budget.

What a token takes changes what later tokens see, so the best route of a window is not made of its tokens' best patterns. Two ways
to it: a beam over tokens, exact where it holds every prefix of routes, and descent, which changes one letter at a time, or
exchanges two, as long as the summed loss falls. Knows nothing of runs and files.

Axes: W lanes (prefixes of routes), T token that is run, N token that is routed, P patterns, F flips, L letter, D hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import Tensor

from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.flips import FlippedSequence
from duo_oracle.oracle.engine.head import Head
from duo_oracle.oracle.engine.trie import trie_of
from duo_oracle.oracle.engine.walk import CommittedContext, FixedContext, descend
from duo_oracle.oracle.model import OracleModel, finite
from duo_oracle.oracle.patterns import Branch, branch_counts
from duo_oracle.oracle.reference import Reference

LESS = 1e-6
"""A sum of losses is lower where it is lower by so many nats: rounding alone moves nothing."""
_EXCHANGES = 8  # times as many exchanges are tried in a round as a route has letters, at most


@dataclass(frozen=True)
class JointRoute:
    """A route of a window: a pattern for each of its N routed tokens."""

    mask_NL: np.ndarray  # uint8
    loss_N: np.ndarray  # float64, nats: what each token loses, or is expected to lose
    changes: int  # how many letters and exchanges descent changed

    @property
    def cost(self) -> int:
        return int(branch_counts(self.mask_NL, Branch.BIG).sum())


@dataclass(frozen=True)
class JointProblem:
    """A window whose tokens are routed together, at a total cost from `low` to `high`.

    `token_id_T` holds T + 1 tokens, the last only a target; the first `n_warm` are run all-big and not routed. With `reference`,
    which is of the routed tokens, a loss is what that expects; without, it is that of the next token.

    >>> from duo_oracle.models.families.toy import random_toy
    >>> window = JointProblem(random_toy(seed=0, n_letters=3), torch.tensor([3, 1, 4, 1]), (Branch.SMALL, Branch.BIG), 0, 4)
    >>> start = window.route(np.full((3, 3), Branch.SMALL, dtype=np.uint8))
    >>> best = window.beam(start, width=1 << 9)
    >>> bool(best.loss_N.sum() < start.loss_N.sum()), best.cost <= 4
    (True, True)
    """

    model: OracleModel
    token_id_T: Tensor
    branches: tuple[Branch, ...]
    low: int
    high: int
    skip: SkipReading = SkipReading.FFN
    n_warm: int = 0
    reference: Reference | None = None

    @property
    def n_tokens(self) -> int:
        """How many tokens are routed."""
        return len(self.token_id_T) - 1 - self.n_warm

    def admits(self, cost: np.ndarray | int) -> np.ndarray:
        """Which total costs the budget admits."""
        return (self.low <= np.asarray(cost)) & (np.asarray(cost) <= self.high)

    @torch.no_grad()
    def route(self, mask_NL: np.ndarray, changes: int = 0) -> JointRoute:
        """The route that `mask_NL` says, with its losses by one pass of the window."""
        context = FixedContext(self.model, self.token_id_T[:-1], self._run_mask(mask_NL), self.skip)
        place_N = torch.arange(self.n_tokens, device=self.model.device)
        return JointRoute(mask_NL, self._losses(context.end_TD[self.n_warm :], place_N), changes)

    def descend(self, start: JointRoute) -> JointRoute:
        """The route that single changes of letters and exchanges of two lead to from `start`: none of them lowers it further.

        A change that the total forbids alone may be made together with another, anywhere in the window, that makes up for it.
        Never worse than `start`.
        """
        route, changes = start, 0
        while True:
            swept, n_swept = self._sweep(route.mask_NL)
            swept, n_exchanged = self._exchange(swept)
            found = self.route(swept, changes + n_swept + n_exchanged)
            if found.loss_N.sum() > route.loss_N.sum() - LESS:
                return route
            route, changes = found, found.changes

    @torch.no_grad()
    def beam(self, start: JointRoute, width: int) -> JointRoute:
        """The best route of a beam over tokens: of all prefixes of routes that the total admits, the `width` of the lowest sum go
        on, and `start` with them. Exact where `width` is as many as there are. Never worse than `start`.
        """
        patterns_PL = np.array(list(product(self.branches, repeat=self.model.n_letters)), dtype=np.uint8)
        trie, _ = trie_of(patterns_PL)
        pattern_PL = trie.branches_PL  # in the order of the tree's leaves
        cost_P = branch_counts(pattern_PL, Branch.BIG).astype(np.int64)
        is_start_NP = (start.mask_NL[:, None] == pattern_PL[None]).all(axis=2)
        context = CommittedContext(self.model, max(width, 1) + 1, len(self.token_id_T) - 1, self.skip)
        all_big_1L = np.full((1, self.model.n_letters), Branch.BIG, dtype=np.uint8)
        for position in range(self.n_warm):
            context.commit(position, context.begin(position, self.token_id_T[position : position + 1]), all_big_1L)
        mask_WNL = np.zeros((1, 0, self.model.n_letters), dtype=np.uint8)
        loss_WN, cost_W, is_start_W = np.zeros((1, 0)), np.zeros(1, dtype=np.int64), np.ones(1, dtype=bool)
        for place in range(self.n_tokens):
            position, n_lanes, left = self.n_warm + place, len(mask_WNL), self.n_tokens - place - 1
            x_WD = context.begin(position, self.token_id_T[position].expand(n_lanes))
            leaf_PWD = descend(self.model, trie.levels, 0, x_WD[None], context.attend(position, slice(0, n_lanes)), self.skip)
            place_M = torch.full((leaf_PWD.shape[0] * n_lanes,), place, device=x_WD.device)
            loss_WP = self._losses(leaf_PWD.reshape(-1, leaf_PWD.shape[-1]), place_M).reshape(-1, n_lanes).T
            sum_WP, total_WP = loss_WN.sum(axis=1)[:, None] + loss_WP, cost_W[:, None] + cost_P
            possible_WP = (total_WP + left * cost_P.min() <= self.high) & (total_WP + left * cost_P.max() >= self.low)
            order = np.argsort(np.where(possible_WP, sum_WP, np.inf), axis=None, kind="stable")[: min(width, possible_WP.sum())]
            of_start = np.flatnonzero(is_start_W[:, None] & is_start_NP[place])
            order = np.concatenate([order, np.setdiff1d(of_start, order)])
            lane_W, leaf_W = np.divmod(order, len(pattern_PL))
            lane = torch.from_numpy(lane_W).to(x_WD.device)
            context.keep(lane)
            context.commit(position, x_WD[lane], pattern_PL[leaf_W])
            mask_WNL = np.concatenate([mask_WNL[lane_W], pattern_PL[leaf_W][:, None]], axis=1)
            loss_WN = np.concatenate([loss_WN[lane_W], loss_WP[lane_W, leaf_W][:, None]], axis=1)
            cost_W, is_start_W = total_WP[lane_W, leaf_W], np.isin(order, of_start)
        best = self.route(mask_WNL[int(np.argmin(loss_WN.sum(axis=1)))])
        return best if best.loss_N.sum() < start.loss_N.sum() - LESS else start

    def _sweep(self, mask_NL: np.ndarray) -> tuple[np.ndarray, int]:
        """The route after every token in turn took its best single changes, and how many those were."""
        mask_NL, total, changes = mask_NL.copy(), int(branch_counts(mask_NL, Branch.BIG).sum()), 0
        flipped = self._flipped(mask_NL)
        for place in range(self.n_tokens):
            while True:
                letter_F, after_F, change_F, cost_F = self._flips(flipped, place)
                change_F = np.where(self.admits(total + cost_F), change_F, np.inf)
                best = int(np.argmin(change_F)) if len(change_F) else -1
                if best < 0 or change_F[best] > -LESS:
                    break
                mask_NL[place, letter_F[best]] = after_F[best]
                total, changes = total + int(cost_F[best]), changes + 1
                flipped = self._flipped(mask_NL)
        return mask_NL, changes

    def _exchange(self, mask_NL: np.ndarray) -> tuple[np.ndarray, int]:
        """The route after exchanges: a letter that costs more and one that costs less, by what each changes alone, best first, and
        each taken where the window's pass says that it lowers the sum."""
        total = int(branch_counts(mask_NL, Branch.BIG).sum())
        flipped = self._flipped(mask_NL)
        found = [self._flips(flipped, place) for place in range(self.n_tokens)]
        place_F = np.repeat(np.arange(self.n_tokens), [len(one[0]) for one in found])
        letter_F, after_F, change_F, cost_F = (np.concatenate(columns) for columns in zip(*found, strict=True))
        dearer, cheaper = (np.flatnonzero(sign * cost_F > 0) for sign in (1, -1))
        change_UD = change_F[dearer][:, None] + change_F[cheaper]
        change_UD[~self.admits(total + cost_F[dearer][:, None] + cost_F[cheaper])] = np.inf
        order = np.argsort(change_UD, axis=None, kind="stable")[: _EXCHANGES * mask_NL.size]
        route, taken, changes = self.route(mask_NL), set[tuple[int, int]](), 0
        for up, down in zip(*np.unravel_index(order, change_UD.shape), strict=True):
            if change_UD[up, down] > -LESS:
                break
            pair = [(int(place_F[f]), int(letter_F[f])) for f in (dearer[up], cheaper[down])]
            if len(set(pair) - taken) < 2:
                continue
            tried_NL = route.mask_NL.copy()
            for at, f in zip(pair, (dearer[up], cheaper[down]), strict=True):
                tried_NL[at] = after_F[f]
            tried = self.route(tried_NL)
            if tried.loss_N.sum() < route.loss_N.sum() - LESS:
                route, changes = tried, changes + 1
                taken |= set(pair)
        return route.mask_NL, changes

    def _flipped(self, mask_NL: np.ndarray) -> FlippedSequence:
        return FlippedSequence(self.model, self.token_id_T, self._run_mask(mask_NL), self.skip, self.reference)

    def _flips(self, flipped: FlippedSequence, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Every change of one letter of a token: the letter, its new branch, what it adds to the window's sum, and to its cost."""
        flips = flipped.flips(self.n_warm + place, self.branches, len(self.token_id_T), kl=False)
        change_FS = flips.loss_FS if self.reference is None else flips.expected_FS
        cost_F = (flips.after_F == Branch.BIG).astype(np.int64) - (flips.before_F == Branch.BIG)
        return flips.letter_F, flips.after_F, change_FS.sum(axis=1), cost_F

    def _run_mask(self, mask_NL: np.ndarray) -> np.ndarray:
        return np.concatenate([np.full((self.n_warm, self.model.n_letters), Branch.BIG, dtype=np.uint8), mask_NL])

    @cached_property
    def _head(self) -> Head:
        return Head(self.model)

    def _losses(self, x_MD: Tensor, place_M: Tensor) -> np.ndarray:
        """The losses of states after the last layer, each of one routed token: float64 (M,)."""
        h_MD = self._head.states(x_MD)
        if self.reference is None:
            logit_M = self._head.label_logits(h_MD, self.token_id_T[self.n_warm + 1 + place_M])
        else:
            logit_M = self._head.expected_logit(h_MD, self._head.distributions(self.reference), place_M)
        return finite(self._head.lse(h_MD).double() - logit_M.double(), "a loss").cpu().numpy()
