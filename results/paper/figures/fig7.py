"""Figure 7: what a router chooses along one sequence, layer by layer.

Axes: T token, L layer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from duo_oracle.oracle.branches import DUO
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.colours import BRANCHES
from duo_oracle.results.paper.figure import Answer, PaperFigure, Table, number
from duo_oracle.results.paper.figures.fig3 import over_positions, router_pairs
from duo_oracle.results.paper.material import Material, Routes
from duo_oracle.results.statistics.effects import Effect, effect


def _answer(material: Material) -> Answer:
    decide: list[Effect] = []
    beside: list[Effect] = []
    rows = []
    for holdout in material.holdouts:
        for routes, luck in router_pairs(material, holdout):
            both = [over_positions(r, _mean_cost(r)) for r in (routes, luck)]
            what = f"{holdout}, {routes.router}: more small and skip towards the end"
            decide.append(effect(what, "branch cost per 100 positions", [(-1, both[0])], [(-1, both[1])]))
            rows.append((f"{holdout}, {routes.router}", *(_shares(routes, half) for half in (0, 1))))
    return Answer(
        effects=tuple(decide),
        beside=tuple(beside),
        tables=(
            Table(
                "Share of big / small / skip over all tokens and layers", ("text, router", "first half", "second half"), tuple(rows)
            ),
        ),
        draw=partial(_draw, material),
        size=(5.4 * len(material.holdouts), 1.55 * max(2, len(router_pairs(material, material.holdouts[0])))),
        notes=(
            "A branch costs 1 if big, 0.5 if small and 0 if skipped here, so that the three orders of branches are one number.",
        ),
    )


def _mean_cost(routes: Routes) -> np.ndarray:
    """Each token's mean branch, skip 0, small 0.5, big 1."""
    return routes.branches_NL.mean(axis=1) / int(Branch.BIG)


def _shares(routes: Routes, half: int) -> str:
    middle = (int(routes.position_N.max()) + 1) / 2
    mine_NL = routes.branches_NL[(routes.position_N >= middle) == bool(half)]
    return " / ".join(number(float((mine_NL == branch).mean()), 3) for branch in (Branch.BIG, Branch.SMALL, Branch.SKIP))


def _draw(material: Material, figure: Any) -> None:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    colours = ListedColormap(list(BRANCHES))
    n_rows = max(len(router_pairs(material, holdout)) for holdout in material.holdouts)
    axes = figure.subplots(n_rows, len(material.holdouts), squeeze=False)
    for column, holdout in enumerate(material.holdouts):
        for row, (routes, _) in enumerate(router_pairs(material, holdout)):
            first_TL = routes.branches_NL[routes.document_N == routes.document_N[0]]
            axes[row, column].imshow(first_TL.T, aspect="auto", cmap=colours, vmin=0, vmax=2, interpolation="nearest")
            axes[row, column].set_title(f"{routes.document_N[0]} · {routes.router}", fontsize=7)
            axes[row, column].set_ylabel("layer")
        axes[-1, column].set_xlabel("position")
    keys = [Patch(facecolor=colours(branch), edgecolor="0.6", label=branch.name.lower()) for branch in DUO.branches]
    figure.legend(handles=keys, loc="outside lower center", ncols=3, frameon=False, fontsize=8)


FIGURE = PaperFigure(
    title="Figure 7: router maps over one sequence",
    finding="routers take more small FFNs and skips towards the end of a sequence",
    control="a random router of the same number of B's and skips on the same text; the statement is over all documents, the "
    "map shows one.",
    needs=("routes",),
    answer=_answer,
)
