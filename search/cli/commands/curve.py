"""Show loss against the budget: the oracle beside fixed patterns and selection bias, as a table and a plot"""

from __future__ import annotations

from dataclasses import dataclass

from duo_oracle.search.cli.command import Command


@dataclass(frozen=True)
class CurveConfig:
    """What `duo-oracle curve` is asked.

    Args:
        runs: run directories of one model, data and space; a table for each context among them
        plot: draw the curves into this file (.svg, .png or .pdf) as well
    """

    runs: tuple[str, ...]
    plot: str | None = None


def _run(config: CurveConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.results.answers.curve import draw_curve, markdown

    runs = [load(path) for path in config.runs]
    print(markdown(runs), end="")
    if config.plot is not None:
        draw_curve(runs).save(config.plot)
    return 0


COMMAND = Command(
    options=CurveConfig,
    run=_run,
    positional=("runs",),
    examples=("duo-oracle curve runs/big runs/committed --plot curve.svg",),
)
