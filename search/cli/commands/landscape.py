"""Show how the layers' choices interact in a run's losses: share of variance by order, effect of each layer"""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.search.cli.answer import Format, write_answer
from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class LandscapeConfig:
    """What `duo-oracle landscape` is asked.

    Args:
        run: run directory, searched with --keep losses over all patterns of s and B (. and B in a model without small FFNs), or
            of a table of experts
        budget: pass of a committed run: any, or an atmost that admits all
        format: form of the answer on stdout
    """

    run: str = field(metadata={"uri": True})
    budget: str | None = None
    format: Format = Format.TABLE


def _run(config: LandscapeConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.results.answers.rows import landscape_rows
    from duo_oracle.results.statistics.landscape import landscape

    found = landscape(load(config.run), config.budget)
    write_answer(config.format, lambda: landscape_rows(found), lambda: str(found))
    return 0


COMMAND = Command(
    work=Work.READ,
    options=LandscapeConfig,
    run=_run,
    positional=("run",),
    examples=(
        "duo-oracle search duo-tiny holdout:prose --context full --keep losses --out runs/losses",
        "duo-oracle landscape runs/losses",
    ),
)
