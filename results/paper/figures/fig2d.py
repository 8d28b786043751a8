"""Figure 2 d: which layers the oracle skips when half of them must be skipped and the others are big.

Axes: N tokens, D documents, L layers.
"""

from __future__ import annotations

from functools import partial
from math import comb
from typing import Any

import numpy as np

from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.paper.figure import Answer, PaperFigure, Table, by_layer, number
from duo_oracle.results.paper.marks import CONTROL, REAL, band, layer_line, layer_map, legend_below
from duo_oracle.results.paper.material import Material
from duo_oracle.results.statistics.effects import Effect, Ratio, effect, estimate, ratio
from duo_oracle.results.store.positions import Positions


def preferred_elsewhere(kept_NL: np.ndarray, document_N: np.ndarray) -> Ratio:
    """How much more than a half the layers are kept that the *other* documents keep most: half of the layers are chosen on the
    others, so that a preference must come back to count. Zero where layers do not differ.
    """
    names, document_N = np.unique(document_N, return_inverse=True)
    n_letters = kept_NL.shape[1]
    count_D = np.bincount(document_N)
    sum_DL = np.stack([np.bincount(document_N, weights=kept_NL[:, layer]) for layer in range(n_letters)], axis=1)
    others_DL = sum_DL.sum(axis=0) - sum_DL
    most_DH = np.argsort(-others_DL, axis=1, kind="stable")[:, : n_letters // 2]
    mean_D = np.take_along_axis(sum_DL, most_DH, axis=1).mean(axis=1) - sum_DL.mean(axis=1)
    return Ratio(tuple(str(name) for name in names), mean_D, count_D.astype(np.float64))


def _kept(positions: Positions) -> np.ndarray:
    return positions.branches_NKL[:, 0] != Branch.SKIP


def _answer(material: Material) -> Answer:
    decide: list[Effect] = []
    beside: list[Effect] = []
    rows, exits = [], []
    for holdout in material.holdouts:
        texts = {kind: material.positions(holdout, kind) for kind in ("skip", "sampled-skip")}
        terms = [preferred_elsewhere(_kept(p), p.document_N) for p in texts.values()]
        what = f"{holdout}: the layers that other documents keep are kept here too"
        decide.append(effect(what, "share above even", [(1, terms[0])], [(1, terms[1])]))
        falls = [ratio(p.document_N, by_layer(_kept(p), p.n_letters)) for p in texts.values()]
        beside.append(
            effect(
                f"{holdout}: later layers are kept more than earlier ones (an early exit skips them)",
                "rise over depth",
                [(1, falls[0])],
                [(1, falls[1])],
            )
        )
        for kind, positions in texts.items():
            name = holdout if kind == "skip" else f"text of all-big like {holdout}"
            kept_NL = _kept(positions)
            rows.append((name, *(number(share, 2) for share in kept_NL.mean(axis=0))))
            n_kept = int(kept_NL[0].sum())
            leaves = estimate((1, ratio(positions.document_N, np.all(kept_NL[:, :n_kept], axis=1))))
            exits.append((name, str(leaves), number(1 / comb(positions.n_letters, n_kept), 5)))
    layers = tuple(str(layer) for layer in range(material.n_letters))
    return Answer(
        effects=tuple(decide),
        beside=tuple(beside),
        tables=(
            Table("Share of tokens whose best pattern keeps the layer", ("text", *layers), tuple(rows)),
            Table(
                "Tokens whose best pattern is an early exit: the first layers big, all the others skipped",
                ("text", "share [95%]", "a random pattern's"),
                tuple(exits),
            ),
        ),
        draw=partial(_draw, material),
        size=(5.0 * len(material.holdouts), 6.2),
    )


def _draw(material: Material, figure: Any) -> None:
    axes = figure.subplots(2, len(material.holdouts), squeeze=False)
    for column, holdout in enumerate(material.holdouts):
        real, sampled = (material.positions(holdout, kind) for kind in ("skip", "sampled-skip"))
        above, below = axes[:, column]
        band(above, range(real.n_letters), layer_line(_kept(real), real.document_N), "oracle on the holdout", REAL)
        line = layer_line(_kept(sampled), sampled.document_N)
        band(above, range(real.n_letters), line, "oracle on text of all-big: selection bias", CONTROL, "--")
        above.axhline(float(_kept(real).mean()), color="black", linewidth=0.6, linestyle=":", label="even")
        above.set(title=holdout, xlabel="layer", ylabel="share kept", ylim=(0, 1), xticks=range(0, real.n_letters, 2))
        image = layer_map(below, _kept(real).astype(float), real.position_N, float(_kept(real).mean()))
        below.set(xlabel="position in the window", ylabel="layer")
        figure.colorbar(image, ax=below, fraction=0.05)
    legend_below(figure, axes[0, 0])


FIGURE = PaperFigure(
    title="Figure 2 d: branches big and skip, half of the layers skipped",
    finding="some layers are mostly kept and some mostly skipped; the oracle does not exit early",
    control="the same search of text drawn from all-big itself. The statement is cross-validated: the layers are chosen on "
    "the other documents. The model was never trained to skip, so a layer may be kept because its absence breaks the model.",
    needs=("skip", "sampled-skip"),
    answer=_answer,
)
