"""The oracle of an average budget: which cost each token gets, so that the mean loss is least and the mean cost given.

For one token, the losses at its costs k (B's, or active experts) have a greatest convex minorant; whatever is reached by a mixture
over tokens lies on or above it. Its slopes are what one more is worth. Giving them in the order of their worth over all tokens is
the Lagrangian relaxation for every multiplier at once: its vertices are the exact optimum, and between two vertices one token is
split. The whole frontier, mean loss against mean cost, is convex. Valid where one token's choice does not change another's losses.

Axes: K costs, rising, N tokens, I steps (k to k + 1), S the steps of all tokens in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

_BLOCK = 1 << 14  # tokens at once


@dataclass(frozen=True)
class AverageOracle:
    """The order in which steps of cost are given. Ties go to the first token, and a token's equal steps stay together."""

    least: int  # the least cost
    loss_KN: np.ndarray  # at every whole cost from it on
    slope_IN: np.ndarray  # rising with I: what the step changes, in nats, along the minorant
    order_S: np.ndarray  # of the flat (token, step) pairs

    @cached_property
    def frontier(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean cost, mean loss) after each step: a convex line from all tokens at the least cost to all at the greatest."""
        n_tokens = self.loss_KN.shape[1]
        given_S = np.concatenate([[0.0], np.cumsum(self.slope_IN.T.ravel()[self.order_S])])
        return self.least + np.arange(len(given_S)) / n_tokens, self.loss_KN[0].mean() + given_S / n_tokens

    def at(self, budget: float) -> tuple[np.ndarray, np.ndarray]:
        """Each token's loss and cost at a mean of `budget`; the loss of a token that is split lies on its minorant."""
        n_steps, n_tokens = self.slope_IN.shape
        total = min(max(budget - self.least, 0.0), n_steps) * n_tokens
        whole = int(total + 1e-6)
        token_S = self.order_S // n_steps
        k_N = np.bincount(token_S[:whole], minlength=n_tokens)
        upto_KN = np.concatenate([np.zeros((1, n_tokens)), np.cumsum(self.slope_IN, axis=0)])
        loss_N = self.loss_KN[0] + upto_KN[k_N, np.arange(n_tokens)]
        if whole < len(token_S):
            token = token_S[whole]
            loss_N[token] += max(total - whole, 0.0) * self.slope_IN[k_N[token], token]
        return loss_N, self.least + k_N


def average_oracle(loss_KN: np.ndarray, cost_K: np.ndarray | None = None) -> AverageOracle:
    """The order of steps for losses at these costs, whole and rising; by default 0, 1, 2, ...

    A cost between two of them that no pattern has is a mixture of the two, which changes no minorant.

    >>> loss_N, cost_N = average_oracle(np.array([[4.0, 4.0], [1.0, 3.0], [0.5, 1.0]]), np.array([1, 2, 4])).at(3)
    >>> loss_N.tolist(), cost_N.tolist()
    ([1.0, 1.0], [2, 4])
    """
    cost_K = np.arange(len(loss_KN)) if cost_K is None else np.asarray(cost_K)
    if len(cost_K) != 1 + cost_K[-1] - cost_K[0]:
        loss_KN = _between(loss_KN, cost_K)
    slope_IN = np.concatenate(
        [_minorant_slopes(loss_KN[:, start : start + _BLOCK]) for start in range(0, loss_KN.shape[1], _BLOCK)], axis=1
    )
    n_steps, n_tokens = slope_IN.shape
    step_S, token_S = np.tile(np.arange(n_steps), n_tokens), np.repeat(np.arange(n_tokens), n_steps)
    return AverageOracle(int(cost_K[0]), loss_KN, slope_IN, np.lexsort((step_S, token_S, slope_IN.T.ravel())))


def _between(loss_KN: np.ndarray, cost_K: np.ndarray) -> np.ndarray:
    """The losses at every whole cost: those of `cost_K`, and between two of them the line through both."""
    every_K = np.arange(cost_K[0], cost_K[-1] + 1)
    after_K = np.maximum(np.searchsorted(cost_K, every_K), 1)
    low_K, high_K = cost_K[after_K - 1], cost_K[after_K]
    share_K1 = ((every_K - low_K) / (high_K - low_K))[:, None]
    return np.where(share_K1 == 1, loss_KN[after_K], (1 - share_K1) * loss_KN[after_K - 1] + share_K1 * loss_KN[after_K])


def _minorant_slopes(loss_KN: np.ndarray) -> np.ndarray:
    """Slope of the greatest convex minorant over each step: max over starts a <= i of min over ends b > i of the chord's slope."""
    n_steps = len(loss_KN) - 1
    slope_IN = np.full((n_steps, loss_KN.shape[1]), -np.inf)
    for start in range(n_steps):
        chord_EN = (loss_KN[start + 1 :] - loss_KN[start]) / np.arange(1, n_steps - start + 1)[:, None]
        least_EN = np.minimum.accumulate(chord_EN[::-1], axis=0)[::-1]  # over all ends from here on
        slope_IN[start:] = np.maximum(slope_IN[start:], least_EN)
    return slope_IN
