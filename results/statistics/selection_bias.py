"""What selection bias can do, from a run's own tables: best of N patterns, the mixture, and the layers as noise would have them.

- Best of N: the least of N patterns drawn without replacement has an expected loss that follows exactly from a token's kept
  losses. With one N at every budget, budgets differ in compute alone and not in how many patterns there were to choose from.
- The mixture of patterns, -log of their mean probability, is a distribution, as the oracle is not: it needs no label.
- Layers. Where each big FFN changes a loss by independent noise, the oracle of k and that of L - k big layers mirror each
  other: the shares of B's at a layer add up to 1. mu and sigma are the mean and the spread over tokens of what one big layer
  changes against the run's cheapest pattern (all-small, or all-skip).

Axes: N tokens, P patterns, D documents, L routed layers, M measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.statistics.intervals import Estimate, bootstrap, bootstrap_sums
from duo_oracle.results.store.kept_losses import KeptLosses
from duo_oracle.results.store.positions import read_paths, read_tokens, spans_of
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.schemas import branches_of

SAME_NUMBER = 12
"""Patterns at every budget, where as many are drawn: the fewest of a 12-layer model's budgets from 1 to 11."""


@dataclass(frozen=True)
class BestOfN:
    """One budget of a run: nats per token. `expected` has the least loss of n patterns for every n of `numbers`, None where
    the budget holds fewer."""

    budget: str
    n_patterns: int
    numbers: tuple[int, ...]
    expected: tuple[Estimate | None, ...]
    mixture: Estimate
    random: Estimate
    oracle: Estimate


@dataclass(frozen=True)
class LayerNoise:
    """One layer: effect of its big FFN against the run's cheapest pattern in nats (None without kept losses), and its use at k
    and at L - k."""

    layer: int  # its number in the model
    mu: Estimate | None
    sigma: Estimate | None
    low_share: Estimate | None
    high_share: Estimate | None
    total: Estimate | None  # of the two shares; 1 in pure noise


def best_of_n(loss_NP: np.ndarray, n_N: np.ndarray) -> np.ndarray:
    """The expected least of `n_N[i]` losses drawn without replacement from row i: float64 (N,). No simulation.

    With the row sorted, the i-th least of P is the least drawn with probability C(P - i, n - 1) / C(P, n). From a row that is
    itself a random sample of a longer one, the answer is an unbiased estimate of that for the longer one.
    Raises InputError for fewer than 1 or more than P.
    """
    n_patterns = loss_NP.shape[1]
    if len(n_N) and not (n_N.min() >= 1 and n_N.max() <= n_patterns):
        raise InputError(f"1 to {n_patterns} patterns can be drawn of {n_patterns}; got {n_N.min()} to {n_N.max()}")
    sorted_NP = np.sort(loss_NP.astype(np.float64), axis=1)
    expected_N = np.empty(len(loss_NP))
    for n in np.unique(n_N):
        rows = n_N == n
        expected_N[rows] = sorted_NP[rows] @ weights_of_least(n_patterns, int(n))
    return expected_N


def weights_of_least(n_patterns: int, n: int) -> np.ndarray:
    """With what probability the i-th least of `n_patterns` is the least of n drawn without replacement: float64 (P,)."""
    after_P = n_patterns - np.arange(n_patterns - 1) - 1.0  # patterns that are left after the i-th least
    return n / n_patterns * np.concatenate([[1.0], np.cumprod(np.maximum(after_P - n + 1, 0) / after_P)])


def best_of_n_of_run(run: StoredRun, numbers: Sequence[int] = (SAME_NUMBER,)) -> list[BestOfN]:
    """Every budget's least loss of N random patterns, from the losses that `run` kept.

    Memory holds one sequence's losses at a time. Raises InputError where no losses were kept.
    """
    budgets = [run.budget(text) for text in run.budgets]
    columns: list[list[np.ndarray]] = [[] for _ in budgets]
    kept, n_patterns, documents = KeptLosses(run), [0] * len(budgets), []
    for span in kept.spans:
        for of_pass in kept.passes():
            table = kept.read_whole(span.sequence, of_pass)
            for q, budget in enumerate(budgets):
                if of_pass not in (None, budget):
                    continue
                sorted_NP = np.sort(table.within(budget).loss_NP.astype(np.float64), axis=1)
                n_patterns[q] = sorted_NP.shape[1]
                least_N = sorted_NP[:, 0]
                mixture_N = least_N - np.log(np.exp(least_N[:, None] - sorted_NP).mean(axis=1))
                expected = [sorted_NP @ weights_of_least(n_patterns[q], n) for n in numbers if n <= n_patterns[q]]
                columns[q].append(np.stack([least_N, mixture_N, sorted_NP.mean(axis=1), *expected], axis=1))
        documents += [span.document] * span.n_positions
    found = []
    for text, n, parts in zip(run.budgets, n_patterns, columns, strict=True):
        oracle, mixture, random, *expected_M = bootstrap(np.concatenate(parts), np.array(documents))
        of_number = dict(zip([number for number in numbers if number <= n], expected_M, strict=True))
        expected_of = tuple(of_number.get(number) for number in numbers)
        found.append(BestOfN(text, n, tuple(numbers), expected_of, mixture, random, oracle))
    return found


