"""The budget plane: perplexity against big layers and against operations, with oracle, fixed, random and routers on one plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from duo_oracle.oracle.layers import format_layers
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.compare.hull import family_of
from duo_oracle.results.compare.plane import UNIFORM, Line, Plane
from duo_oracle.results.statistics.intervals import perplexity_of

if TYPE_CHECKING:
    from duo_oracle.results.drawing import Picture

_STYLES = {
    "random": ("random pattern, expected", "tab:gray", "--"),
    "fixed": ("best fixed pattern, chosen on other documents", "tab:blue", "-"),
    "oracle": ("oracle, the same number of big layers for each token", "tab:red", "-"),
}
_MARKERS = "os^Dv<>Pp*Xh"
_AVERAGE = "oracle of an average budget"


def draw_plane(plane: Plane, lines: Sequence[Line]) -> Picture:
    """The plane: a panel against big layers, one against operations per token where they are known, and with routers one of their
    paired differences to the best fixed pattern, with intervals.

    Routers whose names differ by a number at the end (`budget-4`, `budget-6`) share a mark. Equal lines give equal bytes.
    """
    from duo_oracle.results.drawing import picture

    known = [line for line in lines if line.kind == "router" and line["minus_fixed"] is not None]
    n_panels = 1 + (plane.flops_by_branch is not None) + bool(known)
    with picture((4.9 * n_panels, 4.8), {"svg.fonttype": "none", "font.size": 8}) as figure:
        panels = list(figure.subplots(1, n_panels, squeeze=False)[0])
        _panel(panels[0], plane, lines, lambda line: line.budget, lambda budget: budget)
        panels[0].set(xlabel=_per_token(plane), ylabel="perplexity")
        if plane.flops_by_branch is not None:
            of_budget = np.vectorize(lambda budget: (plane.flops_of_budget(budget) or np.nan) / 1e6)
            _panel(panels[1], plane, lines, lambda line: line["flops"] / 1e6, of_budget)
            panels[1].set(xlabel="million operations per token", ylabel="perplexity")
        if known:
            _differences(panels[-1], plane, lines, known)
        handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=7)
        first = lines[0].loss
        measured = f"{first.n_tokens:,} tokens of {first.n_documents} documents, context {plane.context}"
        figure.suptitle(f"Perplexity against compute: {measured}", fontsize=9)
    return figure


def _panel(axes: Any, plane: Plane, lines: Sequence[Line], where: Any, of_budget: Any) -> None:
    for kind, (label, colour, style) in _STYLES.items():
        mine = sorted((line for line in lines if line.kind == kind and not line.name.endswith("any")), key=lambda line: line.budget)
        if mine:
            at = [where(line) for line in mine]
            axes.plot(
                at, [perplexity_of(line.loss.mean) for line in mine], style, color=colour, label=label, marker=".", linewidth=1.2
            )
    if plane.average is not None:
        budgets, losses = plane.average.frontier
        few = np.unique(np.linspace(0, len(budgets) - 1, 400).astype(int))
        axes.plot(
            of_budget(budgets[few]),
            [perplexity_of(loss) for loss in losses[few]],
            color="tab:orange",
            linewidth=1.2,
            label=_AVERAGE,
        )
    for line in lines:
        if line.kind in UNIFORM:
            at, height = where(line), perplexity_of(line.loss.mean)
            axes.plot(at, height, "k|", markersize=9)
            side = "right" if line.kind == UNIFORM[Branch.BIG] else "left"
            axes.annotate(line.name, (at, height), xytext=(0, 7), textcoords="offset points", ha=side)
    for line, mark, colour, label in _marked(lines):
        axes.plot([where(line)], [perplexity_of(line.loss.mean)], mark, color=colour, markersize=5, label=label)
    axes.grid(alpha=0.3, linewidth=0.5)


def _differences(axes: Any, plane: Plane, lines: Sequence[Line], known: Sequence[Line]) -> None:
    """Each router's loss minus the best fixed pattern's at its own budget, beside random patterns."""
    axes.axhline(0, color=_STYLES["fixed"][1], linewidth=1.2)
    at_random = [line for line in lines if line.kind == "random" and line["minus_fixed"] is not None]
    if at_random:
        budgets = [line.budget for line in at_random]
        low, high = ([getattr(line["minus_fixed"], end) for line in at_random] for end in ("low", "high"))
        axes.plot(budgets, [line["minus_fixed"].mean for line in at_random], "--", color="tab:gray", marker=".", linewidth=1.2)
        axes.fill_between(budgets, low, high, color="tab:gray", alpha=0.12, linewidth=0)
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
        yield line, _MARKERS[number % len(_MARKERS)], f"C{(number + 4) % 10}", label
