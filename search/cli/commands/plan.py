"""Say what a search would do and about how long it takes, and make nothing

Takes the options of `duo-oracle search`, also `--out` and `--dry-run`, which its help leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from duo_oracle.search.cli.command import Command, Work
from duo_oracle.search.cli.commands import search
from duo_oracle.search.job.config import SearchConfig


@dataclass(frozen=True)
class PlanConfig(SearchConfig):
    out: str = field(default="runs/plan", metadata={"uri": True, "shown": False})
    dry_run: bool = field(default=False, metadata={"shown": False})


def _run(config: PlanConfig) -> int:
    return search.COMMAND.run(replace(config, dry_run=True))


COMMAND = Command(
    work=Work.SEARCH,
    options=PlanConfig,
    run=_run,
    examples=(
        "duo-oracle plan MODEL my.txt --split blank-lines",
        "duo-oracle plan MODEL my.jsonl --branches .sB --budget atmost:4 --workers 8",
    ),
    positional=search.COMMAND.positional,
    notes=search.COMMAND.notes,
)
