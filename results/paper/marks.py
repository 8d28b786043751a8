"""What the paper's figures are drawn with: lines with their intervals, maps of layers against positions, bars of means.

Axes: N tokens, L layers, B bins of positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from duo_oracle.results.colours import BIAS, ORACLE
from duo_oracle.results.statistics.effects import estimate, ratio
from duo_oracle.results.statistics.intervals import Estimate

REAL, CONTROL = ORACLE, BIAS


def band(axes: Any, at: Sequence[float], line: Sequence[Estimate], label: str, colour: str, style: str = "-") -> None:
    """A line of means, and a band of their intervals."""
    axes.plot(at, [e.mean for e in line], style, color=colour, label=label, marker="o", markersize=3, linewidth=1.3)
    axes.fill_between(at, [e.low for e in line], [e.high for e in line], color=colour, alpha=0.13, linewidth=0)


def layer_line(share_NL: np.ndarray, document_N: np.ndarray) -> list[Estimate]:
    """The mean share at every layer, with its interval."""
    return [estimate((1, ratio(document_N, share_NL[:, layer]))) for layer in range(share_NL.shape[1])]


def position_bins(position_N: np.ndarray, n_bins: int) -> np.ndarray:
    """Each token's bin of positions: bins of equal width up to the longest window."""
    return np.minimum(position_N * n_bins // (int(position_N.max()) + 1), n_bins - 1)


def layer_map(axes: Any, share_NL: np.ndarray, position_N: np.ndarray, middle: float, reach: float = 0.3, n_bins: int = 8) -> Any:
    """Mean share by layer (down) and position (across), white at `middle`, full colour `reach` away.

    Returns what a colour bar takes.
    """
    bin_N = position_bins(position_N, n_bins)
    share_LB = np.stack([share_NL[bin_N == b].mean(axis=0) for b in range(n_bins)], axis=1)
    image = axes.imshow(share_LB, aspect="auto", cmap="RdBu_r", vmin=middle - reach, vmax=middle + reach, origin="upper")
    n_positions = int(position_N.max()) + 1
    ticks = [0, n_bins // 2, n_bins - 1]
    axes.set_xticks(ticks, [str(round((tick + 0.5) * n_positions / n_bins)) for tick in ticks])
    return image


def legend_below(figure: Any, axes: Any, columns: int = 4) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
