"""The answers of `results/answers/` and `results/statistics/` as plain rows, one dictionary each, for `--format`.

An estimate is three columns: NAME, NAME_low and NAME_high; an interval that there is none of is null. Knows no files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from duo_oracle.results.answers.average import average_lines
from duo_oracle.results.answers.controls import Section
from duo_oracle.results.answers.curve import as_record, budget_lines, check_comparable
from duo_oracle.results.answers.difficulty import hardest
from duo_oracle.results.answers.pareto import FixedPattern
from duo_oracle.results.answers.reached import records_of
from duo_oracle.results.answers.verify import Verification
from duo_oracle.results.statistics.intervals import Estimate
from duo_oracle.results.statistics.landscape import Landscape
from duo_oracle.results.store.reader import StoredRun

Row = dict[str, Any]


def flat(values: dict[str, Any]) -> Row:
    """The values with each estimate as three.

    >>> flat({"budget": "4", "gain": Estimate(0.5, 0.25, 0.75, 10, 3)})
    {'budget': '4', 'gain': 0.5, 'gain_low': 0.25, 'gain_high': 0.75}
    """
    row: Row = {}
    for name, value in values.items():
        if isinstance(value, Estimate):
            row |= {name: value.mean, f"{name}_low": _number(value.low), f"{name}_high": _number(value.high)}
        else:
            row[name] = _number(value)
    return row


def curve_rows(runs: Sequence[StoredRun], averages: Sequence[str] = ()) -> list[Row]:
    """A row for each budget of each run, then for each average budget. Raises InputError where models, data or spaces differ, and
    as `average_lines`."""
    check_comparable(runs)
    rows = []
    for run in runs:
        reached = records_of(run)
        rows += [
            {"run": run.name, "context": run.context, **as_record(line), **reached.get(line.budget, {})}
            for line in budget_lines(run)
        ]
        rows += [{"run": run.name, "context": run.context, **flat(vars(line))} for line in average_lines(run, averages)]
    return [{name: _number(value) for name, value in row.items()} for row in rows]


def hardest_rows(run: StoredRun, top: int, by: str, budget: str | None, before: int, after: int) -> list[Row]:
    """A row for each token of `hardest`; `value` is the measure `by`."""
    return [{"measure": by, **asdict(token)} for token in hardest(run, top, by, budget, before, after)]


def section_rows(sections: Sequence[Section]) -> list[Row]:
    """The rows of all sections, with the section's name first; a section that lacks its input has one, with its `note`."""
    rows: list[Row] = []
    for section in sections:
        if not section.rows:
            rows.append({"section": section.name, "note": section.note})
        for cells in section.rows:
            named = {column.strip() or "what": cell for column, cell in zip(_apart(section.columns), cells, strict=True)}
            rows.append({"section": section.name, **flat(named)})
    return rows


def landscape_rows(found: Landscape) -> list[Row]:
    """A row for each order of interaction, then one for each layer's effect, in nats."""
    orders = [flat({"part": "order", "number": n, "share_of_variance": share}) for n, share in enumerate(found.share_O, start=1)]
    layers = [
        flat(
            {
                "part": "layer",
                "number": e.layer,
                "branch": e.branch,
                "effect": e.mu,
                "spread": e.sigma,
                "share_better": e.share_better,
            }
        )
        for e in found.effects
    ]
    return orders + layers


def pattern_rows(patterns: Sequence[FixedPattern]) -> list[Row]:
    """A row for each evaluated pattern, those of the front marked."""
    return [asdict(pattern) for pattern in patterns]


def verification_rows(found: Verification) -> list[Row]:
    """A row for each kind of loss: how many were computed again, the greatest difference in nats, whether it passes."""
    return [
        {
            "loss": check.name,
            "stored": check.stored,
            "checked": check.checked,
            "greatest_difference": check.greatest,
            "where": check.where,
            "tolerance": found.tolerance,
            "passed": check.greatest <= found.tolerance,
        }
        for check in found.checks
    ]


def _apart(columns: Sequence[str]) -> list[str]:
    """Headings that are told apart by their place alone (`by chance` twice), each with what stands before it."""
    bare = [column.strip() for column in columns]
    return [name if bare.count(name) == 1 else f"{bare[at - 1]}, {name}" for at, name in enumerate(bare)]


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
