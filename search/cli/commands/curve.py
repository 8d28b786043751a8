"""Show loss against the budget: the oracle beside fixed patterns and selection bias, as a table and a plot"""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.search.cli.answer import Format, write_answer
from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class CurveConfig:
    """What `duo-oracle curve` is asked.

    Args:
        runs: run directories of one model, data and space; a table for each context among them
        plot: draw the curves into this file (.svg, .png or .pdf) as well
        format: of the answer on stdout; csv, json and parquet hold all columns
    """

    runs: tuple[str, ...] = field(metadata={"uri": True})
    plot: str | None = None
    format: Format = Format.TABLE


def _run(config: CurveConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.results.answers.curve import draw_curve, markdown
    from duo_oracle.results.answers.reached import markdown as reached
    from duo_oracle.results.answers.rows import curve_rows
    from duo_oracle.search.cli.options import spell_parameters

    def text() -> str:
        return "\n".join([markdown(runs, lambda said: spell_parameters(said, COMMAND)), *filter(None, map(reached, runs))])

    runs = [load(path) for path in config.runs]
    shown = Format.TABLE if config.format is Format.MARKDOWN else config.format  # the table is Markdown
    write_answer(shown, lambda: curve_rows(runs), text)
    if config.plot is not None:
        draw_curve(runs).save(config.plot)
    return 0


COMMAND = Command(
    work=Work.READ,
    options=CurveConfig,
    run=_run,
    positional=("runs",),
    examples=("duo-oracle curve runs/big runs/committed --plot curve.svg",),
)
