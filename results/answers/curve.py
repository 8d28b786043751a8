"""Loss against the budget: the oracle beside all-big, all-small, the best fixed and the mean pattern, with intervals.

The table of Duo-LLM's Figure 4b, and what the figure lacks: the gain on labels drawn from all-big itself, the excess over it, the
same excess where nothing is chosen, and what that leaves to say.

Axes: D documents, M measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.answers.document_sums import sums_by_document
from duo_oracle.results.answers.verdict import verdict
from duo_oracle.results.colours import BIAS, CONTROL, EXCESS, FIXED, INK, ORACLE, PLAIN
from duo_oracle.results.statistics.baselines import FixedPatterns, fixed_patterns_of_run
from duo_oracle.results.statistics.intervals import Estimate, bootstrap_sums, perplexity_text
from duo_oracle.results.store.reader import StoredRun

if TYPE_CHECKING:
    from duo_oracle.results.drawing import Picture

_CONTROL = "loss_full - loss_cheapest - (null_gain - null_difficulty)"
_MEASURES = {
    "oracle": "loss",
    "all_small": "loss_cheapest",
    "all_big": "loss_full",
    "gain": "loss_full - loss",
    "certified": "certified::INT",
    "leaves": "leaves",
    "n_big": "cost",
    "null_gain": "null_gain",
    "excess": "excess",
    "control": _CONTROL,
    "beyond": f"excess - ({_CONTROL})",
}
_HEADINGS = (
    "k",
    "oracle",
    "best fixed",
    "mean pattern",
    None,
    "gain",
    "null gain",
    "excess",
    "where nothing is chosen",
    "difference",
    "oracle ppl",
    "best fixed ppl",
)
"""None: what the run calls its full model."""


@dataclass(frozen=True)
class BudgetLine:
    """One budget's means over tokens, losses in nats. Null gain and excess are None where no labels were drawn."""

    budget: str
    oracle: Estimate
    all_small: Estimate  # all-skip in a model without small FFNs: `Run.cheapest`
    all_big: Estimate
    gain: Estimate
    certified: Estimate
    leaves: Estimate
    n_big: Estimate  # the cost: big layers, or active experts
    null_gain: Estimate | None
    excess: Estimate | None
    control: Estimate | None
    """The excess where nothing is chosen, of the cheapest pattern: what all-big's miscalibration alone shows."""
    beyond: Estimate | None
    """The excess minus the control, paired."""
    fixed: FixedPatterns | None
    """The label-free lines, None where the run kept no losses."""


def budget_lines(run: StoredRun) -> list[BudgetLine]:
    """A line for each of the run's budgets, in their order. Memory grows with documents, not with tokens.

    Raises InputError for a run without a finished unit.
    """
    if not run.n_tokens:
        raise InputError(f"{run.place} has no finished unit yet")
    rows = sums_by_document(run, _MEASURES.values())
    fixed = fixed_patterns_of_run(run) if "losses" in run.tables else {}
    return [_line(budget, rows[budget], fixed.get(budget)) for budget in run.budgets]


def as_record(line: BudgetLine) -> dict[str, Any]:
    """The line's figures by name, an estimate as `NAME`, `NAME_low` and `NAME_high`; None where the run lacks what it needs."""
    fixed = line.fixed
    estimates = {
        "oracle": line.oracle,
        "loss_cheapest": line.all_small,
        "loss_full": line.all_big,
        "best_fixed": fixed.best if fixed else None,
        "mean_random": fixed.mean if fixed else None,
        "gain": line.gain,
        "null_gain": line.null_gain,
        "excess": line.excess,
        "control": line.control,
        "excess_beyond": line.beyond,
        "n_big": line.n_big,
        "certified": line.certified,
    }
    record: dict[str, Any] = {"budget": line.budget}
    for name, estimate in estimates.items():
        found = (None,) * 3 if estimate is None else (estimate.mean, estimate.low, estimate.high)
        record |= dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))
    return record | {"tokens": line.oracle.n_tokens, "documents": line.oracle.n_documents}


