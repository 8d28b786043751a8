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
from duo_oracle.search.api.routing import OWN

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from duo_oracle.results.answers.controls import Section
    from duo_oracle.results.compare.hull import Hull
    from duo_oracle.results.compare.plane import Line, Plane, Routed
    from duo_oracle.results.drawing import Picture
    from duo_oracle.search.rerun.opened import OpenedRun


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


@dataclass(frozen=True, eq=False)
class ExpertComparison:
    """A mixture's own router, and experts of route files, beside patterns that cost as much: a table each, nats per token."""

    run: Run
    sections: tuple[Section, ...] = field(repr=False)

    def table(self) -> pd.DataFrame:
        """A row per figure of every router; intervals as NAME_low and NAME_high."""
        import pandas as pd

        from duo_oracle.results.answers.rows import section_rows

        return pd.DataFrame(section_rows(self.sections))

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.sections))

    def _repr_html_(self) -> str:
        return Text(str(self))._repr_html_()


def asks_of_experts(run: Run, routers: Sequence[str], routes: Sequence[str] = ()) -> bool:
    """Whether it is a mixture's routers that are compared: its own, or files alone beside a run over experts."""
    return OWN in routers or (bool(routes) and not routers and run.table.of_experts)


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
) -> Comparison | ExpertComparison:
    """Routers (a directory, a shipped name, fixed:PATTERN, random:BUDGET, reference:BUDGET) and route files at a run's positions.

    `reference:BUDGET` is the choice of the run's own reference. `routes` are files, FILE or NAME=FILE, or a mapping of names to
    files. A run in a context full or cheapest, with budgets 0 to all and every loss kept, answers everything. `model` is the
    model's directory where it has moved since; without kept losses `sample` patterns per budget stand for all.

    Of a run over experts the router is `own`, the mixture's, and `routes` may hold experts; each stands beside at most `sample`
    patterns of equal cost, and the answer is an `ExpertComparison`.

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
    names = _several(routers)
    files = tuple(routes.items()) if isinstance(routes, Mapping) else tuple(named_file(text) for text in _several(routes))
    of_experts = asks_of_experts(loaded, names, [file for _, file in files])
    if of_experts and names not in ((), (OWN,)):
        raise InputError("`routers=own` is compared with `routes` of the same run alone, without other routers")
    if not of_experts:
        loaded.check_letters("a comparison of routers")
    with prepared(threads):
        opened = open_run(loaded, None if model is None else os.fspath(model))
        if of_experts:
            return ExpertComparison(loaded, _among_experts(opened, bool(names), files, sample, seed))
        found = compare_routers(opened, names, files, sample, seed)
    lines = [router_line(found.plane, routed) for routed in found.routers]
    lines = [*reference_lines(found.plane, [line.budget for line in lines]), *lines]
    return Comparison(loaded, found.plane, found.routers, tuple(lines), found.notes)


def _among_experts(
    opened: OpenedRun, own: bool, files: Sequence[tuple[str | None, str]], sample: int, seed: int
) -> tuple[Section, ...]:
    from duo_oracle.search.rerun.own_router import own_router, routes_of_file

    found = [own_router(opened, sample, seed)] if own else []
    found += [own_router(opened, sample, seed, routes_of_file(file, opened, name)) for name, file in files]
    doubled = [section.name for section in found if [other.name for other in found].count(section.name) > 1]
    if doubled:
        raise InputError(f"every router is compared once; there are two named {doubled[0]!r} (NAME=FILE names a file of `routes`)")
    return tuple(found)


def _several(texts: str | os.PathLike[str] | Sequence[str]) -> tuple[str, ...]:
    return (os.fspath(texts),) if isinstance(texts, str | os.PathLike) else tuple(map(os.fspath, texts))
