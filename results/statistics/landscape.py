"""The landscape of a token's losses over all patterns of s and B: how much of it is one layer at a time, pairs, triples, ...

In a model without small FFNs it is over all patterns of . and B: s stands for the run's cheapest branch.

The Walsh-Hadamard transform writes the 2^L losses of a token as a sum over sets of layers: loss(x) = sum_S w_S prod_{l in S} x_l
with x_l = +1 where layer l is big and -1 where it is small. The w_S^2 of all sets but the empty one add up to the variance of the
losses over patterns, so the sets of d layers have a share of it: interaction of order d (Walsh 1923; the variance by
order as in Weinberger 1991). Where order 1 has nearly all, layers add up, and greedy and additive search are nearly exact.

A layer's first-order effect is 2 w_l: what the big branch changes there, averaged over all that the other layers may do; mu is its
mean over tokens and sigma its spread.

Axes: N tokens, P = 2^L patterns (bit l of the number says that layer l is big), D documents, L routed layers, O orders 1..L.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.budgets import BudgetKind
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.formats import aligned
from duo_oracle.results.statistics.intervals import Estimate, bootstrap_sums, percent_text
from duo_oracle.results.store.kept_losses import KeptLosses
from duo_oracle.results.store.reader import StoredRun


@dataclass(frozen=True)
class LayerEffect:
    """The first-order effect of one layer's big branch on the loss, in nats: negative where it helps."""

    layer: int  # its number in the model
    mu: Estimate  # mean over tokens
    sigma: float  # spread over tokens
    share_better: float  # of tokens that it helps


@dataclass(frozen=True)
class Landscape:
    """The variance of the losses over patterns, by order of interaction, and the layers' effects; over all tokens."""

    context: str
    n_letters: int
    deviation: float  # root of a token's variance over patterns, averaged as variances, in nats
    share_O: tuple[Estimate, ...]  # of orders 1 to L
    effects: tuple[LayerEffect, ...]

    def __str__(self) -> str:
        first = self.share_O[0]
        orders = [["order", "sets of layers", "share of variance [95%]", "up to this order"]]
        total, n_sets = 0.0, 1
        for order, share in enumerate(self.share_O, start=1):
            total, n_sets = total + share.mean, n_sets * (self.n_letters - order + 1) // order
            orders.append([str(order), f"{n_sets:,}", percent_text(share, 2), f"{total:.2%}"])
        layers = [["layer", "mu [95%]", "sigma", "helps"]]
        layers += [[str(e.layer), str(e.mu), f"{e.sigma:.3f}", f"{e.share_better:.1%}"] for e in self.effects]
        return "\n".join(
            [
                f"{first.n_tokens:,} tokens of {first.n_documents} documents · context {self.context} · standard deviation of a "
                f"token's loss over its {2**self.n_letters:,} patterns: {self.deviation:.3f} nats",
                "",
                *aligned(orders, [True] * 4),
                "",
                "effect of a big branch at one layer, nats, averaged over the other layers' branches; over tokens mean and spread",
                *aligned(layers, [True] * 4),
            ]
        )


def spectrum(loss_NP: np.ndarray) -> np.ndarray:
    """The coefficients w_S of every row, S a number whose bits are its layers: float64 (N, P). P is a power of 2."""
    w_NP = np.array(loss_NP, dtype=np.float64)
    n, p = w_NP.shape
    half = 1
    while half < p:
        pairs = w_NP.reshape(n, p // (2 * half), 2, half)
        small, big = pairs[:, :, 0], pairs[:, :, 1]
        w_NP = np.stack([small + big, big - small], axis=2).reshape(n, p) / 2
        half *= 2
    return w_NP


def landscape(run: StoredRun, budget: str | None = None) -> Landscape:
    """The landscape of the losses that `run` kept; `budget` names the pass of a committed run (default `any`).

    Memory holds one sequence's losses at a time. Raises InputError where some pattern of B and the cheapest branch has no loss.
    """
    run.check_letters("a landscape")
    n_letters = run.n_letters
    order_P = np.array([number.bit_count() for number in range(2**n_letters)])
    squares: dict[str, np.ndarray] = {}
    effect_sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    effects = []
    for document, loss_NP in _tables(run, budget):
        w_NP = spectrum(loss_NP)
        by_order_O = np.array([(w_NP[:, order_P == order] ** 2).sum() for order in range(1, n_letters + 1)])
        effect_NL = 2 * w_NP[:, 1 << np.arange(n_letters)]
        squares[document] = squares.get(document, 0.0) + by_order_O
        effect_sums[document] = effect_sums.get(document, 0.0) + effect_NL.sum(axis=0)
        counts[document] = counts.get(document, 0) + len(loss_NP)
        effects.append(effect_NL)
    count_D = np.array(list(counts.values()), dtype=np.float64)
    square_DO = np.stack(list(squares.values()))
    if not square_DO.sum() > 0:
        raise InputError(f"{run.place}: every pattern has the same loss at every token, so there is no variance to share out")
    shares = bootstrap_sums(square_DO, np.repeat(square_DO.sum(axis=1, keepdims=True), n_letters, axis=1))
    mus = bootstrap_sums(np.stack(list(effect_sums.values())), np.repeat(count_D[:, None], n_letters, axis=1))
    n_tokens, effect_NL = int(count_D.sum()), np.concatenate(effects)
    return Landscape(
        context=run.context,
        n_letters=n_letters,
        deviation=float(np.sqrt(square_DO.sum() / n_tokens)),
        share_O=tuple(replace(e, n_tokens=n_tokens, n_documents=len(count_D)) for e in shares),
        effects=tuple(
            LayerEffect(layer, mu, float(effect_NL[:, letter].std()), float((effect_NL[:, letter] < 0).mean()))
            for letter, (layer, mu) in enumerate(zip(run.layers, mus, strict=True))
        ),
    )


def _tables(run: StoredRun, budget: str | None) -> Iterator[tuple[str, np.ndarray]]:
    """Each sequence's document and loss_NP, patterns by their number."""
    kept, n_patterns = KeptLosses(run), 2**run.n_letters
    branches = f"{run.cheapest.letter} and B"
    of_pass = run.budget(budget or "any") if run.context == "committed" else None
    if of_pass is not None and of_pass.kind is BudgetKind.EXACT:
        raise InputError(f"a landscape is over all patterns of {branches}; budget {of_pass} keeps some of them")
    big_PL = (np.arange(n_patterns)[:, None] >> np.arange(run.n_letters)) & 1
    branches_PL = np.where(big_PL, Branch.BIG, run.cheapest).astype(np.uint8)
    for span in kept.spans:
        loss_NP = kept.read(span.sequence, of_pass).over(branches_PL).loss_NP
        missing = int(np.isnan(loss_NP).any(axis=0).sum())
        if missing:
            raise InputError(
                f"a landscape takes the losses of all {n_patterns:,} patterns of {branches}; {run.place} lacks {missing:,} of them "
                "(search with `keep='losses'` and `budget='any'`)"
            )
        yield span.document, loss_NP
