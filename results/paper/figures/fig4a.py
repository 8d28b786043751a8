"""Figure 4 a: perplexity of the oracle, the best of 100 random patterns, routers and the best fixed pattern.

Axes: N tokens, P patterns, K budgets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from duo_oracle.oracle.budgets import Budget, BudgetKind
from duo_oracle.results.colours import FIXED, PLAIN, ROUTER
from duo_oracle.results.paper.figure import Answer, PaperFigure, Table, number, thirds
from duo_oracle.results.paper.marks import CONTROL, REAL
from duo_oracle.results.paper.material import Material
from duo_oracle.results.statistics.average import average_oracle
from duo_oracle.results.statistics.baselines import fixed_patterns_of_run
from duo_oracle.results.statistics.effects import Effect, effect, estimate, ratio
from duo_oracle.results.statistics.intervals import Estimate, perplexity_of
from duo_oracle.results.statistics.selection_bias import best_of_n
from duo_oracle.results.store.kept_losses import LossTable

RANDOM_PATTERNS = 100


@dataclass(frozen=True)
class Line:
    """One way to choose patterns: mean B's per token, and nats per token in the context full."""

    what: str
    n_big: float
    loss: Estimate
    colour: str


def _answer(material: Material) -> Answer:
    decide: list[Effect] = []
    beside: list[Effect] = []
    tables = []
    for holdout in material.holdouts:
        real, losses = material.positions(holdout, "big"), material.losses(holdout)
        for k in thirds(material.n_letters):
            mean_N = _within(losses, k).mean(axis=1, dtype=np.float64)
            gains = mean_N - real.loss_NK[:, real.column(k)], _luck(material, holdout, k)
            terms = [ratio(real.document_N, each) for each in gains]
            what = f"{holdout}, k={k}: the oracle is below a random pattern of its budget"
            decide.append(effect(what, "nats", [(1, terms[0])], [(1, terms[1])]))
        for routes in material.routes(holdout):
            routed_N = losses.of(routes.branches_NL)
            if routes.trained and not np.isnan(routed_N).any():
                beside.append(_router_effect(material, holdout, routes.router, routed_N, round(routes.n_big)))
        rows = tuple(
            (line.what, number(line.n_big, 2), f"{perplexity_of(line.loss.mean):.1f}", str(line.loss))
            for line in _lines(material, holdout)
        )
        title = f"{holdout}: {len(real.big_N):,} tokens, every pattern read in the context full"
        tables.append(Table(title, ("patterns", "B's per token", "perplexity", "nats per token [95%]"), rows))
    return Answer(
        effects=tuple(decide),
        beside=tuple(beside),
        tables=tuple(tables),
        draw=partial(_draw, material),
        size=(5.6 * len(material.holdouts), 5.2),
        notes=(
            f"Best of {RANDOM_PATTERNS} random patterns is an expectation, exact from all losses of the budget; it is read in "
            "two ways: each token the best of its own, or one set for all tokens, of which the best is taken for all.",
        ),
    )


def _within(losses: LossTable, k: int) -> np.ndarray:
    return losses.within(Budget(BudgetKind.EXACT, k)).loss_NP


def _luck(material: Material, holdout: str, k: int) -> np.ndarray:
    """What choosing among the patterns of a budget gains over a random one of them, on labels drawn from all-big: (N,)."""
    real, random = (material.positions(holdout, kind) for kind in ("big", "random"))
    return real.null_gain_NK[:, real.column(k)] - random.null_gain_NK[:, random.column(k)]


def _router_effect(material: Material, holdout: str, router: str, routed_N: np.ndarray, k: int) -> Effect:
    """A router against the mean pattern of the nearest budget. It sees no label, so nothing of it is luck of the label."""
    real, losses = material.positions(holdout, "big"), material.losses(holdout)
    gain_N = _within(losses, k).mean(axis=1, dtype=np.float64) - routed_N
    what = f"{holdout}, {router}: below the mean pattern of k={k} (without a label, so no control)"
    return effect(what, "nats", [(1, ratio(real.document_N, gain_N))], [])


