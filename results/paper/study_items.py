"""What the study of a pretrained model found: its items for the page, each with its control, tables, picture and verdict.

Reads runs and tables that lie on disk (made by `search/studies/pretrained.py`); knows no model.

Axes: N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from duo_oracle.oracle.base.json_text import read_json
from duo_oracle.oracle.base.threads import ready_arrow
from duo_oracle.results.answers.curve import BudgetLine, budget_lines, perplexity
from duo_oracle.results.colours import FIXED, PLAIN, ROUTER
from duo_oracle.results.paper.figure import Answer, Question, Table, number
from duo_oracle.results.paper.marks import CONTROL, REAL, band, legend_below
from duo_oracle.results.paper.page import Item
from duo_oracle.results.paper.reached_item import reached_item
from duo_oracle.results.paper.study import Setting, Study
from duo_oracle.results.statistics.effects import Effect, Ratio, effect, estimate, ratio
from duo_oracle.results.store.positions import Positions, read_positions
from duo_oracle.results.store.reader import StoredRun


def items_of(study: Study) -> list[Item]:
    """The items of the page, in order: the exact searches, the beam search, the routers."""
    found = [_exact_item(study, setting) for setting in study.settings]
    found += [reached_item(study, setting) for setting in study.reached]
    found.append(_beam_item(study))
    if study.routers:
        found.append(_routers_item(study))
    return found


def _exact_item(study: Study, setting: Setting) -> Item:
    what = "skip whole layers" if setting.skips else "take the small FFN"
    runs = {text: study.run(text, setting.name) for text in study.texts}
    positions = {text: read_positions(run) for text, run in runs.items()}
    lines = {text: budget_lines(run) for text, run in runs.items()}
    effects = tuple(_gain(text, positions[text], "any") for text in study.texts)
    beside = tuple(
        _gain(text, positions[text], k)
        for text in study.texts
        for k in positions[text].budgets
        if k.isdecimal() and 0 < int(k) < positions[text].n_letters
    )
    tables = [_budget_table(text, runs[text], lines[text]) for text in study.texts]
    tables.append(_speed_table(runs, lines))
    if setting.context == "big" and setting.skips:
        tables.append(_calibration_table(runs))
    question = Question(
        title=f"{'Skip' if setting.skips else 'Small'}, context {setting.context}: layers {study.layers} may {what}",
        finding=f"does the best of all patterns gain more over all-big than selection bias, where layers {study.layers} may {what}",
        control="the null gain: what the same search gains on labels drawn from all-big at the same positions. An excess above "
        "zero says that all-big is not the truth on this text, not yet that compute was better spent.",
    )
    answer = Answer(
        effects=effects,
        tables=tuple(tables),
        draw=lambda figure: _draw_curves(figure, positions),
        size=(9.0, 3.6),
        beside=beside,
        notes=(f"Every path is certified: {_certified(lines)}. Losses are nats per token, intervals resample documents.",),
    )
    return Item(setting.name, question, answer)


def _gain(text: str, positions: Positions, budget: str) -> Effect:
    column = positions.column(budget)
    gain_N = positions.big_N - positions.loss_NK[:, column]
    null_N = positions.null_gain_NK[:, column]
    label = "of any budget" if budget == "any" else f"of {budget} big layers"
    return effect(
        f"{text}: the oracle {label} is below all-big",
        "nats",
        [(1, ratio(positions.document_N, gain_N))],
        [(1, ratio(positions.document_N, null_N))],
    )


def _certified(lines: dict[str, list[BudgetLine]]) -> str:
    share = min(line.certified.mean for of_text in lines.values() for line in of_text)
    return f"{share:.1%} of them"


def _budget_table(text: str, run: StoredRun, lines: Sequence[BudgetLine]) -> Table:
    rows = []
    for line in lines:
        rows.append(
            (
                line.budget,
                str(line.oracle),
                perplexity(line.oracle),
                str(line.gain),
                "" if line.null_gain is None else str(line.null_gain),
                "" if line.excess is None else str(line.excess),
                number(line.n_big.mean, 2),
            )
        )
    first = lines[0]
    title = (
        f"{text}: {first.oracle.n_tokens:,} tokens of {first.oracle.n_documents} documents, context {run.context}; all-big "
        f"{first.all_big} (perplexity {perplexity(first.all_big)}), {run.cheapest_name} {first.all_small}"
    )
    headings = ("budget", "oracle [95%]", "perplexity", "gain over all-big", "null gain", "excess", "big layers used")
    return Table(title, headings, tuple(rows))


def _speed_table(runs: dict[str, StoredRun], lines: dict[str, list[BudgetLine]]) -> Table:
    rows = []
    for text, run in runs.items():
        speed = read_json(run.path / "speed.json")
        rows.append(
            (
                text,
                f"{speed['patterns']:,}",
                number(lines[text][0].leaves.mean, 1),
                f"{1 / speed['ours']:.2f}",
                f"{1 / speed['naive']:.4f}",
                f"{speed['naive'] / speed['ours']:.0f}x",
            )
        )
    headings = ("text", "patterns a token", "leaves evaluated a token", "tokens/s, one thread", "naive way, tokens/s", "faster")
    return Table("Cost: our time holds the drawn labels too, the naive way's does not", headings, tuple(rows))


def _calibration_table(runs: dict[str, StoredRun]) -> Table:
    rows = []
    for text, run in runs.items():
        found = read_json(run.path / "calibration.json")
        errors = number(found["error"]), number(found["error_by_chance"])
        rows.append((text, found["loss"], found["entropy"], found["overconfidence"], *errors, number(found["temperature"], 2)))
    headings = (
        "text",
        "all-big's loss",
        "its entropy",
        "loss - entropy",
        "calibration error",
        "by chance",
        "temperature that fits",
    )
    return Table("All-big's calibration on these texts, the whole sequence all-big", headings, tuple(rows))


def _draw_curves(figure: Any, positions: dict[str, Positions]) -> None:
    axes = figure.subplots(1, len(positions), squeeze=False)[0]
    for panel, (text, found) in zip(axes, positions.items(), strict=True):
        exact = [k for k in found.budgets if k.isdecimal()] or list(found.budgets)
        columns = [found.column(k) for k in exact]
        at = [int(k) if k.isdecimal() else 0 for k in exact]
        oracle = [estimate((1, ratio(found.document_N, found.loss_NK[:, column]))) for column in columns]
        biased = [estimate((1, ratio(found.document_N, found.big_N - found.null_gain_NK[:, column]))) for column in columns]
        band(panel, at, biased, "all-big minus null gain: what selection bias alone would show", CONTROL, "--")
        band(panel, at, oracle, "oracle", REAL)
        panel.axhline(float(found.big_N.mean()), color="black", linewidth=0.8, linestyle=":", label="all-big")
        top = float(found.big_N.mean())
        low = min(e.low for e in (*oracle, *biased))
        panel.set_ylim(low - 0.1, top + 2 * (top - low))  # few big layers may cost ten nats; the interest is below all-big
        panel.set(title=text, xlabel="big layers of the routed" if len(exact) > 1 else "any budget", ylabel="nats per token")
        if len(exact) == 1:
            panel.set_xticks([])
    legend_below(figure, axes[0], 3)


def _beam_item(study: Study) -> Item:
    runs = {text: study.run(text, "beam") for text in study.texts}
    positions = {text: read_positions(run) for text, run in runs.items()}
    budget = str(study.beam_big)
    n_skipped = study.depth - study.beam_big
    effects = tuple(_gain(text, positions[text], budget) for text in study.texts)
    tables = [_budget_table(text, runs[text], budget_lines(runs[text])) for text in study.texts]
    rows = tuple(
        (str(layer), *(number(float(1 - found.takes_big(budget)[:, layer].mean()), 2) for found in positions.values()))
        for layer in range(study.depth)
    )
    tables.append(Table("Share of tokens that skip each layer", ("layer", *study.texts), rows))
    question = Question(
        title=f"Beam search over all {study.depth} layers, {n_skipped} skipped",
        finding=f"does a search over all layers find {n_skipped} of them to skip that gain more over all-big than selection bias",
        control="the null gain: the same beam search on a label drawn from all-big at each position. A beam is not exact: "
        "what it finds bounds the oracle's loss from above.",
    )
    answer = Answer(
        effects=effects,
        tables=tuple(tables),
        draw=lambda figure: _draw_layers(figure, positions, budget),
        size=(9.0, 3.2),
        notes=("Beam of width 2 from all-big down. The first position of a text sees no context, and its text is short here.",),
    )
    return Item("beam", question, answer)


def _draw_layers(figure: Any, positions: dict[str, Positions], budget: str) -> None:
    axes = figure.subplots(1, 1)
    for colour, (text, found) in zip((REAL, FIXED, PLAIN, CONTROL), positions.items(), strict=False):
        skipped_NL = ~found.takes_big(budget)
        line = [estimate((1, ratio(found.document_N, skipped_NL[:, layer]))) for layer in range(found.n_letters)]
        band(axes, list(range(found.n_letters)), line, text, colour)
    axes.axhline(
        1 - int(budget) / next(iter(positions.values())).n_letters, color="black", linewidth=0.6, linestyle=":", label="even"
    )
    axes.set(xlabel="layer", ylabel="share of tokens that skip it", ylim=(0, 1))
    legend_below(figure, axes)


def _routers_item(study: Study) -> Item:
    effects: list[Effect] = []
    tables = []
    for text in study.texts:
        tokens = _compared(study, text).to_pandas()
        rows = []
        for name, of_router in tokens.groupby("router", sort=False):
            document_N = of_router["document"].to_numpy()

            def mean(what: str, of_router: Any = of_router, document_N: np.ndarray = document_N) -> Ratio:
                return ratio(document_N, of_router[what].to_numpy(np.float64))

            budget = float(of_router["n_big"].mean())
            effects.append(
                effect(f"{text}, {name}: below random routing of its budget", "nats", [(1, mean("random")), (-1, mean("loss"))], [])
            )
            means = [estimate((1, mean(w))) for w in ("loss", "random", "best_fixed", "oracle", "oracle_average")]
            gap = estimate((1, mean("best_fixed")), (-1, mean("loss")))
            patterns = str(of_router["pattern"].nunique())
            rows.append((str(name), number(budget, 2), *map(str, means), str(gap), patterns))
        headings = (
            "router",
            "big layers",
            "loss [95%]",
            "random routing",
            "best fixed of other documents",
            "oracle of its budget",
            "oracle of its average",
            "fixed - router",
            "patterns used",
        )
        big = estimate((1, ratio(document_N, of_router["loss_full"].to_numpy(np.float64))))
        tables.append(Table(f"{text}: {len(document_N):,} tokens, context full, all-big {big}", headings, tuple(rows)))
    question = Question(
        title=f"Trained routers over layers {study.layers}",
        finding="does a router that was trained for minutes choose better than random routing with as many big layers",
        control="random routing of the same average budget, which knows as little of the label; the oracle knows it, and how much "
        "of its gain is selection bias stands above. Fixed and random patterns are a sample.",
    )
    return Item(
        "routers",
        question,
        Answer(tuple(effects), tuple(tables), lambda figure: _draw_routers(figure, study), (9.0, 3.4)),
    )


def _draw_routers(figure: Any, study: Study) -> None:
    axes = figure.subplots(1, len(study.texts), squeeze=False)[0]
    marks = (("random", PLAIN), ("best_fixed", FIXED), ("loss", ROUTER), ("oracle", REAL))
    for panel, text in zip(axes, study.texts, strict=True):
        tokens = _compared(study, text).to_pandas()
        groups = list(tokens.groupby("router", sort=False))
        for what, colour in marks:
            line = [estimate((1, ratio(g["document"].to_numpy(), g[what].to_numpy(np.float64)))) for _, g in groups]
            label = {"loss": "router", "best_fixed": "best fixed", "random": "random routing"}.get(what, what)
            at = np.arange(len(groups)) + 0.08 * ([w for w, _ in marks].index(what) - 1.5)
            errors = [[e.mean - e.low for e in line], [e.high - e.mean for e in line]]
            panel.errorbar(at, [e.mean for e in line], yerr=errors, fmt="o", color=colour, label=label, capsize=2)
        panel.axhline(float(tokens["loss_full"].mean()), color="black", linewidth=0.8, linestyle=":", label="all-big")
        panel.set(title=text, ylabel="nats per token", xlim=(-0.5, len(groups) - 0.5))
        panel.set_xticks(range(len(groups)), [str(name) for name, _ in groups])
    legend_below(figure, axes[0], 5)


def _compared(study: Study, text: str) -> pa.Table:
    ready_arrow()
    return pq.read_table(study.directory / "compare" / f"{text}.parquet")
