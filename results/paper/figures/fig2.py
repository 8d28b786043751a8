"""Figure 2 a-c: which layers the oracle makes big under an exact budget, by layer and position.

Axes: N tokens, L layers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from duo_oracle.results.paper.figure import Answer, PaperFigure, Table, by_layer, number, thirds
from duo_oracle.results.paper.marks import CONTROL, REAL, band, layer_line, layer_map, legend_below
from duo_oracle.results.paper.material import Material
from duo_oracle.results.statistics.effects import Effect, effect, estimate, ratio
from duo_oracle.results.store.positions import Positions


def _answer(material: Material) -> Answer:
    few, half, many = thirds(material.n_letters)
    decide: list[Effect] = []
    beside: list[Effect] = []
    rows = []
    for holdout in material.holdouts:
        real, sampled = (material.positions(holdout, kind) for kind in ("big", "sampled"))
        for k in (few, half, many):
            sign = -1.0 if k == many else 1.0
            terms = [ratio(p.document_N, by_layer(p.takes_big(k), p.n_letters)) for p in (real, sampled)]
            says = "more B's at earlier than at later layers" if k == many else "more B's at later than at earlier layers"
            says += " (the paper: even)" if k == half else ""
            one = effect(f"{holdout}, k={k}: {says}", "rise over depth", [(sign, terms[0])], [(sign, terms[1])])
            (beside if k == half else decide).append(one)
            apart = [estimate((1, term)) for term in terms]
            rows.append((f"{holdout}, k={k}", str(apart[0]), str(apart[1]), str(estimate((1, terms[0]), (-1, terms[1])))))
    law = [_law(material, holdout, kind) for holdout in material.holdouts for kind in ("big", "sampled")]
    return Answer(
        effects=tuple(decide),
        beside=tuple(beside),
        tables=(
            Table(
                "Rise of the share of B from the first layer to the last (least squares)",
                ("text, budget", "holdout", "text of all-big", "difference"),
                tuple(rows),
            ),
            Table(
                f"The law of pure noise: share at k={few} plus share at k={many} is 1 at every layer",
                ("text", "mean of the sum", "largest distance from 1 at a layer"),
                tuple(law),
            ),
        ),
        draw=partial(_draw, material),
        size=(3.4 * 3, 4.6 * len(material.holdouts)),
        notes=(
            "Where every big FFN only adds noise to a token's loss, more at later layers, the oracle's B's lie late at "
            f"k={few}, evenly at k={half} and early at k={many}, and a layer's shares at k={few} and k={many} add up to 1.",
        ),
    )


def _law(material: Material, holdout: str, kind: str) -> tuple[str, str, str]:
    few, _, many = thirds(material.n_letters)
    positions = material.positions(holdout, kind)
    sum_L = positions.takes_big(few).mean(axis=0) + positions.takes_big(many).mean(axis=0)
    name = holdout if kind == "big" else f"text of all-big like {holdout}"
    return name, number(float(sum_L.mean())), number(float(np.abs(sum_L - 1).max()))


def _draw(material: Material, figure: Any) -> None:
    budgets = thirds(material.n_letters)
    axes = figure.subplots(2 * len(material.holdouts), len(budgets), squeeze=False)
    for row, holdout in enumerate(material.holdouts):
        real, sampled = (material.positions(holdout, kind) for kind in ("big", "sampled"))
        for column, k in enumerate(budgets):
            above, below = axes[2 * row, column], axes[2 * row + 1, column]
            _lines(above, real, sampled, k)
            above.set(title=f"{holdout}, k = {k}", xlabel="layer", xticks=range(0, real.n_letters, 2))
            above.set_ylim(k / real.n_letters - 0.25, k / real.n_letters + 0.25)
            image = layer_map(below, real.takes_big(k), real.position_N, k / real.n_letters)
            below.set(xlabel="position in the window", ylabel="layer" if column == 0 else "")
            figure.colorbar(image, ax=below, fraction=0.05)
        axes[2 * row, 0].set_ylabel("share of B")
    legend_below(figure, axes[0, 0])


def _lines(axes: Any, real: Positions, sampled: Positions, k: int) -> None:
    layers = range(real.n_letters)
    band(axes, layers, layer_line(real.takes_big(k), real.document_N), "oracle on the holdout", REAL)
    band(
        axes,
        layers,
        layer_line(sampled.takes_big(k), sampled.document_N),
        "oracle on text of all-big: selection bias",
        CONTROL,
        "--",
    )
    axes.axhline(k / real.n_letters, color="black", linewidth=0.6, linestyle=":", label="even")


FIGURE = PaperFigure(
    title="Figure 2 a-c: share of big layers by layer and position, exact budget",
    finding="with few big layers the oracle takes later ones, with half of them it is even, with many it takes earlier ones; "
    "the same on prose and on code",
    control="the same search of text drawn from all-big itself, documents and lengths as in the holdout: there no pattern is "
    "better than all-big, and every preference is selection bias.",
    needs=("big", "sampled"),
    answer=_answer,
)
