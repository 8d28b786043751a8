"""Routers in training: use of each layer against the target, starved and saturated layers, and how far cutoffs stray from their
average, as a table and as pictures. Knows arrays, not how they came to be.

Axes: S training steps, L routed layer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

LAST = 0.25
"""Share of the steps, the last ones, over which means are taken."""
STARVED, SATURATED = 0.01, 0.99


class Record(Protocol):
    """A router's training; `models.router_record.RouterRecord` is one."""

    @property
    def name(self) -> str: ...
    @property
    def layers(self) -> Sequence[int] | None: ...
    @property
    def even(self) -> float: ...
    @property
    def usage_SL(self) -> np.ndarray: ...
    @property
    def cutoff_SL(self) -> np.ndarray: ...
    @property
    def batch_cutoff_SL(self) -> np.ndarray: ...
    @property
    def passed_SL(self) -> np.ndarray: ...
    @property
    def held_SL(self) -> np.ndarray: ...


def usage_table(records: Sequence[Record]) -> pa.Table:
    """One row per router and layer: the share of tokens that take B over the last quarter of the steps, beside an even use of the
    budget; the share of them over the cutoff, before warm-up and capacity; the share of all steps in which the layer was starved
    (under 1%) or saturated (over 99%), by what was over the cutoff where there is one; in which fewer or more were over it than the
    capacity allows; and the signed deviation of the batch's cutoff from its average, in logits (null where there is none)."""
    rows = []
    for record in records:
        numbers = layers_of(record)
        last = slice(-max(1, round(LAST * len(record.usage_SL))), None)
        deviation_SL = record.batch_cutoff_SL - record.cutoff_SL
        for letter, usage_S in enumerate(record.usage_SL.T):
            passed_S, held_S = record.passed_SL[:, letter], record.held_SL[:, letter]
            raw_S = np.where(np.isnan(passed_S), usage_S, passed_S)
            deviation_S = deviation_SL[last, letter]
            known = not np.isnan(deviation_S).any()
            rows.append(
                {
                    "router": record.name,
                    "layer": numbers[letter],
                    "even": record.even,
                    "big": float(usage_S[last].mean()),
                    "big_spread": float(usage_S[last].std()),
                    "passed": _mean(passed_S[last]),
                    "starved_steps": float((raw_S < STARVED).mean()),
                    "saturated_steps": float((raw_S > SATURATED).mean()),
                    "below_capacity": _mean(held_S < 0, held_S),
                    "above_capacity": _mean(held_S > 0, held_S),
                    "cutoff": float(record.cutoff_SL[last, letter].mean()),
                    "deviation": float(deviation_S.mean()) if known else None,
                    "deviation_spread": float(deviation_S.std()) if known else None,
                    "steps": len(usage_S),
                }
            )
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _mean(values: np.ndarray, where: np.ndarray | None = None) -> float | None:
    """The mean over the steps for which there is something; None where there is none."""
    known = ~np.isnan(values if where is None else where)
    return float(values[known].mean()) if known.any() else None


def layers_of(record: Record) -> Sequence[int]:
    """The routed layers' numbers in the model: those that the record names (`layers`), or all."""
    return record.layers or range(record.usage_SL.shape[1])


_NUMBERS = ("even", "big", "big_spread", "passed", "starved_steps", "saturated_steps", "below_capacity", "above_capacity", "cutoff")
_SCHEMA = pa.schema(
    [("router", pa.string()), ("layer", pa.int64())]
    + [(name, pa.float64()) for name in _NUMBERS]
    + [("deviation", pa.float64()), ("deviation_spread", pa.float64()), ("steps", pa.int64())]
)


def plot_training_usage(records: Sequence[Record], file: str | os.PathLike[str]) -> None:
    """Two rows of panels, a column per router: the share of B per layer over the steps, the even use dotted; and the batch's cutoff
    minus its average. Raises InputError for an ending that is no picture's."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    from duo_oracle.results.drawing import picture, picture_ending

    picture_ending(file)
    with picture((max(3.2 * len(records), 5.0), 5.0), {"svg.fonttype": "none", "font.size": 8}) as figure:
        axes = figure.subplots(2, len(records), squeeze=False, sharey="row", sharex="col")
        numbers = [layer for record in records for layer in layers_of(record)]
        colours = ScalarMappable(Normalize(min(numbers), max(numbers)), "viridis")
        for column, record in enumerate(records):
            above, below = axes[:, column]
            for letter, colour in enumerate(colours.to_rgba(np.array(layers_of(record)))):
                above.plot(record.usage_SL[:, letter], color=colour, linewidth=0.7)
                below.plot((record.batch_cutoff_SL - record.cutoff_SL)[:, letter], color=colour, linewidth=0.7)
            above.axhline(record.even, color="black", linestyle=":", linewidth=1)
            below.axhline(0, color="black", linestyle=":", linewidth=1)
            above.set(title=record.name, ylim=(-0.03, 1.03))
            below.set(xlabel="training step")
            if np.isnan(record.batch_cutoff_SL).all():
                below.text(0.5, 0.6, "no average of cutoffs", transform=below.transAxes, ha="center")
        axes[0, 0].set_ylabel("share of tokens that take B")
        axes[1, 0].set_ylabel("batch's cutoff - average, logits")
        figure.colorbar(colours, ax=axes, label="layer", fraction=0.03)
    figure.save(file)
