"""Compare search strategies with a run's exact oracle: regret against evaluations and time"""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.oracle.base.choices import Choices
from duo_oracle.oracle.base.pictures import check_plot
from duo_oracle.oracle.base.ranges import at_least
from duo_oracle.search.cli.answer import Format, write_answer
from duo_oracle.search.cli.command import Command, Work, settings_notes


@dataclass(frozen=True)
class StrategiesConfig:
    """What `duo-oracle strategies` is asked.

    Args:
        run: run directory of an exhaustive search; with --keep losses random patterns are computed exactly, else sampled
        strategy: NAME or NAME:KEY=VALUE,KEY=VALUE; repeatable; default greedy, beam, layerwise, additive and mcts
        budget: one of the run's budgets, or average:K where it has all exact ones; repeatable; default all of the run's
        max_sequences: stop after so many of the run's sequences; default all
        plot: draw regret against evaluations and time into this file (.svg, .png or .pdf)
        format: form of the table on stdout
        model: the model's directory, where it has moved since; default the one that the run names
        seed: seed of everything random
        threads: threads of this process
    """

    run: str = field(metadata={"uri": True})
    strategy: tuple[str, ...] = ()
    budget: tuple[str, ...] = ()
    max_sequences: int | None = None
    plot: str | None = None
    format: Format = Format.TABLE
    model: str | None = field(default=None, metadata={"uri": True})
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        at_least(self, max_sequences=1, seed=0, threads=1)
        check_plot(self.plot)


def _run(config: StrategiesConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.results.statistics.regret import as_table, as_text, regret_line
    from duo_oracle.search.job.worker import prepare_worker
    from duo_oracle.search.rerun.opened import open_run
    from duo_oracle.search.rerun.strategies import DEFAULT_STRATEGIES, compare, parse_candidate

    run = load(config.run)
    candidates = [parse_candidate(text) for text in config.strategy or DEFAULT_STRATEGIES]
    prepare_worker(config.threads)
    found = compare(open_run(run, config.model), candidates, config.budget or run.budgets, config.max_sequences, config.seed)
    lines = [regret_line(outcomes) for outcomes in found.outcomes]
    if config.plot is not None:
        from duo_oracle.results.answers.regret_plot import plot_regret

        title = f"{found.n_tokens:,} tokens of {found.n_documents} documents, context {run.context}"
        plot_regret(found.outcomes, config.plot, title, found.exact_tokens_per_second)
    write_answer(
        config.format,
        lambda: as_table(lines, run.manifest.run_id),
        lambda: "\n\n".join([found.heading(run.context), as_text(lines).rstrip(), found.notes(run)]),
    )
    return 0


COMMAND = Command(
    work=Work.COMPARE,
    options=StrategiesConfig,
    run=_run,
    positional=("run",),
    examples=(
        "duo-oracle search duo-tiny holdout:prose --context full --budget 2,4,6,any --keep losses --out runs/exact",
        "duo-oracle strategies runs/exact --plot regret.svg",
        "duo-oracle strategies runs/every-budget --budget any --budget average:4.5",
        "duo-oracle strategies runs/exact --strategy beam:width=8 --strategy optuna:sampler=nsgaii --budget 4 --max-sequences 2",
    ),
    notes=settings_notes(Choices("strategy", "duo_oracle.search.strategies")),
)
