"""Figure 5: loss per token of all-small, all-big and the oracle: which high losses does compute not help?

Axes: N tokens.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from duo_oracle.oracle.base.shown import one_line
from duo_oracle.results.colours import FIXED, PLAIN
from duo_oracle.results.paper.figure import Answer, PaperFigure, Table, number
from duo_oracle.results.paper.marks import CONTROL, REAL
from duo_oracle.results.paper.material import Material
from duo_oracle.results.statistics.effects import Ratio, effect, estimate, mean_over
from duo_oracle.results.store.positions import Positions

HIGH = 0.75  # high losses: the upper quarter of the holdout's tokens, by all-small loss
LITTLE = 0.1  # not helped: the oracle takes off less than so much of the all-small loss
SHOWN = 48


def stubborn(positions: Positions, threshold: float) -> Ratio:
    """The share of the tokens above `threshold` (all-small loss) that no budget's oracle path helps."""
    saved_N = positions.small_N - positions.loss_NK.min(axis=1)
    return mean_over(positions.document_N, saved_N < LITTLE * positions.small_N, positions.small_N > threshold)


def _answer(material: Material) -> Answer:
    decide, beside, rows = [], [], []
    for holdout in material.holdouts:
        real, sampled = (material.positions(holdout, kind) for kind in ("big", "sampled"))
        threshold = float(np.quantile(real.small_N, HIGH))
        terms = [stubborn(positions, threshold) for positions in (real, sampled)]
        decide.append(effect(f"{holdout}: high-loss tokens that compute does not help", "share", [(1, terms[0])], [(1, terms[1])]))
        helped = [_share_saved(positions, threshold) for positions in (real, sampled)]
        what = f"{holdout}: share of high losses that the oracle takes off"
        beside.append(effect(what, "share", [(1, helped[0])], [(1, helped[1])]))
        for name, positions in ((holdout, real), (f"text of all-big like {holdout}", sampled)):
            high_N = positions.small_N > threshold
            means = (positions.small_N, positions.big_N, positions.loss_NK.min(axis=1))
            cells = [estimate((1, mean_over(positions.document_N, each, high_N))) for each in means]
            share = estimate((1, stubborn(positions, threshold)))
            rows.append((name, number(threshold, 2), str(int(high_N.sum())), *map(str, cells), str(share)))
    headings = ("text", "high above", "tokens", "all-small", "all-big", "oracle", f"helped by less than {LITTLE:.0%}")
    return Answer(
        effects=tuple(decide),
        beside=tuple(beside),
        tables=(Table("High-loss tokens, nats per token", headings, tuple(rows)),),
        draw=partial(_draw, material),
        size=(11.0, 3.1 * len(material.holdouts)),
        notes=("Oracle: the best pattern of any budget. All in the context full.",),
    )


def _share_saved(positions: Positions, threshold: float) -> Ratio:
    high_N = positions.small_N > threshold
    saved = mean_over(positions.document_N, positions.small_N - positions.loss_NK.min(axis=1), high_N)
    return Ratio(saved.documents, saved.sum_D, np.bincount(_codes(positions), weights=positions.small_N * high_N))


def _codes(positions: Positions) -> np.ndarray:
    return np.unique(positions.document_N, return_inverse=True)[1]


def _draw(material: Material, figure: Any) -> None:
    axes = figure.subplots(len(material.holdouts), 2, squeeze=False, width_ratios=(3, 1.1))
    for (wide, narrow), holdout in zip(axes, material.holdouts, strict=True):
        real, sampled = (material.positions(holdout, kind) for kind in ("big", "sampled"))
        rows = np.flatnonzero(real.sequence_N == real.sequence_N[0])[:SHOWN]
        at = np.arange(len(rows))
        oracle_N = real.loss_NK.min(axis=1)
        lines = (("all-small", real.small_N, PLAIN), ("all-big", real.big_N, FIXED), ("oracle", oracle_N, REAL))
        for name, loss_N, colour in lines:
            wide.plot(at, loss_N[rows], "o-", color=colour, markersize=2.5, linewidth=0.9, label=name)
        texts = [one_line(str(text)).strip() or "\u2423" for text in real.target_N[rows]]
        wide.set_xticks(at, texts, rotation=90, fontsize=6, parse_math=False)
        wide.set(title=f"{holdout}: {real.document_N[0]}, the token predicted", ylabel="nats")
        wide.legend(fontsize=7, frameon=False, loc="upper right")
        for positions, name, colour in ((sampled, "text of all-big", CONTROL), (real, "holdout", REAL)):
            saved_N = positions.small_N - positions.loss_NK.min(axis=1)
            edges = np.linspace(0, 1, 21)
            high_N = positions.small_N > np.quantile(real.small_N, HIGH)
            share_N = (saved_N / positions.small_N)[high_N]
            narrow.hist(share_N, edges, density=True, histtype="step", color=colour, label=name, linewidth=1.3)
        narrow.axvline(LITTLE, color="black", linewidth=0.7, linestyle=":")
        narrow.set(title="high-loss tokens", xlabel="share of the all-small loss taken off", yticks=[])
        narrow.legend(fontsize=7, frameon=False)


FIGURE = PaperFigure(
    title="Figure 5: loss per token of all-small, all-big and the oracle",
    finding="some tokens of high loss do not improve with compute, others do",
    control="the same share on text drawn from all-big itself, above the same threshold of loss: there, too, some tokens "
    "happen to be helped and some not.",
    needs=("big", "sampled"),
    answer=_answer,
)
