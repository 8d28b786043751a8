"""Find the best routes of whole windows, all tokens together under one total budget, beside what a committed run chose"""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.oracle.base.ranges import at_least
from duo_oracle.search.cli.answer import Format, write_sections
from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class JointConfig:
    """What `duo-oracle joint` is asked.

    Args:
        run: run directory, searched in the context committed: where the joint search begins
        budget: budget of the run, here of a window's total: so much per token on average; default any, else that of the least loss
        width: hold so many prefixes in a beam over tokens before letters are changed one by one; default no beam
        max_sequences: solve only the first so many of the run's sequences; those that the table has count too; default all
        format: form of the answer on stdout
        model: the model's directory, where it has moved since; default the one that the run names
        device: cpu, cuda, or cuda:N
        threads: threads of this process
    """

    run: str = field(metadata={"uri": True})
    budget: str | None = None
    width: int = 0
    max_sequences: int | None = None
    format: Format = Format.TABLE
    model: str | None = field(default=None, metadata={"uri": True})
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        at_least(self, width=0, max_sequences=1, threads=1)


def _run(config: JointConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.results.answers.joint import joint_gap, joint_sections
    from duo_oracle.search.cli.options import spell_parameters
    from duo_oracle.search.job.worker import prepare_worker
    from duo_oracle.search.rerun.joint import Asked, solve_joint
    from duo_oracle.search.rerun.opened import open_run

    run = load(config.run)
    budget = str(run.budget(config.budget))
    prepare_worker(config.threads)
    asked = Asked(budget, config.width)
    table = solve_joint(open_run(run, config.model, config.device), asked, config.max_sequences)
    tables = joint_sections(joint_gap(run, asked.budget, asked.width))
    kept = f"{len(table.sequences)} sequences, every token: {table.place} (duo-oracle query {config.run} joint_gap)"
    write_sections(config.format, tables, lambda text: spell_parameters(text, COMMAND), kept)
    return 0


COMMAND = Command(
    work=Work.SEARCH,
    options=JointConfig,
    run=_run,
    positional=("run",),
    resumes=True,
    examples=(
        "duo-oracle search duo-tiny holdout:prose --per-document 1 --seq-len 25 --budget any,4 --out runs/committed",
        "duo-oracle joint runs/committed --budget 4",
        "duo-oracle joint runs/committed --budget any --width 4 --max-sequences 2 --format json",
    ),
)
