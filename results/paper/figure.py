"""The contract of a figure of the Duo-LLM paper made again: what it claims, what it needs, and what it answers.

Each file in `results/figures/` holds one, named as it is asked for (`fig4b`), found by listing. A figure takes runs that lie
on disk (`results/paper/material.py`), and returns effects, tables and a picture, with its control in each. Knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from duo_oracle.oracle.base.choices import check_choice, names_in
from duo_oracle.results.paper.material import Material
from duo_oracle.results.statistics.effects import Effect, weakest

FIGURES = "duo_oracle.results.paper.figures"
LEFT_OUT = {
    "Figure 9": "further maps of trained routers as in Figure 7, of models that are not released",
    "the sizes of the paper": "1.4 B parameters, 300 B training tokens and 1,024 documents of C4 and of Python need GPUs",
}
"""What of the paper is not made again, by name, and why."""


@dataclass(frozen=True)
class Table:
    """A table of texts; the first column is named by its rows, the others hold numbers."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Answer:
    """What a figure found: the effects that decide its verdict (the weakest does), and what is shown."""

    effects: tuple[Effect, ...]
    tables: tuple[Table, ...]
    draw: Callable[[Any], None]
    """Draws into a matplotlib Figure of `size` inches."""
    size: tuple[float, float]
    beside: tuple[Effect, ...] = ()
    """Further statements of the paper's text, each with its own verdict; they do not decide."""
    notes: tuple[str, ...] = ()

    @property
    def deciding(self) -> Effect:
        return weakest(self.effects)


@dataclass(frozen=True)
class Question:
    """One item of a page: what is asked or claimed, and what stands beside the answer."""

    title: str
    finding: str
    """What the paper says it shows, or what is asked."""
    control: str
    """What stands beside it, and what it would look like by selection bias alone."""


@dataclass(frozen=True)
class PaperFigure(Question):
    """One item of the paper's evaluation."""

    needs: tuple[str, ...]
    """Kinds of material: see `results/paper/material.py`."""
    answer: Callable[[Material], Answer]


def figure_names() -> tuple[str, ...]:
    """All figures, by listing the folder."""
    return names_in(FIGURES)


def load_figure(name: str) -> PaperFigure:
    """The figure of a name. Raises InputError with the choices for another."""
    figure: PaperFigure = import_module(f"{FIGURES}.{check_choice('figure', name, figure_names())}").FIGURE
    return figure


def by_layer(share_NL: np.ndarray, n_letters: int) -> np.ndarray:
    """Each token's slope over depth, times the depth: the rise of its share from the first layer to the last (N,).

    Its mean over tokens is the least-squares rise of the mean share, so that intervals of a mean serve a trend.
    """
    centred_L = np.arange(n_letters) - (n_letters - 1) / 2
    return share_NL @ centred_L / (centred_L**2).sum() * (n_letters - 1)


def thirds(n_letters: int) -> tuple[int, int, int]:
    """The budgets of the paper's figures, 4, 6 and 8 of 12 layers, for any number of layers."""
    return round(n_letters / 3), round(n_letters / 2), n_letters - round(n_letters / 3)


def number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}"


def effects_table(effects: Sequence[Effect]) -> Table:
    """Every statement with its intervals and its verdict, and how large an effect beyond the control had to be to show here."""
    rows = []
    for one in effects:
        shows = number(one.beyond.detectable) if math.isfinite(one.beyond.detectable) else ""
        rows.append((one.what, one.unit, str(one.raw), str(one.beyond), shows, str(one.verdict)))
    headings = ("statement", "unit", "effect [95%]", "beyond its control [95%]", "would have shown from", "verdict")
    return Table("What is measured", headings, tuple(rows))
