"""Compare routers, yours or ours, with the oracle, fixed patterns and random routing on a run's own tokens"""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.pictures import check_plot
from duo_oracle.oracle.base.ranges import at_least
from duo_oracle.search.cli.answer import Format, write_answer, write_sections
from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class CompareConfig:
    """What `duo-oracle compare` is asked.

    Args:
        run: run directory; --context full --budget 0-L --keep losses answers everything
        router: router directory, a shipped router (duo-tiny/budget-4), fixed:PATTERN, random:BUDGET, or reference:BUDGET (the
            choice of the run's own reference); repeatable; of a run over experts own, the model's own router, alone
        routes: FILE.parquet or NAME=FILE.parquet, what any router chose: sequence, position, pattern; of a run over experts also
            the experts that tokens took, .npy (routed_experts as vLLM returns it), .npz, .jsonl or .parquet; repeatable
        plot: draw the budget plane into this file (.svg, .png or .pdf)
        out: also write every figure, every token's loss and the pictures of how the routers route into this directory
        format: form of the answer on stdout; all but table hold all budgets and all columns
        model: the model's directory, where it has moved since; default the one that the run names
        sample: patterns per budget that stand for all, where the run kept no losses; of router own, patterns of equal cost
        seed: seed of everything random
        threads: threads of this process
    """

    run: str = field(metadata={"uri": True})
    router: tuple[str, ...] = field(default=(), metadata={"uri": True})
    routes: tuple[str, ...] = field(default=(), metadata={"uri": True})
    plot: str | None = None
    out: str | None = None
    format: Format = Format.TABLE
    model: str | None = field(default=None, metadata={"uri": True})
    sample: int = 32
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        at_least(self, sample=1, seed=0, threads=1)
        check_plot(self.plot)


def _run(config: CompareConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.search.api.comparing import ExpertComparison, asks_of_experts, compare
    from duo_oracle.search.cli.options import spell_parameters

    run = load(config.run)
    if asks_of_experts(run, config.router, config.routes) and (config.plot is not None or config.out is not None):
        raise InputError("routers of experts are compared in tables; got `plot` or `out`, which are of the budget plane")
    found = compare(
        run,
        config.router,
        config.routes,
        model=config.model,
        sample=config.sample,
        seed=config.seed,
        threads=config.threads,
    )
    if isinstance(found, ExpertComparison):
        write_sections(config.format, found.sections, lambda text: spell_parameters(text, COMMAND))
        return 0
    if config.plot is not None:
        found.plot().save(config.plot)
    if config.out is not None:
        found.save(config.out)
    write_answer(config.format, lambda: found.arrow, lambda: spell_parameters(str(found), COMMAND))
    return 0


COMMAND = Command(
    work=Work.COMPARE,
    options=CompareConfig,
    run=_run,
    positional=("run",),
    examples=(
        "duo-oracle search duo-tiny holdout:prose --per-document 1 --context full --budget 0-12 --keep losses --out runs/prose-big",
        "duo-oracle compare runs/prose-big --router random:4 --router duo-tiny/budget-4 --plot plane.svg",
        "duo-oracle compare runs/prose-big --routes mine=routes.parquet --format json > mine.json",
        "duo-oracle compare runs/sets --router own --routes vllm=routed_experts.npy",
    ),
)