def markdown(runs: Sequence[StoredRun], spell: Callable[[str], str] = str) -> str:
    """The budget curve of runs on the same model and data as Markdown: a table per context, a row per budget.

    `spell` turns parameters that the verdict names into what they are called where it is read. Raises InputError where models or
    data differ, since their rows cannot be compared.
    """
    check_comparable(runs)
    tables = []
    for context in dict.fromkeys(run.context for run in runs):
        lines = [line for run in runs if run.context == context for line in budget_lines(run)]
        tables.append(_table(context, lines, runs[0]) + f"\n{spell(verdict(lines).text)}\n")
    return "\n".join(tables)


def check_comparable(runs: Sequence[StoredRun]) -> None:
    """Raises InputError where runs differ in model, data or space."""
    for key in ("model_fingerprint", "data_fingerprint", "skip", "branches", "gate", "n_letters", "route_layers"):
        values = {run.route_layers or "all" if key == "route_layers" else run.identity.get(key) for run in runs}
        if len(values) > 1:
            raise InputError(f"runs in one table have the same {key}; these have {', '.join(map(str, sorted(values, key=str)))}")


def _line(budget: str, rows: Sequence[Sequence[float]], fixed: FixedPatterns | None) -> BudgetLine:
    values_DM = np.array(rows, dtype=np.float64)
    sums_DM, counts_DM = values_DM[:, 0::2], values_DM[:, 1::2]
    known = counts_DM.sum(axis=0) > 0
    answers = iter(bootstrap_sums(sums_DM[:, known], counts_DM[:, known]))
    estimates = {name: next(answers) if there else None for name, there in zip(_MEASURES, known, strict=True)}
    return BudgetLine(budget=budget, fixed=fixed, **estimates)  # type: ignore[arg-type]  # only the last may be None


def _table(context: str, lines: list[BudgetLine], run: StoredRun) -> str:
    first = lines[0].oracle
    measured = f"{first.n_tokens:,} tokens of {first.n_documents} document{'s' * (first.n_documents != 1)}"
    if run.table.of_experts:
        measured += f"; k {run.table.unit} in {_layers_of(run)}, over {run.table.spec}"
    elif run.route_layers is not None:
        measured += f"; k of layers {run.route_layers} big, the others always"
    rows = [
        f"Context `{context}`: {measured}; nats per token, 95% intervals from resampling documents.\n",
        f"| {' | '.join(heading or run.full_name for heading in _HEADINGS)} |",
        "|" + "---:|" * len(_HEADINGS),
    ]
    for line in lines:
        best, mean = (line.fixed.best, line.fixed.mean) if line.fixed else (None, None)
        cells = [line.oracle, best, mean, line.all_big, line.gain, line.null_gain, line.excess, line.control, line.beyond]
        perplexities = [perplexity(line.oracle), perplexity(best)]
        rows.append(f"| {line.budget} | {' | '.join([*('' if c is None else str(c) for c in cells), *perplexities])} |")
    return "\n".join(rows) + "\n"


def _layers_of(run: StoredRun) -> str:
    return f"{run.n_letters} layers" if run.route_layers is None else f"layers {run.route_layers}"


def perplexity(estimate: Estimate | None) -> str:
    """exp of a mean loss, as text; empty for None."""
    return "" if estimate is None else perplexity_text(estimate.mean)


