"""The paper's claims as statements about mixtures trained here, each with its control, its interval and its verdict.

Two kinds: an effect is *found* where its interval over seeds and documents, and that beyond its control, lie above zero in the
paper's direction; something is *level* where its whole interval lies within a margin that is said. Otherwise it is not found
where the interval excludes the claim, and not distinguishable where it does not.

Axes: N tokens, L layers, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from duo_oracle.results.experts.material import Measured, Trained, Trainings
from duo_oracle.results.experts.seeds import OverSeeds, Values, difference, over_seeds

ET, EC, EC_SMALL, TC, DENSE = "expert_threshold", "expert_choice", "expert_choice_sequence", "token_choice_aux", "dense"
COLD = "expert_threshold_cold"
"""Expert threshold without its warm-up."""
GAP, NEAR = 0.003, 0.1
"""Within which a train-evaluation gap is none, in nats; and a use is at its target, relatively."""
SEARCHED = (ET, EC, TC)
"""Whose routes are searched: those whose tokens spend differently, and one whose tokens spend the same."""
RARE = 0.25
"""Within which a share of expert-steps is rare."""
EARLY = 0.125
"""The share of a window that is early."""


@dataclass(frozen=True)
class Statement:
    """One measured statement, signed so that the paper's direction is positive."""

    what: str
    unit: str
    effect: OverSeeds
    beyond: OverSeeds | None = None
    """The same beyond its control."""
    margin: float | None = None
    """Where the claim is that there is nothing: how much is nothing."""

    @property
    def verdict(self) -> str:
        if not math.isfinite(self.effect.low):
            return "one seed: no verdict"
        if self.margin is not None:
            within = -self.margin <= self.effect.low and self.effect.high <= self.margin
            without = self.effect.low > self.margin or self.effect.high < -self.margin
            return "found" if within else "not found" if without else "not distinguishable"
        deciding = (self.effect,) if self.beyond is None else (self.effect, self.beyond)
        if all(one.low > 0 for one in deciding):
            return "found"
        return "not found" if any(one.high < 0 for one in deciding) else "not distinguishable"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, what it is held to, and what was measured."""

    name: str
    claimed: str
    control: str
    statements: tuple[Statement, ...]

    @property
    def verdict(self) -> str:
        """The weakest of its statements'."""
        order = ["one seed: no verdict", "not found", "not distinguishable", "found"]
        return min((one.verdict for one in self.statements), key=order.index)


def claims(found: Trainings) -> list[Claim]:
    """All claims that the trainings can say something of."""
    makers: list[tuple[tuple[str, ...], Callable[[Trainings], Claim]]] = [
        ((ET, EC_SMALL, TC), _gap),
        ((ET, TC, DENSE), _better_than_dense),
        ((ET, EC, EC_SMALL), _pools),
        ((ET, TC), _use),
        ((ET, TC), _threshold_beats_token_choice),
        ((ET, COLD), _capacity),
        ((ET,), _fan_out),
        ((ET, TC), _stable_routes),
    ]
    made = [make(found) for needs, make in makers if set(needs) <= set(found.rules)]
    return [*made, _well_spent(found), _better_routes(found)] if found.searched else made


def _gap(found: Trainings) -> Claim:
    def gap(rule: str, source: str) -> OverSeeds:
        both = [(one.measured[source], one.measured[source].protocol_N) for one in found.of(rule)]
        return over_seeds([Values(each.document_N, each.causal_N - pooled_N) for each, pooled_N in both if pooled_N is not None])

    statements = [
        Statement(f"{source}: {rule}, loss as used less loss as trained", "nats", gap(rule, source), margin=margin)
        for source in found.sources
        if found.of(ET)[0].measured[source].protocol_N is not None
        for rule, margin in ((ET, GAP), (EC_SMALL, None))
    ]
    return Claim(
        "Gap between training and evaluation",
        "expert threshold has none; expert choice over small pools has one",
        "token choice, which trains as it is used, has none by construction (tested to the bit)",
        tuple(statements),
    )


def _better_than_dense(found: Trainings) -> Claim:
    seeds, control = found.shared(ET, DENSE), found.shared(TC, DENSE)
    statements = []
    for source in found.sources:
        for rule, shared in ((ET, seeds), (TC, control)):
            effect = difference(found.losses(DENSE, source, shared), found.losses(rule, source, shared))
            statements.append(Statement(f"{source}: dense less {rule}", "nats", effect))
    return Claim(
        "A mixture is better than a dense model of equal active size",
        "0.16 nats at 575 M",
        "the same weights to begin with where the models share them, the same batches; token choice beside the threshold",
        tuple(statements),
    )


