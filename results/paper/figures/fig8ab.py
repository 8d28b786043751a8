"""Figure 8 a, b: Duo-LLMs trained at several shares of big FFNs, beside dense models of equal FLOPs."""

from __future__ import annotations

from functools import partial
from typing import Any

from duo_oracle.results.colours import FIXED
from duo_oracle.results.paper.figure import Answer, PaperFigure, Table, number
from duo_oracle.results.paper.marks import REAL, band, legend_below
from duo_oracle.results.paper.material import Material, Trained
from duo_oracle.results.statistics.effects import Ratio, effect, estimate


def pairs(material: Material) -> list[tuple[Trained, Trained]]:
    """(Duo-LLM, dense) at every share of big FFNs, by share."""
    study = material.study().values()
    dense = {one.p_big: one for one in study if one.dense}
    duo = sorted((one for one in study if one.name == f"duo-{one.p_big:g}"), key=lambda one: one.p_big)
    return [(one, dense[one.p_big]) for one in duo]


def greatest_seed_gap(material: Material, way: str) -> list[tuple[float, Ratio]]:
    """The greatest difference between two models that differ in their seed alone, signed so that it is positive: a model of all
    big, one of all small, and the Duo-LLM of P = 0.5, each trained twice.
    """
    study = material.study()
    twice = [("duo-0", "dense-0"), ("duo-1", "dense-1"), ("duo-0.5-again", "duo-0.5")]
    gaps = []
    for one, other in twice:
        if one in study and other in study and all(way in study[name].losses for name in (one, other)):
            gap = [(1.0, study[one].losses[way]), (-1.0, study[other].losses[way])]
            mean = estimate(*gap).mean
            gaps.append((abs(mean), [(weight * (1 if mean >= 0 else -1), term) for weight, term in gap]))
    return max(gaps, key=lambda gap: gap[0])[1]


def _answer(material: Material) -> Answer:
    found = pairs(material)
    seed_gap = greatest_seed_gap(material, "own")
    effects, rows = [], []
    for duo, dense in found:
        gap = [(1.0, duo.losses["own"]), (-1.0, dense.losses["own"])]
        if 0 < duo.p_big < 1:
            what = f"P={duo.p_big:g}: the Duo-LLM is behind the dense model"
            effects.append(effect(what, "nats", gap, seed_gap))
        means = [estimate((1, each)) for each in (duo.losses["own"], dense.losses["own"], duo.losses["big"], duo.losses["small"])]
        rows.append((number(duo.p_big, 2), *map(str, means[:2]), str(estimate(*gap)), *map(str, means[2:])))
    headings = (
        "P(big)",
        "Duo-LLM, routed at P",
        "dense, equal FLOPs",
        "Duo-LLM minus dense",
        "Duo-LLM all-big",
        "Duo-LLM all-small",
    )
    return Answer(
        effects=(effects[0],),
        beside=tuple(effects[1:]),
        tables=(Table("Nats per token [95%]", headings, tuple(rows)),),
        draw=partial(_draw, material),
        size=(6.0, 4.2),
        notes=(
            f"Trained here: {material.study_notes()}.",
            "The least share of big FFNs between 0 and 1 decides; one training of each model.",
        ),
    )


def _draw(material: Material, figure: Any) -> None:
    axes = figure.subplots()
    found = pairs(material)
    at = [duo.p_big for duo, _ in found]
    band(axes, at, [estimate((1, duo.losses["own"])) for duo, _ in found], "Duo-LLM, random routing at P", REAL)
    band(axes, at, [estimate((1, dense.losses["own"])) for _, dense in found], "dense model of equal FLOPs", FIXED)
    axes.set(xlabel="P(big) in training and evaluation", ylabel="nats per token, holdout:code")
    legend_below(figure, axes)


FIGURE = PaperFigure(
    title="Figure 8 a, b: random routing against dense models of equal FLOPs",
    finding="near the dense model at P(big) = 1, behind it at small P",
    control="the greatest difference between two models that differ in their seed alone (at P = 0 and P = 1 a Duo-LLM is the "
    "dense model of another seed). Both models meet the same documents: the gap is paired, the bands are not.",
    needs=("study",),
    answer=_answer,
)
