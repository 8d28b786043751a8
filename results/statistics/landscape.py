"""The landscape of a token's losses over all patterns: how much of it is one layer at a time, pairs, triples, ...

Over s and B (. and B in a model without small FFNs), or over every branch of a table of experts. The b^L losses of a token are
written as a sum over sets of layers: loss(x) = sum_S f_S(x_S), where f_S depends on the branches at the layers of S alone and has
the mean 0 over the branches at each of them. The mean squares of all f_S but the empty one's add up to the variance of the losses
over patterns, so the sets of d layers have a share of it: interaction of order d (the functional analysis of variance, Hoeffding
1948; with two branches the Walsh-Hadamard transform, Walsh 1923, and the variance by order as in Weinberger 1991). Where order 1
has nearly all, layers add up, and greedy and additive search are nearly exact.

A layer's first-order effect of a branch is what it changes there against the cheapest one, averaged over all that the other layers
may do; mu is its mean over tokens and sigma its spread.

Axes: N tokens, b branches, P = b^L patterns (digit l of the number, to the base b, is the branch at layer l), D documents, L routed
layers, O orders 1..L, C = b - 1 branches beside the cheapest.
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
    """The first-order effect on the loss of a branch at one layer instead of the cheapest, in nats: negative where it helps."""

    layer: int  # its number in the model
    branch: str  # the branch's letter
    mu: Estimate  # mean over tokens
    sigma: float  # spread over tokens
    share_better: float  # of tokens that it helps


@dataclass(frozen=True)
class Landscape:
    """The variance of the losses over patterns, by order of interaction, and the layers' effects; over all tokens."""

    context: str
    n_letters: int
    letters: str  # of the branches, the cheapest first
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
        named = len(self.letters) > 2
        layers = [["layer", *["branch"] * named, "mu [95%]", "sigma", "helps"]]
        layers += [[str(e.layer), *[e.branch] * named, str(e.mu), f"{e.sigma:.3f}", f"{e.share_better:.1%}"] for e in self.effects]
        effect = f"a branch instead of {self.letters[0]}" if named else "a big branch"
        return "\n".join(
            [
                f"{first.n_tokens:,} tokens of {first.n_documents} documents · context {self.context} · standard deviation of a "
                f"token's loss over its {len(self.letters) ** self.n_letters:,} patterns: {self.deviation:.3f} nats",
                "",
                *aligned(orders, [True] * 4),
                "",
                f"effect of {effect} at one layer, nats, averaged over the other layers' branches; over tokens mean and spread",
                *aligned(layers, [True] * len(layers[0])),
            ]
        )


def contrasts(n_branches: int) -> np.ndarray:
    """A basis of the functions of one layer's branch, (b, b): the mean, then contrasts of mean 0 and mean square 1 / b, orthogonal.

    What a contrast gives, squared, is its share of the variance over branches that are each as likely.

    >>> contrasts(2).tolist()
    [[0.5, 0.5], [-0.5, 0.5]]
    """
    basis_bb = np.zeros((n_branches, n_branches))
    basis_bb[0] = 1 / n_branches
    for place in range(1, n_branches):  # a branch against the mean of those before it (Helmert)
        basis_bb[place, :place] = -1 / place
        basis_bb[place, place] = 1
        basis_bb[place] /= np.sqrt(n_branches * (1 + 1 / place))
    return basis_bb


