"""Regret against evaluations and against time, a panel per budget, as SVG, PNG or PDF. Knows outcomes, not how they came to be."""

from __future__ import annotations

import os
from collections.abc import Sequence

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.colours import CYCLE, INK
from duo_oracle.results.statistics.regret import Outcomes, regret_curve, regret_line

_FLOOR = 1e-4  # nats: regret at and below it is drawn there, since the axis is logarithmic


def plot_regret(
    outcomes: Sequence[Outcomes], file: str | os.PathLike[str], title: str, exact_tokens_per_second: dict[str, float]
) -> None:
    """Draws a column of panels per budget: above, mean regret after each evaluation, dotted as many random patterns; below, the
    final regret against CPU milliseconds per token, with the exact oracle's time as a line. Equal outcomes give equal bytes.
    An average budget has no evaluations one after another, and no panel.

    Raises InputError for an ending that is no picture's, and where all budgets are averages.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from duo_oracle.results.drawing import picture, picture_ending

    picture_ending(file)
    outcomes = [found for found in outcomes if found.best_NE.size]
    if not outcomes:
        raise InputError("regret is drawn against evaluations, under any, exact or at-most budgets; all of these are averages")
    budgets = list(dict.fromkeys(found.budget for found in outcomes))
    names = list(dict.fromkeys(found.strategy for found in outcomes))
    colour_of = {name: CYCLE[number % 10] for number, name in enumerate(names)}
    with picture((max(3.1 * len(budgets), 5), 5.6), {"font.size": 8}) as figure:
        axes = figure.subplots(2, len(budgets), squeeze=False, sharey=True)
        for column, budget in enumerate(budgets):
            above, below = axes[:, column]
            for found in (found for found in outcomes if found.budget == budget):
                colour, (evaluations, regret) = colour_of[found.strategy], regret_curve(found)
                above.plot(evaluations, regret.clip(_FLOOR), color=colour, label=found.strategy, linewidth=1.2)
                line = regret_line(found)
                if line.random_regret is not None:
                    above.plot(line.evaluations, max(line.random_regret.mean, _FLOOR), "x", color=colour, markersize=4)
                below.plot(1e3 / line.tokens_per_second, max(line.regret.mean, _FLOOR), "o", color=colour, markersize=5)
            if budget in exact_tokens_per_second:
                below.axvline(1e3 / exact_tokens_per_second[budget], color=INK, linewidth=0.8, linestyle="--")
            above.set(xscale="log", yscale="log", title=f"budget {budget}", xlabel="evaluations per token")
            below.set(xscale="log", yscale="log", xlabel="CPU milliseconds per token")
            for panel in (above, below):
                panel.grid(alpha=0.3, linewidth=0.5)
                panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                panel.xaxis.set_minor_formatter(NullFormatter())
                panel.set_ylim(_FLOOR * 0.8, None)
        for row in axes:
            row[0].set_ylabel("regret, nats per token")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(names), 4))
        figure.suptitle(f"{title}\ncross: as many random patterns; dashed: the exact oracle's time", fontsize=8)
    figure.save(file)
