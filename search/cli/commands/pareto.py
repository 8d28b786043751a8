"""Show the fixed patterns that no other beats in both loss and big layers"""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.search.cli.answer import Format, write_answer
from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class ParetoConfig:
    """What `duo-oracle pareto` is asked.

    Args:
        run: run directory that kept trials of patterns for all tokens, or losses
        plot: draw the front into this file (.svg, .png or .pdf)
        format: form of the answer on stdout; all but table hold every evaluated pattern
    """

    run: str = field(metadata={"uri": True})
    plot: str | None = None
    format: Format = Format.TABLE


def _run(config: ParetoConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.results.answers.pareto import as_text, draw_front, fixed_patterns
    from duo_oracle.results.answers.rows import pattern_rows

    run = load(config.run)
    patterns = fixed_patterns(run)
    if config.plot is not None:
        title = f"{len(patterns):,} fixed patterns, {run.n_tokens:,} tokens, context {run.context}"
        draw_front(patterns, title, run.table.unit).save(config.plot)
    write_answer(config.format, lambda: pattern_rows(patterns), lambda: as_text(patterns, run.table.unit))
    return 0


COMMAND = Command(
    work=Work.READ,
    options=ParetoConfig,
    run=_run,
    positional=("run",),
    examples=(
        "duo-oracle search duo-tiny holdout:prose --context same --strategy optuna --set scope=fixed --set pareto=true "
        "--set sampler=nsgaii --set trials=400 --keep trials --out runs/front",
        "duo-oracle pareto runs/front --plot front.svg",
    ),
)
