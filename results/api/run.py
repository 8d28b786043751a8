"""A run, opened: its tables, and every question about it that needs no model, as pandas, figures and pages.

Needs neither torch nor Ray. Figures and HTML are drawn by `results/answers/` and `results/report/`; here they get their names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from duo_oracle.oracle.base.shown import Html, Text, card
from duo_oracle.results.store import reader

if TYPE_CHECKING:
    import pandas as pd

    from duo_oracle.results.drawing import Picture


class Run(reader.StoredRun):
    """One run directory. `tokens()`, `paths()`, `losses()`, `trials()` give pandas; `dataset(table)` reads lazily.

    In a notebook a run, its summary, its figures and its coloured texts show themselves.
    """

    def summary(self) -> Text:
        """What `duo-oracle search` prints at its end. Raises InputError for a run without a finished unit."""
        from duo_oracle.results.answers.summary import summarise

        return Text(summarise(self))

    def query(self, sql: str, routes: Sequence[str] = ()) -> pd.DataFrame:
        """The answer to one SELECT, or to a named question, about this run. See `duo_oracle.query`."""
        return query(self, sql, routes)

    sql = query

    def curve(self) -> pd.DataFrame:
        """One row per budget: mean losses, gains and what selection bias explains of them, in nats, each with its 95% interval.

        Columns `NAME`, `NAME_low` and `NAME_high`; null where the run lacks what it needs (see `summary`).
        """
        import pandas as pd

        from duo_oracle.results.answers.curve import as_record, budget_lines
        from duo_oracle.results.answers.reached import records_of

        reached = records_of(self)
        return pd.DataFrame([as_record(line) | reached.get(line.budget, {}) for line in budget_lines(self)])

    def difficulty(
        self, top: int = 20, by: str = "difficulty", budget: str | None = None, before: int = 12, after: int = 6
    ) -> pd.DataFrame:
        """The `top` tokens of greatest measure `by`, each with its text before and after it; `value` is the measure.

        Raises InputError for a measure or budget that the run does not have.
        """
        import pandas as pd

        from duo_oracle.results.answers.difficulty import hardest

        return pd.DataFrame([asdict(token) for token in hardest(self, top, by, budget, before, after)])

    def tokens_html(
        self, sequence: int = 0, by: str = "difficulty", budget: str | None = None, start: int = 0, length: int | None = None
    ) -> Html:
        """A sequence's text, each token coloured by the measure `by` of the loss that it was predicted with.

        Raises InputError for a sequence, measure or budget that the run does not have.
        """
        from duo_oracle.results.answers.picture import as_html

        return Html(f"{self.name}, sequence {sequence}", as_html(self, sequence, budget, by, start, length))

    def plot_curve(self) -> Picture:
        """Loss against exact budgets: the oracle, fixed patterns and what selection bias alone would show, as a matplotlib Figure.

        Raises InputError where fewer than two exact budgets were searched.
        """
        from duo_oracle.results.answers.curve import draw_curve

        return draw_curve([self])

    def plot_difficulty(
        self, sequence: int = 0, by: str = "difficulty", budget: str | None = None, start: int = 0, length: int | None = None
    ) -> Picture:
        """The text of `tokens_html` as a matplotlib Figure."""
        from duo_oracle.results.answers.picture import draw_text

        return draw_text(self, sequence, budget, by, start, length)

    def plot_pareto(self) -> Picture:
        """Every fixed pattern that was evaluated at all tokens, by cost and loss, and their front, as a matplotlib Figure.

        Raises InputError where no pattern was.
        """
        from duo_oracle.results.answers.pareto import draw_front, fixed_patterns

        return draw_front(fixed_patterns(self), f"{self.name}, {self.n_tokens:,} tokens, context {self.context}", self.table.unit)

    def effects(self) -> pd.DataFrame:
        """One row per scored position and changed letter, of every base that `duo-oracle effects` has measured.

        Raises InputError where it has measured none.
        """
        return query(self, "SELECT * EXCLUDE (run) FROM effects ORDER BY ALL")

    def joint(self) -> pd.DataFrame:
        """One row per scored position, of every budget and width that `duo-oracle joint` has solved.

        Raises InputError where it has solved none.
        """
        return query(self, "SELECT * EXCLUDE (run) FROM joint ORDER BY ALL")

    def report(
        self,
        file: str | os.PathLike[str],
        routes: Mapping[str, str] | Sequence[str] = (),
        strategies: Sequence[str] = (),
        title: str | None = None,
        ladders: Sequence[str] = (),
    ) -> Path:
        """Writes the run as one self-contained HTML page, as `duo-oracle report` does, and returns its path."""
        from duo_oracle.results.report import write_report

        write_report([self], file, routes, strategies, title, ladders)
        return Path(file)

    def __repr__(self) -> str:
        facts = self.manifest.facts
        what = f"{facts.get('model', 'a model')} on {facts.get('data', 'data')}, context {self.context}"
        state = "" if self.manifest.state == "complete" else f", {self.manifest.state}"
        return f"<Run {str(self.path)!r}: {what}, budget {','.join(self.budgets)}, {self.n_tokens:,} tokens{state}>"

    def _repr_html_(self) -> str:
        from duo_oracle.results.answers.curve import budget_lines
        from duo_oracle.results.answers.summary import budget_rows, heading
        from duo_oracle.results.answers.verdict import verdict

        if not self.n_tokens:
            return card(f"run {self.place}", [("state", "no finished unit yet")])
        lines = budget_lines(self)
        searched, how = heading(self, lines)
        return card(
            f"run {self.place}", [("searched", searched), ("how", how), ("verdict", str(verdict(lines)))], budget_rows(self, lines)
        )


def load(path: str | os.PathLike[str]) -> Run:
    """The run in directory `path`. Raises InputError where there is none, or one of a later version of the tables."""
    stored = reader.load(path)
    return Run(stored.path, stored.manifest, stored.remote)


def query(
    runs: reader.StoredRun | str | os.PathLike[str] | Sequence[reader.StoredRun | str | os.PathLike[str]],
    sql: str,
    routes: Sequence[str] = (),
    memory: str = "2GiB",
    time_limit: float = 600.0,
) -> pd.DataFrame:
    """The answer to one SELECT, or to a named question, over the tables of a run or of several (column `run` tells them apart).

    `duo-oracle query --list` names the questions and the views. `routes` are route files, FILE or NAME=FILE, for the view routes.
    `memory` is what DuckDB may take, beyond which it sets rows aside on the disk; `time_limit` is in seconds, 0 for none.
    Raises InputError, one line, for whatever is no such question, and for one beyond its limits.
    """
    from duo_oracle.results.sql import query as arrow

    several = [runs] if isinstance(runs, reader.StoredRun | str | os.PathLike) else list(runs)
    return arrow(several, sql, routes, memory, time_limit).to_pandas()
