"""The ladder as a picture: a panel per budget, a row per rung, its gain on the real labels with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from duo_oracle.results.colours import CONTROL, FIXED, INK, ORACLE, ROUTER
from duo_oracle.results.drawing import Picture, picture
from duo_oracle.results.ladder.rungs import Line

_COLOURS = {
    "hindsight": ORACLE,
    "excess": ORACLE,
    "reference": ROUTER,
    "additive": ROUTER,
    "probe": FIXED,
    "layer probe": FIXED,
    "router": CONTROL,
}


def draw_ladder(lines: Sequence[Line], title: str) -> Picture:
    """The rungs from below; equal lines give equal bytes. Dotted: the best fixed pattern."""
    budgets = list(dict.fromkeys(line.budget for line in lines))
    names = list(dict.fromkeys(line.name for line in lines))
    with picture((3.4 + 3.2 * len(budgets), 1.2 + 0.27 * len(names)), {"font.size": 8}) as figure:
        panels = figure.subplots(1, len(budgets), squeeze=False, sharey=True)[0]
        for panel, budget in zip(panels, budgets, strict=True):
            for line in (line for line in lines if line.budget == budget):
                row, colour = names.index(line.name), _COLOURS.get(line.kind, "0.35")
                panel.plot([line.gain.low, line.gain.high], [row, row], color=colour, linewidth=1.4)
                panel.plot(line.gain.mean, row, "o", color=colour, markersize=4)
                if line.kind == "fixed":
                    panel.axvline(line.gain.mean, color="0.35", linewidth=0.8, linestyle=":")
            panel.axvline(0, color=INK, linewidth=0.6)
            panel.grid(alpha=0.3, linewidth=0.5, axis="x")
            panel.set(title=f"budget {budget}", xlabel="gain over all-big, nats per token")
        panels[0].set_yticks(range(len(names)), names)
        figure.suptitle(title, fontsize=8)
    return figure
