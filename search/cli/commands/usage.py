"""Show routers in training: use of each layer against its target, and how far cutoffs stray from their average"""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.search.cli.answer import Format, write_answer
from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class UsageConfig:
    """What `duo-oracle usage` is asked.

    Args:
        routers: router directories or shipped routers that were trained on text
        plot: draw use and cutoffs over the steps into this file (.svg, .png or .pdf)
        format: form of the table on stdout
    """

    routers: tuple[str, ...] = field(metadata={"uri": True})
    plot: str | None = None
    format: Format = Format.TABLE


def _run(config: UsageConfig) -> int:
    from duo_oracle.models.router_training.record import read_record
    from duo_oracle.results.compare.training import plot_training_usage, usage_table

    records = [read_record(router) for router in config.routers]
    if config.plot is not None:
        plot_training_usage(records, config.plot)
    write_answer(config.format, lambda: usage_table(records))
    return 0


COMMAND = Command(
    work=Work.COMPARE,
    options=UsageConfig,
    run=_run,
    positional=("routers",),
    examples=("duo-oracle usage duo-tiny/expert_threshold-4 duo-tiny/expert_choice-4 --plot usage.svg",),
)