def _pools(found: Trainings) -> Claim:
    statements = []
    for source in found.sources:
        large, level = found.shared(EC, EC_SMALL), found.shared(ET, EC)
        small = difference(found.losses(EC_SMALL, source, large), found.losses(EC, source, large))
        statements.append(Statement(f"{source}: small pool less large pool", "nats", small))
        apart = difference(found.losses(ET, source, level), found.losses(EC, source, level))
        statements.append(Statement(f"{source}: threshold less large pool", "nats", apart, margin=0.01))
    return Claim(
        "Large-pool expert choice is level with the threshold, and both below small-pool expert choice",
        "2k pools 2.910, 64k 2.841, threshold 2.844",
        "paired by seed and token",
        tuple(statements),
    )


def _use(found: Trainings) -> Claim:
    def relative(one: Trained, source: str) -> Values:
        each = one.measured[source]
        return Values(each.document_N, each.chosen_NLE.mean(axis=(1, 2)) / one.rate - 1)

    statements = [
        Statement(
            f"{source}: mean use over target, less 1",
            "share",
            over_seeds([relative(one, source) for one in found.of(ET)]),
            margin=NEAR,
        )
        for source in found.sources
    ]
    return Claim(
        "Use stays near the target with the cutoffs as trained",
        "each expert takes 6.2 to 7.0% at a target of 6.25%",
        "no calibration; each expert's own use stands in the table, beside unbalanced and balanced token choice",
        tuple(statements),
    )


def _threshold_beats_token_choice(found: Trainings) -> Claim:
    statements = []
    for source in found.sources:
        seeds = found.shared(ET, TC)
        effect = difference(found.losses(TC, source, seeds), found.losses(ET, source, seeds))
        beyond = OverSeeds(
            effect.mean - 0.05, effect.low - 0.05, effect.high - 0.05, effect.n_seeds, effect.n_documents, effect.seed_sd
        )
        statements.append(Statement(f"{source}: token choice less threshold", "nats", effect, beyond))
    return Claim(
        "The threshold is at least 0.05 nats below token choice",
        "2.844 against 2.892, one seed",
        "beyond 0.05; token choice with its balance loss, of equal optimiser and layout (the released code's differ)",
        tuple(statements),
    )


def _capacity(found: Trainings) -> Claim:
    def share(one: Trained, quarter: int) -> Values:
        """Over the steps that have cutoffs. Neighbouring steps are alike: the interval is over seeds alone."""
        outside_S = np.array_split(one.below_S + one.above_S, 4)[quarter]
        known_S = outside_S[~np.isnan(outside_S)]
        return Values(np.zeros(1), np.array([known_S.mean() if len(known_S) else 0.0]))

    def below(rule: str, quarter: int, seeds: list[int]) -> list[Values]:
        quarters = [np.array_split(one.below_S, 4)[quarter] for one in found.of(rule, seeds)]
        return [Values(np.zeros(1), np.array([np.nanmean(each)])) for each in quarters]

    seeds = found.shared(ET, COLD)
    rare = [
        Statement(
            f"share of expert-steps outside the capacity, quarter {quarter + 1}",
            "share",
            over_seeds([share(one, quarter) for one in found.of(ET)]),
            margin=RARE,
        )
        for quarter in (2, 3)  # the clamp begins with the end of the warm-up
    ]
    starved = difference(below(COLD, 1, seeds), below(ET, 1, seeds))
    return Claim(
        "Capacity rarely binds, and the warm-up prevents starvation",
        "the clamp is active in few steps after the warm-up",
        "counts before the clamp; the same training without a warm-up",
        (*rare, Statement("starved without the warm-up less with it, quarter 2", "share", starved)),
    )


def _fan_out(found: Trainings) -> Claim:
    statements = []
    for source in found.sources:
        for what, of in (("early tokens more than later ones", _early), ("tokens of middling loss more than others", _hump)):
            models = [one.measured[source] for one in found.of(ET)]
            real = over_seeds([of(each, each.fan_out_N) for each in models])
            shuffled = [of(each, _shuffled(each)) for each in models]
            beyond = difference([of(each, each.fan_out_N) for each in models], shuffled)
            statements.append(Statement(f"{source}: {what}", "experts per layer", real, beyond))
    return Claim(
        "Fan-out",
        "early tokens get more experts, and over the loss there is a hump",
        "the same counts, shuffled among the tokens of a document",
        tuple(statements),
    )


