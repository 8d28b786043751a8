"""Figure 8 c: joint training of big and small FFNs against big first, then small."""

from __future__ import annotations

from functools import partial
from typing import Any

from duo_oracle.results.colours import FIXED
from duo_oracle.results.paper.figure import Answer, PaperFigure, Table
from duo_oracle.results.paper.figures.fig8ab import greatest_seed_gap
from duo_oracle.results.paper.marks import CONTROL, REAL
from duo_oracle.results.paper.material import Material
from duo_oracle.results.statistics.effects import effect, estimate

WAYS = {"own": "random routing, P = 0.5", "small": "all-small", "big": "all-big"}
_NAMES = {"duo-0.5": "joint", "duo-0.5-again": "joint, another seed", "big-then-small": "big, then small"}


def _answer(material: Material) -> Answer:
    study = material.study()
    joint, _, later = (study[name].losses for name in _NAMES)
    effects = []
    for way, words in WAYS.items():
        gap = [(1.0, later[way]), (-1.0, joint[way])]
        what = f"{words}: joint training is below big-then-small"
        effects.append(effect(what, "nats", gap, greatest_seed_gap(material, way)))
    rows = tuple((said, *(str(estimate((1, study[name].losses[way]))) for way in WAYS)) for name, said in _NAMES.items())
    return Answer(
        effects=(effects[0],),
        beside=tuple(effects[1:]),
        tables=(Table("Nats per token [95%], equal numbers of training tokens", ("training", *WAYS.values()), rows),),
        draw=partial(_draw, material),
        size=(6.0, 3.6),
        notes=(
            f"Trained here: {material.study_notes()}.",
            "Random routing decides. Big-then-small gives two thirds of the tokens to all-big and then freezes all but the "
            "small FFNs.",
        ),
    )


def _draw(material: Material, figure: Any) -> None:
    axes = figure.subplots()
    study = material.study()
    for place, ((name, said), colour) in enumerate(zip(_NAMES.items(), (REAL, CONTROL, FIXED), strict=True)):
        means = [estimate((1, study[name].losses[way])) for way in WAYS]
        at = [column + 0.25 * (place - 1) for column in range(len(WAYS))]
        errors = [[e.mean - e.low for e in means], [e.high - e.mean for e in means]]
        axes.bar(at, [e.mean for e in means], 0.24, yerr=errors, color=colour, alpha=0.75, label=said, error_kw={"linewidth": 0.8})
    axes.set_xticks(range(len(WAYS)), list(WAYS.values()))
    lowest = min(estimate((1, study[name].losses[way])).low for name in _NAMES for way in WAYS)
    axes.set(ylabel="nats per token, holdout:code", ylim=(max(0.0, lowest - 0.3), None))
    axes.legend(fontsize=8, frameon=False)


FIGURE = PaperFigure(
    title="Figure 8 c: joint training against big first, then small",
    finding="joint training is better",
    control="what a seed alone changes: the greatest difference between two models that differ in nothing else.",
    needs=("study",),
    answer=_answer,
)
