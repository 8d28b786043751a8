"""The item of a study on what can be reached: a choice that never saw the label, by the same model with more of the document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from duo_oracle.results.answers.curve import BudgetLine, budget_lines
from duo_oracle.results.answers.reached import Reached, reached_of_run
from duo_oracle.results.colours import FIXED
from duo_oracle.results.paper.figure import Answer, Question, Table
from duo_oracle.results.paper.marks import CONTROL, REAL, band, legend_below
from duo_oracle.results.paper.page import Item
from duo_oracle.results.paper.study import Setting, Study
from duo_oracle.results.statistics.effects import Effect, effect, ratio
from duo_oracle.results.store.positions import read_paths, read_positions, read_tokens
from duo_oracle.results.store.reader import StoredRun


def reached_item(study: Study, setting: Setting) -> Item:
    """What a choice that never saw the label gains: by the same model with more of the document before the position."""
    what = "skip whole layers" if setting.skips else "take the small FFN"
    runs = {text: study.run(text, setting.name) for text in study.texts}
    lines = {text: reached_of_run(run) for text, run in runs.items()}
    excesses = {text: {line.budget: line for line in budget_lines(run)} for text, run in runs.items()}
    effects = tuple(_realised(text, runs[text], "any") for text in study.texts)
    n_letters = next(iter(runs.values())).n_letters
    beside = tuple(_realised(text, runs[text], str(k)) for text in study.texts for k in range(1, n_letters))
    tables = [_reached_table(text, runs[text], lines[text], excesses[text]) for text in study.texts]
    question = Question(
        title=f"What can be reached: layers {study.layers} may {what}",
        finding="does the pattern of the least loss that the same model, full, expects with more of the document, lose "
        "less than all-big on the real label",
        control="none is needed: the choice never saw the label. It is all that a router would win that knows as much.",
    )
    notes = tuple(_free(text, lines[text], n_letters, setting) for text in study.texts)
    return Item(
        setting.name,
        question,
        Answer(
            effects=effects,
            tables=tuple(tables),
            draw=lambda figure: _draw_reached(figure, lines),
            size=(9.0, 3.6),
            beside=beside,
            notes=notes,
        ),
    )


def _realised(text: str, run: StoredRun, budget: str) -> Effect:
    positions = read_positions(run)
    rows = read_paths(run, read_tokens(run), (budget,), ("ref_loss",))[str(run.budget(budget))]
    label = "at any budget" if budget == "any" else f"with {budget} big layers"
    return effect(
        f"{text}: the reference's choice {label} is below all-big",
        "nats",
        [(1, ratio(positions.document_N, positions.big_N - rows["ref_loss"].to_numpy()))],
        [],
    )


def _reached_table(text: str, run: StoredRun, lines: Sequence[Reached], beside: dict[str, BudgetLine]) -> Table:
    rows = []
    for line in lines:
        of_budget = beside[line.budget]
        biased = ("" if value is None else str(value) for value in (of_budget.null_gain, of_budget.excess))
        rows.append((line.budget, str(line.hindsight), *biased, str(line.expected), str(line.realised)))
    first = lines[0]
    title = (
        f"{text}: {first.realised.n_tokens:,} tokens of {first.realised.n_documents} documents, context {run.context}, "
        f"{run.identity['min_context']} to {run.identity['seq_len'] - 1} tokens before a position; all-big loses "
        f"{first.loss_full}, the reference, which sees {run.identity['offset'] + run.identity['min_context']} tokens or more, "
        f"{first.loss_reference}"
    )
    headings = ("budget", "hindsight gain", "null gain", "excess", "expected by the reference", "realised [95%]")
    return Table(title, headings, tuple(rows))


def _free(text: str, lines: Sequence[Reached], n_letters: int, setting: Setting) -> str:
    """How few big layers cost nothing that is measured, where one knows."""
    free = [int(line.budget) for line in lines if line.budget.isdecimal() and line.realised.high >= 0]
    what = "skipped" if setting.skips else "given the small FFN"
    n_free = n_letters - min(free)
    line = next(line for line in lines if line.budget == str(min(free)))
    return (
        f"{text}: chosen by the reference, {n_free} of {n_letters} layers are {what} per token without a loss that is measured: "
        f"gain {line.realised} nats."
    )


def _draw_reached(figure: Any, lines: dict[str, list[Reached]]) -> None:
    axes = figure.subplots(1, len(lines), squeeze=False)[0]
    for panel, (text, found) in zip(axes, lines.items(), strict=True):
        exact = [line for line in found if line.budget.isdecimal()]
        at = [int(line.budget) for line in exact]
        band(panel, at, [line.hindsight for line in exact], "hindsight: sees the label", CONTROL, "--")
        band(panel, at, [line.expected for line in exact], "expected by the reference", FIXED, ":")
        band(panel, at, [line.realised for line in exact], "realised on the real label", REAL)
        panel.axhline(0, color="black", linewidth=0.8, linestyle=":", label="all-big")
        top = max(line.hindsight.high for line in exact)
        panel.set_ylim(-2 * top, 1.2 * top)  # few big layers may cost ten nats; the interest is near all-big
        panel.set(title=text, xlabel="big layers of the routed", ylabel="gain over all-big, nats per token")
    legend_below(figure, axes[0], 4)