def _early(each: Measured, fan_out_N: np.ndarray) -> Values:
    """Weighted so that the mean over tokens is the mean of early tokens less that of the others."""
    early_N = each.position_N < EARLY * (each.position_N.max() + 1)
    return _contrast(each, fan_out_N, early_N)


def _hump(each: Measured, fan_out_N: np.ndarray) -> Values:
    low, high = np.quantile(each.causal_N, [1 / 3, 2 / 3])
    return _contrast(each, fan_out_N, (each.causal_N >= low) & (each.causal_N <= high))


def _contrast(each: Measured, fan_out_N: np.ndarray, inside_N: np.ndarray) -> Values:
    inside = inside_N.mean()
    weight_N = np.where(inside_N, 1 / inside, -1 / (1 - inside))
    return Values(each.document_N, weight_N * fan_out_N)


def _shuffled(each: Measured) -> np.ndarray:
    generator = np.random.default_rng(0)
    fan_out_N = each.fan_out_N.copy()
    for document in np.unique(each.document_N):
        rows = np.flatnonzero(each.document_N == document)
        fan_out_N[rows] = fan_out_N[generator.permutation(rows)]
    return fan_out_N


def _stable_routes(found: Trainings) -> Claim:
    def jaccard(one: Trained, source: str, random: bool) -> Values:
        """Of the routes that either checkpoint takes, the share that both do, per document; `random`: at equal use of experts."""
        each = one.measured[source]
        _, document_N = np.unique(each.document_N, return_inverse=True)
        early_NLE = each.early_NLE
        if random:
            generator = np.random.default_rng(0)
            early_NLE = early_NLE[generator.permutation(len(early_NLE))]
        both_N, either_N = ((f(each.chosen_NLE, early_NLE)).sum(axis=(1, 2)) for f in (np.logical_and, np.logical_or))
        both_D, either_D = (np.bincount(document_N, weights=values) for values in (both_N, either_N))
        return Values(np.unique(each.document_N), both_D / np.maximum(either_D, 1))

    statements = []
    for source in found.sources:
        seeds = found.shared(ET, TC)
        models, others = found.of(ET, seeds), found.of(TC, seeds)
        real = [jaccard(one, source, False) for one in models]
        beyond = difference(real, [jaccard(one, source, True) for one in models])
        statements.append(
            Statement(f"{source}: weighted Jaccard of a quarter and the end, threshold", "share", over_seeds(real), beyond)
        )
        apart = difference(real, [jaccard(one, source, False) for one in others])
        statements.append(Statement(f"{source}: threshold's less token choice's", "share", apart))
    return Claim(
        "Routes are stable over checkpoints, the threshold's more than token choice's",
        "0.662 against 0.595",
        "the early routes of other tokens: equal use of every expert, chance agreement",
        tuple(statements),
    )


def _well_spent(found: Trainings) -> Claim:
    ways = (
        ("the numbers of another token of the document", "shuffled_N"),
        ("one pattern of numbers for all, chosen on other documents", "fixed_N"),
    )
    statements = [
        Statement(f"{source}: {what}, less its own", "nats", over_seeds(found.of_routes(ET, source, attrgetter(of))))
        for source in found.searched
        for what, of in ways
    ]
    return Claim(
        "Dynamic compute is well spent",
        "tokens take as many experts as their cutoffs let them",
        "as many experts in all and at every layer, given to other tokens; as many on average, the same for all",
        tuple(statements),
    )


def _better_routes(found: Trainings) -> Claim:
    ways = (
        ("as many experts as its own", "own_count"),
        ("as many on average", "average"),
        ("one expert a layer, of any rank", "one_expert"),
    )
    statements = []
    for source in found.searched:
        for rule in SEARCHED:
            spent = over_seeds(found.of_routes(rule, source, attrgetter("own_cost_N"))).mean
            for what, of in ways:
                gain = over_seeds(found.of_routes(rule, source, attrgetter(f"{of}.real_N")))
                excess = over_seeds(found.of_routes(rule, source, attrgetter(f"{of}.excess_N")))
                statements.append(Statement(f"{source}: {rule} ({spent:.2f} a token), {what}", "nats", gain, excess))
    return Claim(
        "The best of all routes is better than the router's own",
        "not the paper's claim; others count the best of many routes for the one realised label",
        "the same choice for a label drawn from the mixture as it routes itself, for which nothing is better",
        tuple(statements),
    )
