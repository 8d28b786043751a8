"""How a router uses its branches: agreement with the oracle beside what chance gives, collapse, consistency of two routings.

Pure statistics over patterns.

Axes: N tokens, L routed layer, P distinct patterns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from duo_oracle.oracle.patterns import Branch, to_strings


def agreement(branches_NL: np.ndarray, oracle_NL: np.ndarray, branches: Sequence[Branch]) -> dict[str, Any]:
    """How often a router takes the oracle's branch, per layer and on average, and the weighted Jaccard index of (token, layer, B).

    Beside each: the rate of always guessing the layer's majority branch, and what a pattern is expected to reach that has as
    many B's as the router gave the token, in random layers.
    """
    same_L, majority_L = layer_agreement(branches_NL, oracle_NL, branches)
    big_N1 = (branches_NL == Branch.BIG).mean(axis=1, keepdims=True)  # chance of B at each layer of a random pattern
    cheap = [branch for branch in branches if branch is not Branch.BIG]
    chance_NL = np.where(oracle_NL == Branch.BIG, big_N1, (1 - big_N1) / max(len(cheap), 1))
    oracle_big_NL = oracle_NL == Branch.BIG
    both = float((oracle_big_NL * big_N1).sum())
    either = float(oracle_big_NL.sum() + big_N1.sum() * branches_NL.shape[1] - both)
    return {
        "same_pattern": float((branches_NL == oracle_NL).all(axis=1).mean()),
        "agreement": float(same_L.mean()),
        "agreement_majority": float(majority_L.mean()),
        "agreement_random": float(chance_NL.mean()),
        "agreement_by_layer": [float(value) for value in same_L - majority_L],
        "hamming": float((branches_NL != oracle_NL).sum(axis=1).mean()),
        "jaccard": jaccard(branches_NL, oracle_NL),
        "jaccard_random": both / either if either else 1.0,
    }


def layer_agreement(branches_NL: np.ndarray, oracle_NL: np.ndarray, branches: Sequence[Branch]) -> tuple[np.ndarray, np.ndarray]:
    """Per layer: how often the router takes the oracle's branch, and how often the oracle takes its commonest one there."""
    share_LB = np.stack([(oracle_NL == branch).mean(axis=0) for branch in branches], axis=1)
    return (branches_NL == oracle_NL).mean(axis=0), share_LB.max(axis=1)


def jaccard(left_NL: np.ndarray, right_NL: np.ndarray) -> float:
    """Of the (token, layer) pairs where either takes B, the share where both do (the weighted Jaccard index of two hard
    routings, arXiv 2603.11535); 1 where neither takes any."""
    left_NL, right_NL = left_NL == Branch.BIG, right_NL == Branch.BIG
    either = int((left_NL | right_NL).sum())
    return float((left_NL & right_NL).sum()) / either if either else 1.0


def collapse(branches_NL: np.ndarray) -> dict[str, Any]:
    """How many patterns are used, their entropy in nats, and the shares of the most common one and of all-big."""
    rows_PL, count_P = np.unique(branches_NL, axis=0, return_counts=True)
    share_P = count_P / count_P.sum()
    commonest = int(share_P.argmax())
    return {
        "patterns": len(rows_PL),
        "entropy": abs(float((share_P * np.log(share_P)).sum())),
        "commonest_share": float(share_P[commonest]),
        "commonest": to_strings(rows_PL[[commonest]])[0],
        "all_big_share": float((branches_NL == Branch.BIG).all(axis=1).mean()),
    }