def _lines(material: Material, holdout: str) -> list[Line]:
    real, losses = material.positions(holdout, "big"), material.losses(holdout)
    budgets = thirds(material.n_letters)
    fixed = fixed_patterns_of_run(material.run(holdout, "big"), tuple(str(k) for k in budgets))

    def mean(value_N: np.ndarray) -> Estimate:
        return estimate((1, ratio(real.document_N, value_N)))

    lines = [Line("all-big", real.n_letters, mean(real.big_N), "black")]
    average = average_oracle(real.loss_NK.T)
    for k in budgets:
        within_NP = _within(losses, k)
        n = min(RANDOM_PATTERNS, within_NP.shape[1])
        per_token_N = best_of_n(within_NP, np.full(len(within_NP), n))
        one_set = _best_set(within_NP, n)
        lines += [
            Line(f"oracle, k={k}", k, mean(real.loss_NK[:, real.column(k)]), REAL),
            Line(
                f"what selection bias alone would show, k={k}",
                k,
                mean(within_NP.mean(axis=1) - _luck(material, holdout, k)),
                CONTROL,
            ),
            Line(f"oracle, average {k}", k, mean(average.at(k)[0]), REAL),
            Line(f"best of {n} random, per token, k={k}", k, mean(per_token_N), PLAIN),
            Line(f"best of {n} random, one for all, k={k}", k, one_set, PLAIN),
            Line(f"best fixed of other documents, k={k}", k, fixed[str(k)].best or fixed[str(k)].best_in_sample, FIXED),
            Line(f"mean pattern, k={k}", k, fixed[str(k)].mean, PLAIN),
        ]
    for routes in material.routes(holdout):
        routed_N = losses.of(routes.branches_NL)
        if not np.isnan(routed_N).any():
            lines.append(Line(f"{routes.router}, in context full", routes.n_big, mean(routed_N), ROUTER))
        lines.append(Line(f"{routes.router}, as it routes itself", routes.n_big, mean(routes.loss_N), ROUTER))
    return lines


def _best_set(within_NP: np.ndarray, n: int) -> Estimate:
    """The expected least mean over all tokens of n patterns of the budget, one set for all. A number without an interval: the
    set is drawn, the tokens are these."""
    mean_P = within_NP.mean(axis=0, dtype=np.float64)
    value = float(best_of_n(mean_P[None], np.array([n]))[0])
    return Estimate(value, math.nan, math.nan, len(within_NP), 1)


def _draw(material: Material, figure: Any) -> None:
    axes = figure.subplots(1, len(material.holdouts), squeeze=False)[0]
    _, half, _ = thirds(material.n_letters)
    for panel, holdout in zip(axes, material.holdouts, strict=True):
        lines = [line for line in _lines(material, holdout) if "k=" not in line.what or line.what.endswith(f"k={half}")]
        lines = [line for line in lines if "average" not in line.what or line.what.endswith(f" {half}")]
        lines = [line for line in lines if not line.what.startswith("random:")]
        for place, line in enumerate(reversed(lines)):
            panel.barh(place, perplexity_of(line.loss.mean), color=line.colour, alpha=0.75, height=0.7)
            if math.isfinite(line.loss.low):
                panel.plot(
                    [perplexity_of(line.loss.low), perplexity_of(line.loss.high)], [place, place], color="black", linewidth=1
                )
        panel.set_yticks(range(len(lines)), [line.what for line in reversed(lines)], fontsize=7)
        panel.set(title=holdout, xlabel="perplexity")


FIGURE = PaperFigure(
    title="Figure 4 a: perplexity of oracle, random, router and fixed patterns",
    finding="the oracle lies far below all others; the router lies near the best of 100 random patterns and the best fixed one",
    control="the same choice among patterns on labels drawn from all-big at the same positions: the null gain of the oracle "
    "minus that of a random pattern of the budget; and the exact expectation of the best of 100.",
    needs=("big", "random", "routes"),
    answer=_answer,
)
