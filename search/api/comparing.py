"""`compare`: routers beside a run's oracle, fixed patterns and random routing, on the run's own tokens.

Light to import; torch is loaded by the first call.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.extras import extras_named
from duo_oracle.oracle.base.shown import Text
from duo_oracle.results.api.run import Run, load

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from duo_oracle.results.compare.hull import Hull
    from duo_oracle.results.compare.plane import Line, Plane, Routed
    from duo_oracle.results.drawing import Picture


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that routers are read against, and the routers: a line each, in nats per token."""

    run: Run
    plane: Plane = field(repr=False)
    routers: tuple[Routed, ...] = field(repr=False)
    lines: tuple[Line, ...] = field(repr=False)
    notes: tuple[str, ...] = field(repr=False)

    @property
    def arrow(self) -> pa.Table:
        """A row per line with every figure; intervals as NAME_low and NAME_high, null where a figure is unknown."""
        from duo_oracle.results.compare.table import as_table

        return as_table(self.lines, self.run.context)

    def table(self) -> pd.DataFrame:
        """The same as pandas."""
        return self.arrow.to_pandas()

    @cached_property
    def hulls(self) -> list[Hull]:
        """Each router of several budgets in one number, AIQ, beside the lines that are no routers."""
        from duo_oracle.results.compare.hull import hulls

        return hulls(self.plane, self.routers)

    def plot(self) -> Picture:
        """The budget plane as a matplotlib Figure."""
        from duo_oracle.results.compare.plot import draw_plane

        return draw_plane(self.plane, self.lines)

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Writes every figure, every token's loss and the pictures of how the routers route into `directory`."""
        from duo_oracle.results.compare.files import write_files

        write_files(directory, self.plane, self.routers, self.lines, self.hulls)
        return Path(directory)

    def __str__(self) -> str:
        from duo_oracle.results.compare import hull
        from duo_oracle.results.compare.table import as_text

        run = self.run
        said = [f"{run.n_tokens:,} tokens", f"{len(set(self.plane.document_N.tolist()))} documents"]
        said += [f"data {run.manifest.facts.get('data')}", f"context {run.context}"]
        said += [] if run.route_layers is None else [f"layers {run.route_layers}"]
        return (
            " · ".join(said)
            + "\n\n"
            + as_text(self.lines, self.notes)
            + ("\n" + hull.as_text(self.hulls) + "\n" if self.routers else "")
        )

    def _repr_html_(self) -> str:
        return Text(str(self))._repr_html_()


@extras_named("compare")
def compare(
    run: Run | str | os.PathLike[str],
    routers: str | Sequence[str] = (),
    routes: str | Sequence[str] | Mapping[str, str] = (),
    *,
    model: str | os.PathLike[str] | None = None,
    sample: int = 32,
    seed: int = 0,
    threads: int = 1,
) -> Comparison:
    """Routers (a directory, a shipped name, fixed:PATTERN, random:BUDGET, reference:BUDGET) and route files at a run's positions.

    `reference:BUDGET` is the choice of the run's own reference. `routes` are files, FILE or NAME=FILE, or a mapping of names to
    files. A run in a context full or cheapest, with budgets 0 to all and every loss kept, answers everything. `model` is the
    model's directory where it has moved since; without kept losses `sample` patterns per budget stand for all.

    Raises InputError for a run, router or file that does not fit.
    """
    from duo_oracle.results.compare.plane import reference_lines, router_line
    from duo_oracle.results.store.route_files import named_file
    from duo_oracle.search.job.worker import prepared
    from duo_oracle.search.rerun.opened import open_run
    from duo_oracle.search.rerun.routers import compare_routers

    if min(sample, threads) < 1:
        raise InputError(f"`sample` and `threads` are at least 1; got {sample} and {threads}")
    loaded = run if isinstance(run, Run) else load(run)
    loaded.check_letters("a comparison of routers")
    files = tuple(routes.items()) if isinstance(routes, Mapping) else tuple(named_file(text) for text in _several(routes))
    with prepared(threads):
        opened = open_run(loaded, None if model is None else os.fspath(model))
        found = compare_routers(opened, _several(routers), files, sample, seed)
    lines = [router_line(found.plane, routed) for routed in found.routers]
    lines = [*reference_lines(found.plane, [line.budget for line in lines]), *lines]
    return Comparison(loaded, found.plane, found.routers, tuple(lines), found.notes)


def _several(texts: str | os.PathLike[str] | Sequence[str]) -> tuple[str, ...]:
    return (os.fspath(texts),) if isinstance(texts, str | os.PathLike) else tuple(map(os.fspath, texts))
