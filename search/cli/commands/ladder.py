"""Show what choices of growing knowledge gain on a run's real labels: fixed, routers, probes, reference, hindsight"""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.oracle.base.ranges import at_least
from duo_oracle.search.cli.answer import Format, write_answer
from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class LadderConfig:
    """What `duo-oracle ladder` is asked.

    Args:
        run: run directory, of a context full, cheapest, a pattern or a router; with a reference it has all rungs
        budget: budgets of the run, each a ladder of its own; repeatable; default any and the middle whole one
        router: router directory, a shipped router (duo-tiny/budget-4), fixed:PATTERN or random:BUDGET; repeatable
        plot: draw the ladder into this file (.svg, .png or .pdf)
        format: form of the answer on stdout; all but table hold all columns
        model: the model's directory, where it has moved since; default the one that the run names
        reference: the reference's place, where it has moved since
        sample: patterns of each number of big layers that the branches' effects are measured on
        folds: groups of documents; probes are learnt from all but one and tried on that
        rounds: how often the probes on the states at the layers are taught, from the second time on under their own choices
        seed: seed of everything random
        threads: threads of this process
    """

    run: str = field(metadata={"uri": True})
    budget: tuple[str, ...] = ()
    router: tuple[str, ...] = field(default=(), metadata={"uri": True})
    plot: str | None = None
    format: Format = Format.TABLE
    model: str | None = field(default=None, metadata={"uri": True})
    reference: str | None = field(default=None, metadata={"uri": True})
    sample: int = 8
    folds: int = 5
    rounds: int = 2
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        at_least(self, sample=1, folds=2, rounds=1, seed=0, threads=1)


def _run(config: LadderConfig) -> int:
    from duo_oracle.search.api.laddering import ladder
    from duo_oracle.search.cli.options import spell_parameters

    if config.plot is not None:
        from duo_oracle.results.drawing import picture_ending

        picture_ending(config.plot)
    found = ladder(
        config.run,
        config.budget,
        config.router,
        model=config.model,
        reference=config.reference,
        sample=config.sample,
        folds=config.folds,
        rounds=config.rounds,
        seed=config.seed,
        threads=config.threads,
    )
    if config.plot is not None:
        found.plot().save(config.plot)
    write_answer(config.format, lambda: found.arrow, lambda: spell_parameters(str(found), COMMAND))
    return 0


COMMAND = Command(
    work=Work.COMPARE,
    options=LadderConfig,
    run=_run,
    positional=("run",),
    examples=(
        "duo-oracle search duo-tiny my.txt --context full --budget any,0-12 --reference self --seq-len 64 --out runs/reached",
        "duo-oracle ladder runs/reached --budget any --budget 6 --router duo-tiny/budget-6 --plot ladder.svg",
        "duo-oracle ladder runs/reached --format markdown > ladder.md",
    ),
)