def spectrum(loss_NP: np.ndarray, n_branches: int = 2) -> np.ndarray:
    """The coefficients of every row, a number's digits naming the contrast at each layer, 0 the mean: float64 (N, P).

    Squares of all but the first add up to the row's variance. P is a power of `n_branches`.
    """
    w_NP = np.array(loss_NP, dtype=np.float64)
    n, p = w_NP.shape
    basis_bb, below = contrasts(n_branches), 1
    while below < p:
        w_NP = np.einsum("cb,npbh->npch", basis_bb, w_NP.reshape(n, p // (n_branches * below), n_branches, below)).reshape(n, p)
        below *= n_branches
    return w_NP


def landscape(run: StoredRun, budget: str | None = None) -> Landscape:
    """The landscape of the losses that `run` kept; `budget` names the pass of a committed run (default `any`).

    Memory holds one sequence's losses at a time. Raises InputError where some pattern of the branches has no loss.
    """
    n_letters, branches = run.n_letters, _branches(run)
    n_branches = len(branches)
    digit_PL = _digits(n_branches, n_letters)
    order_P = (digit_PL > 0).sum(axis=1)
    basis_bb = contrasts(n_branches)
    over_cheapest_CC = n_branches * (basis_bb[1:, 1:] - basis_bb[1:, :1])  # from a layer's contrasts to its branches' effects
    first_LC = np.arange(1, n_branches) * n_branches ** np.arange(n_letters)[:, None]
    squares: dict[str, np.ndarray] = {}
    effect_sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    effects = []
    for document, loss_NP in _tables(run, budget, np.array(branches, dtype=np.uint8)[digit_PL]):
        w_NP = spectrum(loss_NP, n_branches)
        by_order_O = np.array([(w_NP[:, order_P == order] ** 2).sum() for order in range(1, n_letters + 1)])
        effect_NE = (w_NP[:, first_LC] @ over_cheapest_CC).reshape(len(w_NP), -1)
        squares[document] = squares.get(document, 0.0) + by_order_O
        effect_sums[document] = effect_sums.get(document, 0.0) + effect_NE.sum(axis=0)
        counts[document] = counts.get(document, 0) + len(loss_NP)
        effects.append(effect_NE)
    count_D = np.array(list(counts.values()), dtype=np.float64)
    square_DO = np.stack(list(squares.values()))
    if not square_DO.sum() > 0:
        raise InputError(f"{run.place}: every pattern has the same loss at every token, so there is no variance to share out")
    shares = bootstrap_sums(square_DO, np.repeat(square_DO.sum(axis=1, keepdims=True), n_letters, axis=1))
    mus = bootstrap_sums(np.stack(list(effect_sums.values())), np.repeat(count_D[:, None], effects[0].shape[1], axis=1))
    n_tokens, effect_NE = int(count_D.sum()), np.concatenate(effects)
    named = [(layer, branch.letter) for layer in run.layers for branch in branches[1:]]
    return Landscape(
        context=run.context,
        n_letters=n_letters,
        letters="".join(branch.letter for branch in branches),
        deviation=float(np.sqrt(square_DO.sum() / n_tokens)),
        share_O=tuple(replace(e, n_tokens=n_tokens, n_documents=len(count_D)) for e in shares),
        effects=tuple(
            LayerEffect(layer, letter, mu, float(effect_NE[:, place].std()), float((effect_NE[:, place] < 0).mean()))
            for place, ((layer, letter), mu) in enumerate(zip(named, mus, strict=True))
        ),
    )


def _branches(run: StoredRun) -> tuple[Branch, ...]:
    """The branches that a landscape is over, the cheapest first."""
    if not run.table.of_experts:
        return run.cheapest, Branch.BIG
    return run.table.cheapest, *(branch for branch in run.table.branches if branch != run.table.cheapest)


def _digits(n_branches: int, n_letters: int) -> np.ndarray:
    """Every pattern by the places of its branches, int (P, L): number p's digits to the base b."""
    return np.arange(n_branches**n_letters)[:, None] // n_branches ** np.arange(n_letters) % n_branches


def _tables(run: StoredRun, budget: str | None, branches_PL: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each sequence's document and loss_NP, patterns by their number."""
    kept, n_patterns = KeptLosses(run), len(branches_PL)
    branches = f"of {run.table.spec}" if run.table.of_experts else f"of {run.cheapest.letter} and B"
    of_pass = run.budget(budget or "any") if run.context == "committed" else None
    if of_pass is not None and of_pass.kind is BudgetKind.EXACT:
        raise InputError(f"a landscape is over all patterns {branches}; budget {of_pass} keeps some of them")
    for span in kept.spans:
        loss_NP = kept.read(span.sequence, of_pass).over(branches_PL).loss_NP
        missing = int(np.isnan(loss_NP).any(axis=0).sum())
        if missing:
            raise InputError(
                f"a landscape takes the losses of all {n_patterns:,} patterns {branches}; {run.place} lacks {missing:,} of them "
                "(search with `keep='losses'` and `budget='any'`)"
            )
        yield span.document, loss_NP
