"""The budget plane: perplexity against big layers and against operations, with oracle, fixed, random and routers on one plot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from results.compare import Line, Plane
from results.picture import picture_ending

_STYLES = {
    "random": ("random pattern, expected", "tab:gray", "--"),
    "fixed": ("best fixed pattern, chosen on other documents", "tab:blue", "-"),
    "oracle": ("oracle, the same number of big layers for each token", "tab:red", "-"),
}
_MARKERS = "os^Dv<>Pp*Xh"


def plot_plane(plane: Plane, lines: Sequence[Line], file: str | os.PathLike[str]) -> None:
    """Draws the plane into `file` (.svg, .png or .pdf); a second panel against operations per token where they are known.

    Raises ValueError for another ending. Equal lines give equal bytes.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ending = picture_ending(file)
    with_flops = plane.flops_per_layer is not None
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "duo-oracle", "font.size": 8}):
        figure = Figure(figsize=(10.4 if with_flops else 5.8, 4.8), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, 1 + with_flops, squeeze=False, sharey=True)[0]
        _panel(panels[0], plane, lines, lambda line: line.budget, lambda budget: budget)
        panels[0].set(xlabel="big layers per token, average", ylabel="perplexity")
        if with_flops:
            _panel(
                panels[1],
                plane,
                lines,
                lambda line: line["flops"] / 1e6,
                lambda budget: np.array([plane.flops_of_budget(b) or 0.0 for b in np.atleast_1d(budget)]) / 1e6,
            )
            panels[1].set(xlabel="million operations per token")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=7)
        first = lines[0].loss
        figure.suptitle(f"{first.n_tokens:,} tokens of {first.n_documents} documents, context {plane.context}", fontsize=8)
        metadata = {"Date": None} if ending == ".svg" else {"CreationDate": None} if ending == ".pdf" else None
        figure.savefig(file, dpi=160, metadata=metadata)


def _panel(axes: Any, plane: Plane, lines: Sequence[Line], where: Any, of_budget: Any) -> None:
    for kind, (label, colour, style) in _STYLES.items():
        mine = sorted((line for line in lines if line.kind == kind and not line.name.endswith("any")), key=lambda line: line.budget)
        if mine:
            at = [where(line) for line in mine]
            axes.plot(at, [np.exp(line.loss.mean) for line in mine], style, color=colour, label=label, marker=".", linewidth=1.2)
            axes.fill_between(
                at,
                [np.exp(line.loss.low) for line in mine],
                [np.exp(line.loss.high) for line in mine],
                color=colour,
                alpha=0.08,
                linewidth=0,
            )
    if plane.average is not None:
        budgets, losses = plane.average.frontier
        few = np.unique(np.linspace(0, len(budgets) - 1, 400).astype(int))
        axes.plot(
            of_budget(budgets[few]), np.exp(losses[few]), color="tab:orange", linewidth=1.2, label="oracle of an average budget"
        )
    for line in lines:
        if line.kind in ("all-small", "all-big"):
            axes.plot(where(line), np.exp(line.loss.mean), "k|", markersize=9, label=None)
            side = "left" if line.kind == "all-small" else "right"
            axes.annotate(line.name, (where(line), np.exp(line.loss.mean)), xytext=(0, 7), textcoords="offset points", ha=side)
    routers = [line for line in lines if line.kind == "router"]
    for number, line in enumerate(routers):
        mean = np.exp(line.loss.mean)
        error = None if np.isnan(line.loss.low) else [[mean - np.exp(line.loss.low)], [np.exp(line.loss.high) - mean]]
        axes.errorbar(
            [where(line)],
            [mean],
            yerr=error,
            fmt=_MARKERS[number % len(_MARKERS)],
            color=f"C{(number + 4) % 10}",
            markersize=5,
            elinewidth=0.5,
            label=line.name,
        )
    axes.grid(alpha=0.3, linewidth=0.5)
