"""The controls of a run as tables: each gain beside what selection bias, label-free lines and all-big's calibration say of it.

Numbers that follow from the run's own tables; those that need its model come from `search/rerun/controls.py` as more sections.

Axes: D documents, K budgets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from duo_oracle.oracle.base.shown import json_text
from duo_oracle.results.answers.curve import BudgetLine, budget_lines
from duo_oracle.results.answers.verdict import verdict
from duo_oracle.results.formats import aligned
from duo_oracle.results.statistics.calibration import Calibration
from duo_oracle.results.statistics.intervals import Estimate
from duo_oracle.results.statistics.selection_bias import SAME_NUMBER, LayerNoise, best_of_n_of_run, layers_of_run
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.words import Words

Cell = str | int | float | Estimate | None


@dataclass(frozen=True)
class Section:
    """A table: a name for programs, a title, and how to read it. A cell without a value is `-`."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def __str__(self) -> str:
        lines = [self.title]
        if self.rows:
            cells = [list(self.columns), *([_text(cell) for cell in row] for row in self.rows)]
            numeric = [all(not isinstance(row[c], str) for row in self.rows) for c in range(len(self.columns))]
            lines += [f"  {line}" for line in aligned(cells, numeric)]
        return "\n".join([*lines, *([f"  {self.note}"] if self.note else [])])

    def records(self) -> list[dict[str, Any]]:
        """The rows as JSON values; an estimate is its mean, interval, standard error and what it could have shown."""
        return [{column: _json(cell) for column, cell in zip(self.columns, row, strict=True)} for row in self.rows]


def as_json(sections: Sequence[Section]) -> str:
    """One object: a list of rows for each section."""
    return json_text({section.name: section.records() for section in sections}, indent=1) + "\n"


def sections_of_run(run: StoredRun, same_number: int = SAME_NUMBER) -> list[Section]:
    """Selection bias, label-free lines and layers of a run. Where an input is missing, one line says which.

    Raises InputError for a run without a finished unit.
    """
    lines = budget_lines(run)
    return [_gains(run, lines), _label_free(run, lines, same_number), _layers(run)]


def calibration_section(found: Calibration, words: Words) -> Section:
    """The full model's calibration, by plain passes of the whole text."""
    rows: list[tuple[Cell, ...]] = []
    for row in found.rows():
        mean, low, high = (row.get(key) for key in ("mean", "low", "high"))
        interval = "" if low is None or high is None or math.isnan(low) else f"[{low:.3f}, {high:.3f}]"
        rows.append((row["what"], "" if mean is None else f"{mean:.3f}", interval))
    confident = {1: "all-big is overconfident here: other patterns gain by that alone", -1: "all-big is underconfident here"}
    note = confident.get(found.overconfidence.sign, "no miscalibration of the mean is seen; it could have been as large as ")
    if not found.overconfidence.sign:
        note += f"{found.overconfidence.detectable:.3f} nats and still be missed one time in five"
    title = "calibration of all-big, which every token ran"
    return Section("calibration", words.of(title), ("", "value", "95%"), tuple(rows), words.of(note))


def _gains(run: StoredRun, lines: list[BudgetLine]) -> Section:
    title = f"selection bias: what the oracle gains on {run.words.the_full}, nats per token [95%]; context {run.context}"
    columns = ("budget", "oracle", "gain", "null gain", "excess", "could have shown", "where nothing is chosen", "difference")
    rows: list[tuple[Cell, ...]] = []
    for line in lines:
        shown = None if line.excess is None else line.excess.detectable
        rows.append((line.budget, line.oracle, line.gain, line.null_gain, line.excess, shown, line.control, line.beyond))
    reference = run.identity.get("null_temperature")
    note = "excess = gain - null gain, zero if all-big were the truth; could have shown: with 80% power"
    if reference is not None:
        note = f"labels drawn from all-big at temperature {reference}: the excess is against a calibrated all-big"
    return Section("gains", title, columns, tuple(rows), f"{run.words.of(note)}. {verdict(lines)}")


def _label_free(run: StoredRun, lines: list[BudgetLine], same_number: int) -> Section:
    title = "the same budgets without a label, and with fewer choices; nats per token [95%]"
    if "losses" not in run.tables:
        return Section("label_free", title, (), (), "needs every pattern's loss: search with `keep='losses'`")
    columns = (
        "budget",
        "patterns",
        "random",
        "mixture",
        "best fixed, other documents",
        f"best of {same_number}",
        "oracle: best of all",
    )
    rows: list[tuple[Cell, ...]] = []
    for line, biased in zip(lines, best_of_n_of_run(run, (same_number,)), strict=True):
        fixed = None if line.fixed is None else line.fixed.best
        rows.append((biased.budget, biased.n_patterns, biased.random, biased.mixture, fixed, biased.expected[0], biased.oracle))
    note = (
        f"best of {same_number}: the expected least of {same_number} patterns drawn without replacement, exactly, as many choices "
        "at every budget; it knows the label. random, mixture (-log of the mean probability) and best fixed do not"
    )
    return Section("label_free", title, columns, tuple(rows), note)


def _layers(run: StoredRun) -> Section:
    if run.table.of_experts:
        title = "layers: the effect and the use of each"
        return Section("layers", title, (), (), f"is of branches . s B; the run's are {run.table.spec}")
    pair, layers = layers_of_run(run)
    low, high = pair or ("k", "L - k")
    columns = ("layer", "mu", "sigma", f"share of B at {low}", f"at {high}", "sum")
    name = run.cheapest_name
    title = f"layers: effect of one big FFN against {name} (nats), and how often the oracle path has it big [95%]"
    if all(line.mu is None and line.total is None for line in layers):
        need = (
            f"needs the losses of {name} and of every single big layer (`keep='losses'`), or budgets k and L - k (`budget='4,8'`)"
        )
        return Section("layers", title, (), (), need)
    rows = tuple((line.layer, line.mu, line.sigma, line.low_share, line.high_share, line.total) for line in layers)
    return Section("layers", title, columns, rows, _layers_note(pair, layers))


def _layers_note(pair: tuple[str, str] | None, layers: list[LayerNoise]) -> str:
    if pair is None:
        return "the shares need two budgets k and L - k, such as `budget='4,8'`"
    off = [str(line.layer) for line in layers if line.total is not None and not line.total.low <= 1 <= line.total.high]
    said = f"off it here: layer {', '.join(off)}" if off else "no layer's interval leaves it"
    return f"where big FFNs change losses by independent noise, the shares at {pair[0]} and {pair[1]} add up to 1; {said}"


def _text(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def _json(cell: Cell) -> Any:
    if isinstance(cell, Estimate):
        return {name: _json(value) for name, value in vars(cell).items()}
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