def draw_curve(runs: Sequence[StoredRun]) -> Picture:
    """The curves of the runs, two panels per context: above the losses, below what is paired with all-big, with intervals.

    Raises InputError as `markdown`, and where no run has two budgets that are exact numbers of B's.
    """
    from matplotlib.ticker import MaxNLocator

    from duo_oracle.results.drawing import picture

    check_comparable(runs)
    panels = {}
    for context in dict.fromkeys(run.context for run in runs):
        lines = [line for run in runs if run.context == context for line in budget_lines(run) if line.budget.isdecimal()]
        if len(lines) > 1:
            panels[context] = sorted(lines, key=lambda line: int(line.budget))
    if not panels:
        raise InputError("a curve is drawn over at least two exact budgets; search with `budget='0-12'`, say")
    with picture((5.2 * len(panels), 6.8), {"svg.fonttype": "none", "font.size": 8}) as figure:
        axes_of = figure.subplots(2, len(panels), squeeze=False, sharey="row", sharex="col")
        of = "" if runs[0].route_layers is None else f", of layers {runs[0].route_layers}"
        for column, (context, lines) in enumerate(panels.items()):
            first, (above, below) = lines[0].oracle, axes_of[:, column]
            _losses(above, lines, runs[0].full_name)
            _differences(below, lines)
            below.xaxis.set_major_locator(MaxNLocator(integer=True))
            above.set_title(f"context {context}: {first.n_tokens:,} tokens of {first.n_documents} documents", fontsize=9)
            said = fill(verdict(lines).text, 78)  # no excess without its control and the sentence
            below.set_xlabel(f"{runs[0].table.unit} per token{of}\n\n{said}")
        axes_of[0][0].set_ylabel("loss, nats per token")
        axes_of[1][0].set_ylabel(f"paired with {runs[0].words.the_full}, nats per token\n(95% intervals over documents)")
        for axes in axes_of[:, -1]:
            axes.legend(fontsize=7, frameon=False)
        figure.suptitle("Loss against the budget, and the oracle's gain beside selection bias", fontsize=10)
        figure.draw_without_rendering()  # the layout is settled once, or every saving would move it a little
        figure.set_layout_engine("none")
    return figure


def _losses(axes: Any, lines: Sequence[BudgetLine], full: str) -> None:
    """The mean losses. Their intervals are of documents, which all lines share, and are not drawn: differences below are paired."""
    curves: list[tuple[str, Sequence[Estimate | None], str, str]] = [
        ("mean pattern", [line.fixed.mean if line.fixed else None for line in lines], PLAIN, "-"),
        ("best fixed, chosen on other documents", [line.fixed.best if line.fixed else None for line in lines], FIXED, "-"),
        ("oracle", [line.oracle for line in lines], ORACLE, "-"),
        (full, [line.all_big for line in lines], INK, ":"),
    ]
    for label, estimates, colour, style in curves:
        _curve(axes, lines, [None if e is None else e.mean for e in estimates], colour, style, label)
    alone = [None if line.null_gain is None else line.all_big.mean - line.null_gain.mean for line in lines]
    _curve(axes, lines, alone, BIAS, "--", "what selection bias alone would show")
    axes.grid(alpha=0.3, linewidth=0.5)


def _differences(axes: Any, lines: Sequence[BudgetLine]) -> None:
    """The gain over all-big, what of it is selection bias, the excess, and the excess where nothing is chosen, each paired."""
    curves: list[tuple[str, Sequence[Estimate | None], str]] = [
        ("gain", [line.gain for line in lines], ORACLE),
        ("null gain: selection bias", [line.null_gain for line in lines], BIAS),
        ("excess", [line.excess for line in lines], EXCESS),
        ("excess where nothing is chosen", [line.control for line in lines], CONTROL),
    ]
    axes.axhline(0, color=INK, linewidth=0.8)
    for label, estimates, colour in curves:
        _curve(axes, lines, [None if e is None else e.mean for e in estimates], colour, "-", label)
        for line, estimate in zip(lines, estimates, strict=True):
            if estimate is not None and estimate.low == estimate.low:
                axes.plot([int(line.budget)] * 2, [estimate.low, estimate.high], color=colour, linewidth=0.9)
    axes.grid(alpha=0.3, linewidth=0.5)


def _curve(axes: Any, lines: Sequence[BudgetLine], heights: Sequence[float | None], colour: str, style: str, label: str) -> None:
    """A mark at every budget that was searched, and lines between neighbours alone: nothing is drawn where nothing was searched."""
    at: list[float] = []
    drawn: list[float] = []
    for line, height in zip(lines, heights, strict=True):
        if height is None:
            continue
        if at and int(line.budget) > at[-1] + 1:
            at.append(np.nan)
            drawn.append(np.nan)
        at.append(int(line.budget))
        drawn.append(height)
    if at:
        axes.plot(at, drawn, style, color=colour, label=label, marker="o", markersize=3, linewidth=1.2)
