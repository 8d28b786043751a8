"""Monte Carlo tree search: a tree of prefixes per token, grown one node a simulation, the trees of all tokens in lockstep.

UCT (Kocsis and Szepesvari 2006) with progressive widening (Coulom 2007; Chaslot et al. 2008). A node is the first l branches
of a pattern, its children are the feasible branches of layer l. One simulation:

    selection    from the root, the child of greatest mean + exploration * sqrt(ln visits / visits of the child)
    expansion    at the first node that has a feasible child without a node of its own: one such child is added
    evaluation   the prefix is completed, at random or by what each layer's branches scored so far, and the pattern is scored
    backup       the loss goes to every node on the way

Values are losses scaled to [0, 1] by the token's own least and greatest. A node whose every pattern has been tried is closed
and not entered again, so a small space is searched to its end. A completed pattern that is known already costs nothing: it is
only backed up.

Axes: N tokens, A tokens still searching, S nodes, b branches, L layers, K costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from duo_oracle.oracle.base.settings import setting
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search import strategy
from duo_oracle.search.asking.rounds import Rounds, RoundStrategy
from duo_oracle.search.strategy import Proposals

_FREE = 3  # simulations per evaluation that may meet a known pattern
_SMOOTHING = 2.0  # a branch's score at a layer counts from about so many evaluations on


class Mcts(RoundStrategy):
    @dataclass(frozen=True)
    class Settings(strategy.Settings):
        simulations: int = setting(100, "patterns evaluated per token", least=1)
        exploration: float = setting(0.3, "weight of the rarely visited", least=0)
        widening: float = setting(
            0.0,
            "a node of n visits has at most 1 + n ** widening children (0: all, for models of many layers 0.3 goes deeper)",
            least=0,
        )
        guidance: float = setting(
            16.0,
            "how much completions prefer, in units of a token's spread of losses, branches that did well at their layer "
            "(0: uniformly random)",
            least=0,
        )

    def __init__(self, space: SearchSpace, n_tokens: int, generator: np.random.Generator, settings: Any) -> None:
        super().__init__(space, n_tokens, generator, settings)
        n_branches, n_letters = len(space.branches), space.n_letters
        self._cost_b = np.array([branch.cost for branch in space.branches], dtype=np.int64)
        self._ways_LK = _ways(space)
        most_nodes = 1 + (1 + _FREE) * min(settings.simulations, space.size)
        self._child_NSb = np.full((n_tokens, most_nodes, n_branches), -1, dtype=np.int32)
        self._visits_NS = np.zeros((n_tokens, most_nodes), dtype=np.int32)
        self._sum_NS = np.zeros((n_tokens, most_nodes))
        self._closed_NS = np.zeros((n_tokens, most_nodes), dtype=bool)
        self._n_nodes_N = np.ones(n_tokens, dtype=np.int64)
        self._low_N, self._high_N = np.full(n_tokens, np.inf), np.full(n_tokens, -np.inf)
        self._layer_sum_NLb = np.zeros((n_tokens, n_letters, n_branches))
        self._layer_count_NLb = np.zeros((n_tokens, n_letters, n_branches))

    @property
    def children_of_nodes(self) -> np.ndarray:
        """How many children every node has: int64 (N, S), 0 where there is no node."""
        return (self._child_NSb >= 0).sum(axis=2)

    def search(self) -> Rounds:
        n_evaluated_N = np.zeros(self.n_tokens, dtype=np.int64)
        most = min(self.settings.simulations, self.space.size)
        for _ in range((1 + _FREE) * most):
            token_A = np.flatnonzero((n_evaluated_N < most) & ~self._closed_NS[:, 0])
            if not len(token_A):
                return
            path_AL, choice_AL, depth_A = self._descend(token_A)
            self._complete(token_A, choice_AL, depth_A)
            branches_AL = np.array(self.space.branches, dtype=np.uint8)[choice_AL]
            n_evaluated_N[token_A] += ~self.known(token_A, branches_AL)
            loss_A = yield Proposals(token_A, branches_AL)
            self._back_up(token_A, loss_A, path_AL, choice_AL, depth_A)

    def _descend(self, token_A: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Selection and expansion: the nodes on the way (root first, -1 past its end), the branches' indices, and its length."""
        n, n_letters = len(token_A), self.space.n_letters
        path_AL = np.full((n, n_letters + 1), -1, dtype=np.int64)
        path_AL[:, 0] = 0
        choice_AL = np.zeros((n, n_letters), dtype=np.int64)
        depth_A, cost_A = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        going = np.arange(n)
        for layer in range(n_letters):
            token, node = token_A[going], path_AL[going, layer]
            child_Gb = self._child_NSb[token, node]
            feasible_Gb = self._completions(layer, cost_A[going]) > 0
            is_open_Gb = feasible_Gb & ~((child_Gb >= 0) & self._closed_NS[token[:, None], np.maximum(child_Gb, 0)])
            new_Gb = is_open_Gb & (child_Gb < 0)
            expands_G = new_Gb.any(axis=1) & self._may_widen(token, node, child_Gb, is_open_Gb)
            # a new child is the branch that did best at this layer so far; equal ones by chance
            promise_Gb = self._promise(token, layer) + 1e-6 * self.generator.random(child_Gb.shape)
            score_Gb = np.where(expands_G[:, None], promise_Gb, self._uct(token, node, child_Gb))
            allowed_Gb = np.where(expands_G[:, None], new_Gb, is_open_Gb & (child_Gb >= 0))
            index_G = np.where(allowed_Gb, score_Gb, -np.inf).argmax(axis=1)
            next_G = child_Gb[np.arange(len(going)), index_G].astype(np.int64)
            next_G[expands_G] = self._n_nodes_N[token[expands_G]]
            self._child_NSb[token, node, index_G] = next_G
            self._n_nodes_N[token[expands_G]] += 1
            path_AL[going, layer + 1] = next_G
            choice_AL[going, layer] = index_G
            cost_A[going] += self._cost_b[index_G]
            depth_A[going] = layer + 1
            going = going[~expands_G]
            if not len(going):
                break
        return path_AL, choice_AL, depth_A

    def _may_widen(self, token_G: np.ndarray, node_G: np.ndarray, child_Gb: np.ndarray, is_open_Gb: np.ndarray) -> np.ndarray:
        has_open_child_G = (is_open_Gb & (child_Gb >= 0)).any(axis=1)
        if not self.settings.widening:
            return np.ones(len(token_G), dtype=bool)
        n_children_G = (child_Gb >= 0).sum(axis=1)
        return ~has_open_child_G | (n_children_G < 1 + np.floor(self._visits_NS[token_G, node_G] ** self.settings.widening))

    def _uct(self, token_G: np.ndarray, node_G: np.ndarray, child_Gb: np.ndarray) -> np.ndarray:
        child_Gb = np.maximum(child_Gb, 0)
        visits_Gb = np.maximum(self._visits_NS[token_G[:, None], child_Gb], 1)
        mean_Gb = self._sum_NS[token_G[:, None], child_Gb] / visits_Gb
        value_Gb = (self._high_N[token_G][:, None] - mean_Gb) / self._spread(token_G)[:, None]
        rarely_Gb = np.sqrt(np.log(np.maximum(self._visits_NS[token_G, node_G], 1))[:, None] / visits_Gb)
        return value_Gb + self.settings.exploration * rarely_Gb

    def _promise(self, token_G: np.ndarray, layer: int | np.ndarray) -> np.ndarray:
        """How well each branch did at a layer, in units of the token's spread, shrunk to 0 while it was little tried: (G, b)."""
        sum_Gb, count_Gb = self._layer_sum_NLb[token_G, layer], self._layer_count_NLb[token_G, layer]
        all_G1 = sum_Gb.sum(axis=1, keepdims=True) / np.maximum(count_Gb.sum(axis=1, keepdims=True), 1)
        return (count_Gb * all_G1 - sum_Gb) / (count_Gb + _SMOOTHING) / self._spread(token_G)[:, None]

    def _spread(self, token_G: np.ndarray) -> np.ndarray:
        spread_G = self._high_N[token_G] - self._low_N[token_G]
        return np.where(np.isfinite(spread_G) & (spread_G > 0), spread_G, 1.0)

    def _completions(self, layer: int, cost_A: np.ndarray) -> np.ndarray:
        """How many patterns begin with a prefix of `layer` branches, `cost_A` of them B's, and each next branch: (A, b)."""
        return self._ways_LK[layer + 1, cost_A[:, None] + self._cost_b]

    def _complete(self, token_A: np.ndarray, choice_AL: np.ndarray, depth_A: np.ndarray) -> None:
        """Fills in the branches past each prefix: each feasible pattern as likely as any other, but for the guidance."""
        on_the_way_AL = np.arange(self.space.n_letters) < depth_A[:, None]
        cost_A = np.zeros(len(token_A), dtype=np.int64)
        for layer in range(self.space.n_letters):
            ways_Ab = self._completions(layer, cost_A)
            weight_Ab = ways_Ab / np.maximum(ways_Ab.sum(axis=1, keepdims=True), 1)
            if self.settings.guidance:
                weight_Ab = weight_Ab * np.exp(np.clip(self.settings.guidance * self._promise(token_A, layer), -30, 30))
            cumulative_Ab = weight_Ab.cumsum(axis=1)
            drawn_A1 = self.generator.random((len(token_A), 1)) * cumulative_Ab[:, -1:]
            index_A = (cumulative_Ab <= drawn_A1).sum(axis=1).clip(max=len(self._cost_b) - 1)
            choice_AL[:, layer] = np.where(on_the_way_AL[:, layer], choice_AL[:, layer], index_A)
            cost_A += self._cost_b[choice_AL[:, layer]]

    def _back_up(
        self, token_A: np.ndarray, loss_A: np.ndarray, path_AL: np.ndarray, choice_AL: np.ndarray, depth_A: np.ndarray
    ) -> None:
        complete_A = np.isfinite(loss_A)
        self._low_N[token_A] = np.where(complete_A, np.minimum(self._low_N[token_A], loss_A), self._low_N[token_A])
        self._high_N[token_A] = np.where(complete_A, np.maximum(self._high_N[token_A], loss_A), self._high_N[token_A])
        worst_A = np.where(np.isfinite(self._high_N[token_A]), self._high_N[token_A], 0.0)
        loss_A = np.where(complete_A, loss_A, worst_A)  # a failed trial is as bad as the worst
        layer_1L = np.arange(self.space.n_letters)[None]
        self._layer_sum_NLb[token_A[:, None], layer_1L, choice_AL] += loss_A[:, None]
        self._layer_count_NLb[token_A[:, None], layer_1L, choice_AL] += 1
        cost_AL = np.concatenate([np.zeros((len(token_A), 1), dtype=np.int64), self._cost_b[choice_AL].cumsum(axis=1)], axis=1)
        for layer in reversed(range(self.space.n_letters + 1)):
            rows = np.flatnonzero(layer <= depth_A)
            token, node = token_A[rows], path_AL[rows, layer]
            self._visits_NS[token, node] += 1
            self._sum_NS[token, node] += loss_A[rows]
            if layer == self.space.n_letters:
                self._closed_NS[token, node] = True
                continue
            ways_Rb = self._completions(layer, cost_AL[rows, layer])
            child_Rb = self._child_NSb[token, node]
            child_closed_Rb = (child_Rb >= 0) & self._closed_NS[token[:, None], np.maximum(child_Rb, 0)]
            # the one pattern of a prefix that leaves no choice has just been evaluated
            self._closed_NS[token, node] = (child_closed_Rb | (ways_Rb == 0)).all(axis=1) | (ways_Rb.sum(axis=1) == 1)


def _ways(space: SearchSpace) -> np.ndarray:
    """In how many ways a prefix of l branches of cost k is completed to a pattern of the space: float64 (L + 1, K)."""
    n_letters, n_costs = space.n_letters, space.most_cost + 1
    dearest = max(branch.cost for branch in space.branches)
    ways_LK = np.zeros((n_letters + 1, n_costs + dearest))
    ways_LK[n_letters, :n_costs] = np.array(space.sizes_by_cost) > 0
    for layer in reversed(range(n_letters)):
        for branch in space.branches:
            ways_LK[layer, :n_costs] += ways_LK[layer + 1, branch.cost : n_costs + branch.cost]
    return ways_LK
