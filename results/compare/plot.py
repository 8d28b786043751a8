"""The budget plane: perplexity against big layers and against operations, with oracle, fixed, random and routers on one plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from duo_oracle.oracle.layers import format_layers
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.colours import BIAS, CYCLE, FIXED, ORACLE, PLAIN
from duo_oracle.results.compare.hull import family_of
from duo_oracle.results.compare.plane import UNIFORM, Line, Plane
from duo_oracle.results.statistics.intervals import perplexity_of

if TYPE_CHECKING:
    from duo_oracle.results.drawing import Picture

_STYLES = {
    "random": ("random pattern, expected", PLAIN, "--"),
    "fixed": ("best fixed pattern, chosen on other documents", FIXED, "-"),
    "oracle": ("oracle, the same number of big layers for each token", ORACLE, "-"),
}
_MARKERS = "os^Dv<>Pp*Xh"
_AVERAGE = "oracle of an average budget"


def draw_plane(plane: Plane, lines: Sequence[Line]) -> Picture:
    """The plane: a panel against big layers, with operations per token along its top where they are known, and with routers one of
    their paired differences to the best fixed pattern, with intervals.

    Routers whose names differ by a number at the end (`budget-4`, `budget-6`) share a mark. Equal lines give equal bytes.
    """
    from duo_oracle.results.drawing import picture

    known = [line for line in lines if line.kind == "router" and line["minus_fixed"] is not None]
    n_panels = 1 + bool(known)
    with picture((5.6 * n_panels, 5.4), {"svg.fonttype": "none", "font.size": 10}) as figure:
        panels = list(figure.subplots(1, n_panels, squeeze=False)[0])
        _panel(panels[0], plane, lines)
        panels[0].set(xlabel=_per_token(plane), ylabel="perplexity")
        none, every = plane.flops_of_budget(0), plane.flops_of_budget(plane.n_letters)
        if none is not None and every is not None and every > none:
            _operations_along_the_top(panels[0], none / 1e6, (every - none) / 1e6 / plane.n_letters)
        if known:
            _differences(panels[-1], plane, lines, known)
        handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        first = lines[0].loss
        measured = f"{first.n_tokens:,} tokens of {first.n_documents} documents, context {plane.context}"
        figure.suptitle(f"Perplexity against compute: {measured}", fontsize=11)
    return figure


def _operations_along_the_top(axes: Any, none: float, each: float) -> None:
    """A second scale of the same axis: what so many big layers come to in operations, all else the cheapest branch."""
    scale = axes.secondary_xaxis("top", functions=(lambda budget: none + each * budget, lambda millions: (millions - none) / each))
    scale.set_xlabel("million operations per token")


def _panel(axes: Any, plane: Plane, lines: Sequence[Line]) -> None:
    for kind, (label, colour, style) in _STYLES.items():
        mine = sorted((line for line in lines if line.kind == kind and not line.name.endswith("any")), key=lambda line: line.budget)
        if mine:
            at = [line.budget for line in mine]
            axes.plot(
                at, [perplexity_of(line.loss.mean) for line in mine], style, color=colour, label=label, marker=".", linewidth=1.2
            )
    if plane.average is not None:
        budgets, losses = plane.average.frontier
        few = np.unique(np.linspace(0, len(budgets) - 1, 400).astype(int))
        axes.plot(
            budgets[few],
            [perplexity_of(loss) for loss in losses[few]],
            color=BIAS,
            linewidth=1.2,
            label=_AVERAGE,
        )
    for line in lines:
        if line.kind in UNIFORM:
            place, height = line.budget, perplexity_of(line.loss.mean)
            axes.plot(place, height, "k|", markersize=9)
            side = "right" if line.kind == UNIFORM[Branch.BIG] else "left"
            axes.annotate(line.name, (place, height), xytext=(0, 7), textcoords="offset points", ha=side)
    for line, mark, colour, label in _marked(lines):
        axes.plot([line.budget], [perplexity_of(line.loss.mean)], mark, color=colour, markersize=5, label=label)
    axes.margins(y=0.09)  # room for the names at the ends
    axes.grid(alpha=0.3, linewidth=0.5)


def _differences(axes: Any, plane: Plane, lines: Sequence[Line], known: Sequence[Line]) -> None:
    """Each router's loss minus the best fixed pattern's at its own budget, beside random patterns."""
    axes.axhline(0, color=_STYLES["fixed"][1], linewidth=1.2)
    at_random = [line for line in lines if line.kind == "random" and line["minus_fixed"] is not None]
    if at_random:
        budgets = [line.budget for line in at_random]
        low, high = ([getattr(line["minus_fixed"], end) for line in at_random] for end in ("low", "high"))
        axes.plot(budgets, [line["minus_fixed"].mean for line in at_random], "--", color=PLAIN, marker=".", linewidth=1.2)
        axes.fill_between(budgets, low, high, color=PLAIN, alpha=0.12, linewidth=0)
    for line, mark, colour, _ in _marked(known):
        estimate = line["minus_fixed"]
        error = None
        if not np.isnan(estimate.low):
            error = [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]
        axes.errorbar([line.budget], [estimate.mean], yerr=error, fmt=mark, color=colour, markersize=5, elinewidth=0.8, capsize=2)
    axes.set(xlabel=_per_token(plane), ylabel="loss minus best fixed pattern's, nats per token")
    axes.grid(alpha=0.3, linewidth=0.5)


def _per_token(plane: Plane) -> str:
    of = "" if plane.routed_layers is None else f", of layers {format_layers(plane.routed_layers)}"
    return f"big layers per token{of}, average"


def _marked(lines: Sequence[Line]) -> Iterator[tuple[Line, str, str, str]]:
    """The routers with their mark, colour and label: one for all whose names differ by a number at the end."""
    routers = [line for line in lines if line.kind == "router"]
    families = [family_of(line.name) for line in routers]
    order = list(dict.fromkeys(families))
    for line, family in zip(routers, families, strict=True):
        number = order.index(family)
        label = family if families.count(family) > 1 else line.name
        yield line, _MARKERS[number % len(_MARKERS)], CYCLE[(number + 4) % 10], label
