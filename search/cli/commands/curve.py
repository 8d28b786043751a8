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
        average: also the oracle of so many big layers (or active experts) per token on average, each token's own number free; of
            runs with all exact budgets in a context other than committed; repeatable
        plot: draw the curves into this file (.svg, .png or .pdf) as well
        format: form of the answer on stdout; csv, json and parquet hold all columns
    """

    runs: tuple[str, ...] = field(metadata={"uri": True})
    average: tuple[str, ...] = ()
    plot: str | None = None
    format: Format = Format.TABLE


def _run(config: CurveConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.results.answers.average import markdown as averages
    from duo_oracle.results.answers.curve import draw_curve, markdown
    from duo_oracle.results.answers.reached import markdown as reached
    from duo_oracle.results.answers.rows import curve_rows
    from duo_oracle.search.cli.options import spell_parameters

    def spell(said: str) -> str:
        return spell_parameters(said, COMMAND)

    def text() -> str:
        tables = [markdown(runs, spell), *filter(None, map(reached, runs))]
        return "\n".join([*tables, *(averages(run, config.average, spell) for run in runs if config.average)])

    runs = [load(path) for path in config.runs]
    shown = Format.TABLE if config.format is Format.MARKDOWN else config.format  # the table is Markdown
    write_answer(shown, lambda: curve_rows(runs, config.average), text)
    if config.plot is not None:
        draw_curve(runs).save(config.plot)
    return 0


COMMAND = Command(
    work=Work.READ,
    options=CurveConfig,
    run=_run,
    positional=("runs",),
    examples=("duo-oracle curve runs/big runs/committed --plot curve.svg", "duo-oracle curve runs/big --average 4 --average 6.5"),
)
