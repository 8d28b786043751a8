"""Figure 3: which layers trained routers make big, by layer and position.

Axes: N tokens, L layers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from duo_oracle.oracle.branches import DUO
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.colours import CYCLE
from duo_oracle.results.paper.figure import Answer, PaperFigure, Table, by_layer, number
from duo_oracle.results.paper.marks import CONTROL, REAL, band, layer_line, layer_map, legend_below
from duo_oracle.results.paper.material import Material, Routes
from duo_oracle.results.statistics.effects import Effect, Ratio, effect, ratio


def router_pairs(material: Material, holdout: str) -> list[tuple[Routes, Routes]]:
    """Each trained router with the random one of its number of B's and skips."""
    routes = material.routes(holdout)
    trained = [one for one in routes if one.trained]
    untrained = [one for one in routes if not one.trained]

    def apart(one: Routes, other: Routes) -> float:
        return sum(abs(float((one.branches_NL == b).mean() - (other.branches_NL == b).mean())) for b in DUO.branches)

    return [(one, min(untrained, key=lambda other: apart(one, other))) for one in trained]


def over_positions(routes: Routes, value_N: np.ndarray) -> Ratio:
    """The least-squares change of a value per 100 positions, as a ratio of sums over tokens."""
    centred_N = routes.position_N - routes.position_N.mean()
    return ratio(routes.document_N, centred_N * value_N * 100, centred_N**2)


def _answer(material: Material) -> Answer:
    decide: list[Effect] = []
    beside: list[Effect] = []
    rows = []
    for holdout in material.holdouts:
        for routes, luck in router_pairs(material, holdout):
            n_letters = routes.branches_NL.shape[1]
            both = (routes, luck)
            big = [ratio(r.document_N, by_layer(r.branches_NL == Branch.BIG, n_letters)) for r in both]
            one = effect(f"{holdout}, {routes.router}: later layers are big", "rise over depth", [(1, big[0])], [(1, big[1])])
            (beside if routes.skips else decide).append(one)
            early = [over_positions(r, (r.branches_NL == Branch.BIG).mean(axis=1)) for r in both]
            what = f"{holdout}, {routes.router}: early tokens get more B's"
            beside.append(effect(what, "share per 100 positions", [(-1, early[0])], [(-1, early[1])]))
            if routes.skips:
                late = [ratio(r.document_N, by_layer(r.branches_NL == Branch.SKIP, n_letters)) for r in both]
                what = f"{holdout}, {routes.router}: skips lie late"
                beside.append(effect(what, "rise over depth", [(1, late[0])], [(1, late[1])]))
            shares = (number(share, 2) for share in (routes.branches_NL == Branch.BIG).mean(axis=0))
            rows.append((f"{holdout}, {routes.router}", number(routes.n_big, 2), *shares))
    layers = tuple(f"layer {layer}" for layer in range(material.n_letters))
    return Answer(
        effects=tuple(decide or beside),
        beside=tuple(beside if decide else ()),
        tables=(Table("Share of tokens for which the router makes the layer big", ("text, router", "B's", *layers), tuple(rows)),),
        draw=partial(_draw, material),
        size=(2.9 * max(2, len(router_pairs(material, material.holdouts[0]))), 4.6 * len(material.holdouts)),
        notes=(
            "One router of each kind was trained: the intervals say how it routes other documents, not what another training "
            "would give.",
        ),
    )


def _draw(material: Material, figure: Any) -> None:
    pairs = {holdout: router_pairs(material, holdout) for holdout in material.holdouts}
    n_columns = max(len(each) for each in pairs.values())
    axes = figure.subplots(2 * len(pairs), n_columns, squeeze=False)
    for row, (holdout, both) in enumerate(pairs.items()):
        for column, (routes, luck) in enumerate(both):
            above, below = axes[2 * row, column], axes[2 * row + 1, column]
            layers = range(routes.branches_NL.shape[1])
            band(above, layers, layer_line(routes.branches_NL == Branch.BIG, routes.document_N), "router: big", REAL)
            if routes.skips:
                band(above, layers, layer_line(routes.branches_NL == Branch.SKIP, routes.document_N), "router: skip", CYCLE[4])
            band(above, layers, layer_line(luck.branches_NL == Branch.BIG, luck.document_N), "random router: big", CONTROL, "--")
            above.set_title(f"{holdout}, {routes.router}", fontsize=8)
            above.set(xlabel="layer", ylim=(-0.03, 1.03), xticks=range(0, len(layers), 2))
            image = layer_map(below, (routes.branches_NL == Branch.BIG).astype(float), routes.position_N, 0.5, 0.5)
            below.set(xlabel="position in the window", ylabel="layer" if column == 0 else "")
            figure.colorbar(image, ax=below, fraction=0.05)
        axes[2 * row, 0].set_ylabel("share of tokens")
    legend_below(figure, axes[0, -1])


FIGURE = PaperFigure(
    title="Figure 3: share of big layers of trained routers",
    finding="trained routers take later layers at every budget, give more to early tokens, and skip late",
    control="a random router of the same number of B's and skips on the same text.",
    needs=("big", "routes"),
    answer=_answer,
)