def layers_of_run(run: StoredRun) -> tuple[tuple[str, str] | None, list[LayerNoise]]:
    """Every layer's effect and use, and which two exact budgets k and L - k were compared: (4, 8) where both were searched.

    Of other pairs the one nearest to a third of the layers is taken; None where no pair was searched.
    """
    pair = _mirrored(run)
    shares = None if pair is None else _shares(run, *pair)
    effects = _effects(run) if "losses" in run.tables else None
    lines = []
    for letter, layer in enumerate(run.layers):
        mu, sigma = (None, None) if effects is None else (effects[0][letter], effects[1][letter])
        low, high, total = (None, None, None) if shares is None else (column[letter] for column in shares)
        lines.append(LayerNoise(layer, mu, sigma, low, high, total))
    return pair, lines


def _mirrored(run: StoredRun) -> tuple[str, str] | None:
    n_letters = run.n_letters
    exact = {int(text) for text in run.budgets if text.isdecimal()}
    pairs = [k for k in exact if n_letters - k in exact and 0 < k < n_letters - k]
    if not pairs:
        return None
    k = min(pairs, key=lambda k: (abs(k - n_letters / 3), k))
    return str(k), str(n_letters - k)


def _shares(run: StoredRun, low: str, high: str) -> tuple[list[Estimate], ...]:
    """Per layer the share of B at both budgets, and their sum, paired by document."""
    tokens = read_tokens(run)
    paths = read_paths(run, tokens, (low, high), ("pattern",))
    big_2NL = np.stack([branches_of(rows["pattern"]) == Branch.BIG for rows in paths.values()])
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for span in spans_of(tokens):
        sums[span.document] = sums.get(span.document, 0.0) + big_2NL[:, span.rows].sum(axis=1)
        counts[span.document] = counts.get(span.document, 0) + span.n_positions
    sum_D2L = np.stack(list(sums.values()))
    count_D = np.array([counts[document] for document in sums], dtype=np.float64)
    columns_DM = np.concatenate([sum_D2L[:, 0], sum_D2L[:, 1], sum_D2L.sum(axis=1)], axis=1)
    found = bootstrap_sums(columns_DM, np.repeat(count_D[:, None], columns_DM.shape[1], axis=1))
    n = run.n_letters
    return found[:n], found[n : 2 * n], found[2 * n :]


def _effects(run: StoredRun) -> tuple[list[Estimate], list[Estimate]] | None:
    """Per layer mean and spread over tokens of the loss with that layer alone big minus the cheapest pattern's.

    None where no budget admitted those patterns.
    """
    wanted_PL = np.full((run.n_letters + 1, run.n_letters), run.cheapest, dtype=np.uint8)
    wanted_PL[np.arange(run.n_letters) + 1, np.arange(run.n_letters)] = Branch.BIG
    kept, effects, documents = KeptLosses(run), [], []
    of_pass = run.budget() if run.context == "committed" else None
    for span in kept.spans:
        loss_NP = kept.read_whole(span.sequence, of_pass, most_big=1).over(wanted_PL).loss_NP.astype(np.float64)
        if np.isnan(loss_NP).any():
            return None
        effects.append(loss_NP[:, 1:] - loss_NP[:, :1])
        documents += [span.document] * span.n_positions
    effect_NL, document_N = np.concatenate(effects), np.array(documents)
    squares = bootstrap((effect_NL - effect_NL.mean(axis=0)) ** 2, document_N)
    return bootstrap(effect_NL, document_N), [_root(e) for e in squares]


def _root(e: Estimate) -> Estimate:
    """The estimate of a mean square as that of its root: the quantiles go with it, the standard error does not."""
    mean, low, high = (float(np.sqrt(value)) for value in (e.mean, e.low, e.high))
    return replace(e, mean=mean, low=low, high=high, error=float("nan"), detectable=float("nan"))
