"""Figure 4 b: loss against the number of big layers: oracle, routers, best fixed pattern, and what selection bias would show.

Axes: N tokens, K budgets.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from duo_oracle.results.colours import FIXED, PLAIN, ROUTER
from duo_oracle.results.paper.figure import Answer, PaperFigure, Table, thirds
from duo_oracle.results.paper.marks import CONTROL, REAL, band, legend_below
from duo_oracle.results.paper.material import Material
from duo_oracle.results.statistics.baselines import fixed_patterns_of_run
from duo_oracle.results.statistics.effects import Effect, effect, estimate, ratio
from duo_oracle.results.statistics.intervals import perplexity_of


def random_excess(material: Material, holdout: str, k: int) -> np.ndarray | None:
    """The excess of a random pattern of k big layers at every position (N,); None for a budget at which none was drawn."""
    real, random = (material.positions(holdout, kind) for kind in ("big", "random"))
    if k in (0, real.n_letters):  # one pattern alone
        return real.excess_NK[:, real.column(k)]
    return random.excess_NK[:, random.column(k)] if str(k) in random.budgets else None


def gain_effect(material: Material, holdout: str, k: int, what: str) -> Effect:
    """The oracle's gain over all-big at k big layers, beyond what selection bias gains by choosing among patterns.

    raw: loss_full - loss. Control: its null gain, plus what a random pattern of the budget gains on real labels beyond drawn
    ones. That second part needs no choice: it is there wherever all-big is overconfident, for any other pattern.
    """
    real, calibration_N = material.positions(holdout, "big"), random_excess(material, holdout, k)
    assert calibration_N is not None, k
    column = real.column(k)
    biased_N = real.null_gain_NK[:, column] + calibration_N
    gain_N = real.big_N - real.loss_NK[:, column]
    return effect(what, "nats", [(1, ratio(real.document_N, gain_N))], [(1, ratio(real.document_N, biased_N))])


def _answer(material: Material) -> Answer:
    _, half, _ = thirds(material.n_letters)
    decide, beside, tables = [], [], []
    for holdout in material.holdouts:
        decide.append(gain_effect(material, holdout, half, f"{holdout}: the oracle at k={half} is below all-big"))
        decide.append(gain_effect(material, holdout, 1, f"{holdout}: the oracle with one big layer is below all-big"))
        real = material.positions(holdout, "big")
        zero, middle = real.column(0), real.column(half)
        arm = [
            (1.0, ratio(real.document_N, real.loss_NK[:, zero] - real.loss_NK[:, middle])),
        ]
        biased = [(1.0, ratio(real.document_N, real.null_gain_NK[:, middle] - real.null_gain_NK[:, zero]))]
        beside.append(effect(f"{holdout}: the oracle falls from k=0 to k={half}", "nats", arm, biased))
        fixed = ratio(real.document_N, real.small_N - real.big_N)
        beside.append(effect(f"{holdout}: all-big is below all-small (no choice, so no control)", "nats", [(1, fixed)], []))
        tables.append(_table(material, holdout))
    return Answer(
        effects=tuple(decide),
        beside=tuple(beside),
        tables=tuple(tables),
        draw=partial(_draw, material),
        size=(5.2 * len(material.holdouts), 4.6),
        notes=(
            "On drawn labels the curve is U-shaped too: most patterns to choose from lie in the middle, and none at the ends.",
            "Routers keep an average budget, the oracle's curve an exact one per token: figure 4 a has the oracle at an average.",
        ),
    )


def _table(material: Material, holdout: str) -> Table:
    real = material.positions(holdout, "big")
    fixed = fixed_patterns_of_run(material.run(holdout, "big"))
    rows = []
    for column, budget in enumerate(real.budgets):
        best = fixed[budget].best or fixed[budget].best_in_sample
        document_N, loss_N = real.document_N, real.loss_NK[:, column]
        cells = [
            estimate((1, ratio(document_N, loss_N))),
            best,
            fixed[budget].mean,
            estimate((1, ratio(document_N, real.big_N - loss_N))),
            estimate((1, ratio(document_N, real.null_gain_NK[:, column]))),
            estimate((1, ratio(document_N, real.excess_NK[:, column]))),
        ]
        without_N = random_excess(material, holdout, int(budget))
        if without_N is not None:
            cells.append(estimate((1, ratio(document_N, without_N))))
            cells.append(estimate((1, ratio(document_N, real.excess_NK[:, column] - without_N))))
        rows.append(
            (
                budget,
                f"{perplexity_of(cells[0].mean):.1f}",
                f"{perplexity_of(best.mean):.1f}",
                *map(str, cells),
                *[""] * (8 - len(cells)),
            )
        )
    headings = (
        "k",
        "oracle ppl",
        "best fixed ppl",
        "oracle, nats",
        "best fixed (other documents)",
        "mean pattern",
        "gain over all-big",
        "null gain",
        "excess",
        "excess of a random pattern",
        "excess by choosing",
    )
    return Table(
        f"{holdout}: {len(real.big_N):,} tokens, context full, all-big {float(real.big_N.mean()):.3f} nats", headings, tuple(rows)
    )


def _draw(material: Material, figure: Any) -> None:
    axes = figure.subplots(1, len(material.holdouts), squeeze=False)[0]
    for panel, holdout in zip(axes, material.holdouts, strict=True):
        real = material.positions(holdout, "big")
        fixed = fixed_patterns_of_run(material.run(holdout, "big"))
        at = [int(budget) for budget in real.budgets]
        loss_of = real.loss_NK
        best = [fixed[budget].best or fixed[budget].best_in_sample for budget in real.budgets]
        band(panel, at, [fixed[budget].mean for budget in real.budgets], "mean pattern", PLAIN)
        band(panel, at, best, "best fixed pattern, of other documents", FIXED)
        band(panel, at, [estimate((1, ratio(real.document_N, loss_of[:, c]))) for c in range(len(at))], "oracle", REAL)
        without = {k: excess_N for k in at if (excess_N := random_excess(material, holdout, k)) is not None}
        biased = {k: real.big_N - real.null_gain_NK[:, real.column(k)] - excess_N for k, excess_N in without.items()}
        line = [estimate((1, ratio(real.document_N, biased_N))) for biased_N in biased.values()]
        band(panel, list(biased), line, "what selection bias alone would show", CONTROL, "--")
        panel.axhline(float(real.big_N.mean()), color="black", linewidth=0.7, linestyle=":", label="all-big")
        _routers(panel, material, holdout)
        panel.set(title=holdout, xlabel="big layers per token", ylabel="nats per token")
    legend_below(figure, axes[0], 3 if len(axes) > 1 else 2)


def _routers(panel: Any, material: Material, holdout: str) -> None:
    losses = material.losses(holdout)
    points = []
    for routes in material.routes(holdout):
        loss_N = losses.of(routes.branches_NL)
        if routes.trained and not np.isnan(loss_N).any():
            points.append((routes.n_big, float(loss_N.mean())))
    if points:
        panel.plot(*zip(*points, strict=True), "D", color=ROUTER, markersize=5, label="trained routers")


FIGURE = PaperFigure(
    title="Figure 4 b: loss against the number of big layers",
    finding="routers and fixed patterns fall with k; the oracle is U-shaped with its least at half of the layers, and with "
    "one big layer it is below all-big",
    control="the null gain: what the oracle gains on labels drawn from all-big at the same positions; and a random pattern of "
    "the same budget, real against drawn labels: what an overconfident all-big leaves to any other pattern, without choice.",
    needs=("big", "random"),
    answer=_answer,
)
