"""Figure 4 c: the oracle's budget falling along the sequence, rising, or constant, at one average.

Axes: N tokens, K budgets.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from duo_oracle.results.colours import FIXED, PLAIN
from duo_oracle.results.paper.figure import Answer, PaperFigure, Table, number
from duo_oracle.results.paper.marks import CONTROL, REAL, legend_below, position_bins
from duo_oracle.results.paper.material import Material
from duo_oracle.results.statistics.effects import effect, estimate, ratio
from duo_oracle.results.store.positions import Positions


def schedules(n_letters: int) -> dict[str, list[int]]:
    """Budgets along the sequence in steps of equal length, all of one average: for 12 layers 6 to 2, 2 to 6, and 4."""
    middle = max(1, round(n_letters / 3))
    reach = max(1, round(n_letters / 6))
    steps = list(range(middle + reach, middle - reach - 1, -1))
    return {"falling": steps, "rising": steps[::-1], "constant": [middle] * len(steps)}


def scheduled(positions: Positions, steps: list[int], value_NK: np.ndarray) -> np.ndarray:
    """The value of each position under the budget of its step: (N,)."""
    columns = np.array([positions.column(k) for k in steps])
    step_N = np.empty(len(positions.position_N), dtype=np.int64)
    for sequence in np.unique(positions.sequence_N):
        mine = positions.sequence_N == sequence  # every window is cut at its own length
        step_N[mine] = position_bins(positions.position_N[mine], len(steps))
    return value_NK[np.arange(len(step_N)), columns[step_N]]


def _answer(material: Material) -> Answer:
    named = schedules(material.n_letters)
    decide, rows, difficulty = [], [], []
    for holdout in material.holdouts:
        real = material.positions(holdout, "big")
        luck_NK = -real.null_gain_NK  # loss of the oracle on drawn labels, from that of all-big on
        loss = {name: scheduled(real, steps, real.loss_NK) for name, steps in named.items()}
        luck = {name: scheduled(real, steps, luck_NK) for name, steps in named.items()}
        for name in ("falling", "rising"):
            terms = [ratio(real.document_N, each[name] - each["constant"]) for each in (loss, luck)]
            decide.append(effect(f"{holdout}: constant is below {name}", "nats", [(1, terms[0])], [(1, terms[1])]))
        for name, steps in named.items():
            mean = estimate((1, ratio(real.document_N, loss[name])))
            gain_N = real.big_N - loss[name]
            cells = [estimate((1, ratio(real.document_N, each))) for each in (gain_N, -luck[name], gain_N + luck[name])]
            rows.append((f"{holdout}, {name} {' '.join(map(str, steps))}", str(mean), *map(str, cells)))
        bin_N = position_bins(real.position_N, len(named["constant"]))
        means = ([real.small_N[bin_N == b].mean(), real.big_N[bin_N == b].mean()] for b in range(len(named["constant"])))
        difficulty.append((holdout, *(f"{number(small, 2)} / {number(big, 2)}" for small, big in means)))
    return Answer(
        effects=tuple(decide),
        tables=(
            Table(
                "Losses of the schedules, nats",
                ("text, budgets", "oracle", "gain over all-big", "null gain", "excess"),
                tuple(rows),
            ),
            Table(
                "The positions' own difficulty: all-small / all-big loss along the window",
                ("text", *(f"step {step + 1}" for step in range(len(named["constant"])))),
                tuple(difficulty),
            ),
        ),
        draw=partial(_draw, material),
        size=(4.8 * len(material.holdouts), 5.6),
        notes=(
            "Any curve of loss over k that is convex makes a constant budget best, on drawn labels too. Each budget's answers "
            "are read in the context full, where positions do not depend on each other.",
        ),
    )


def _draw(material: Material, figure: Any) -> None:
    axes = figure.subplots(2, len(material.holdouts), squeeze=False, height_ratios=(1.5, 1))
    named = schedules(material.n_letters)
    colours = {"falling": FIXED, "rising": PLAIN, "constant": "black"}
    n_bins = len(named["constant"])
    for column, holdout in enumerate(material.holdouts):
        above, below = axes[:, column]
        real = material.positions(holdout, "big")
        bin_N = position_bins(real.position_N, n_bins)
        for name, steps in named.items():
            loss_N = scheduled(real, steps, real.loss_NK)
            line = [float(loss_N[bin_N == b].mean()) for b in range(n_bins)]
            budgets = " ".join(map(str, steps))
            above.plot(
                range(1, n_bins + 1), line, "o-", color=colours[name], markersize=3, linewidth=1.2, label=f"{name}: {budgets}"
            )
        big = [float(real.big_N[bin_N == b].mean()) for b in range(n_bins)]
        above.plot(range(1, n_bins + 1), big, ":", color="black", linewidth=0.8, label="all-big")
        above.set(title=holdout, xlabel="step along the window", ylabel="nats per token", xticks=range(1, n_bins + 1))
        above.legend(fontsize=7, frameon=False)
        for shift, (what, value_NK, colour) in enumerate(
            (("real labels", real.loss_NK, REAL), ("labels drawn from all-big: selection bias", -real.null_gain_NK, CONTROL))
        ):
            constant_N = scheduled(real, named["constant"], value_NK)
            gaps = [scheduled(real, named[name], value_NK) - constant_N for name in ("falling", "rising")]
            means = [estimate((1, ratio(real.document_N, gap_N))) for gap_N in gaps]
            errors = [[e.mean - e.low for e in means], [e.high - e.mean for e in means]]
            at = [place + 0.3 * shift - 0.15 for place in range(2)]
            below.bar(
                at, [e.mean for e in means], 0.28, yerr=errors, color=colour, alpha=0.8, label=what, error_kw={"linewidth": 0.8}
            )
        below.set_xticks(range(2), ["falling", "rising"])
        below.axhline(0, color="black", linewidth=0.6)
        below.set(ylabel="nats above constant")
    legend_below(figure, axes[1, 0], 2)


FIGURE = PaperFigure(
    title="Figure 4 c: the oracle's budget along the sequence",
    finding="a constant budget is better than one that falls from 6 to 2 or rises from 2 to 6",
    control="the same schedules on labels drawn from all-big (their null gains), and the positions' own difficulty.",
    needs=("big",),
    answer=_answer,
)
