"""`ladder`: what choices of growing knowledge gain at a run's tokens, from a fixed pattern to hindsight.

Light to import; torch is loaded by the first call.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.extras import extras_named
from duo_oracle.oracle.base.shown import Text
from duo_oracle.results.api.run import Run, load

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from duo_oracle.results.drawing import Picture
    from duo_oracle.results.ladder.rungs import Line


@dataclass(frozen=True, eq=False)
class LadderOfRun:
    """The rungs of a run's ladder, a line each per budget, in nats per token."""

    run: Run
    lines: tuple[Line, ...] = field(repr=False)
    notes: tuple[str, ...] = field(repr=False)

    @property
    def arrow(self) -> pa.Table:
        """A row per budget and rung with every figure and the run's id; intervals as NAME_low and NAME_high."""
        from duo_oracle.results.ladder.table import as_table

        return as_table(self.lines, self.run.manifest.run_id)

    def table(self) -> pd.DataFrame:
        """The same as pandas."""
        return self.arrow.to_pandas()

    def plot(self) -> Picture:
        """The gains with their intervals as a matplotlib Figure, a panel per budget."""
        from duo_oracle.results.ladder.plot import draw_ladder

        return draw_ladder(self.lines, self._said)

    def markdown(self) -> str:
        """The tables as Markdown."""
        from duo_oracle.results.ladder.table import markdown

        return markdown(self.lines, self.notes)

    @property
    def _said(self) -> str:
        facts, size = self.run.manifest.facts, f"{self.run.n_tokens:,} tokens of {self.lines[0].gain.n_documents} documents"
        return f"{facts.get('model')} · {facts.get('data')} · {size} · context {self.run.context}"

    def __str__(self) -> str:
        from duo_oracle.results.ladder.table import as_text

        return f"{self._said}\n\n{as_text(self.lines, self.notes)}"

    def _repr_html_(self) -> str:
        return Text(str(self))._repr_html_()


@extras_named("ladder")
def ladder(
    run: Run | str | os.PathLike[str],
    budgets: str | Sequence[str] = (),
    routers: str | os.PathLike[str] | Sequence[str] = (),
    *,
    model: str | os.PathLike[str] | None = None,
    reference: str | os.PathLike[str] | None = None,
    sample: int = 8,
    folds: int = 5,
    rounds: int = 2,
    seed: int = 0,
    threads: int = 1,
) -> LadderOfRun:
    """The ladder of a run in a context full, cheapest, a pattern or a router's: every choice realised on the real labels.

    `budgets` of the run's (default: any, and the middle whole one); `routers` as `compare` takes them; `model` and `reference`
    where they lie now. Effects of branches are measured on `sample` patterns for each number of B's; probes are cross-fitted over
    `folds` of documents, those on the states at the layers taught in `rounds`.

    Raises InputError for a run, budget, router or reference that does not fit.
    """
    from duo_oracle.results.ladder.rungs import lines_of
    from duo_oracle.search.job.worker import prepared
    from duo_oracle.search.ladder.climbing import Climb, climb
    from duo_oracle.search.rerun.opened import open_run

    for name, value, least in (("sample", sample, 1), ("folds", folds, 2), ("rounds", rounds, 1), ("threads", threads, 1)):
        if value < least:
            raise InputError(f"`{name}` must be at least {least}; got {value}")
    loaded = run if isinstance(run, Run) else load(run)
    how = Climb(
        budgets=_several(budgets),
        routers=_several(routers),
        reference=None if reference is None else os.fspath(reference),
        sample=sample,
        folds=folds,
        rounds=rounds,
        seed=seed,
    )
    with prepared(threads):
        found = climb(open_run(loaded, None if model is None else os.fspath(model)), how)
    return LadderOfRun(loaded, tuple(line for one in found.ladders for line in lines_of(one)), found.notes)


def _several(texts: str | os.PathLike[str] | Sequence[str]) -> tuple[str, ...]:
    return (os.fspath(texts),) if isinstance(texts, str | os.PathLike) else tuple(map(os.fspath, texts))
