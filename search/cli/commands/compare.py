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
    from duo_oracle.search.api.comparing import compare
    from duo_oracle.search.cli.options import spell_parameters

    if "own" in config.router or (config.routes and not config.router and load(config.run).table.of_experts):
        return _of_experts(config)
    found = compare(
        config.run,
        config.router,
        config.routes,
        model=config.model,
        sample=config.sample,
        seed=config.seed,
        threads=config.threads,
    )
    if config.plot is not None:
        found.plot().save(config.plot)
    if config.out is not None:
        found.save(config.out)
    write_answer(config.format, lambda: found.arrow, lambda: spell_parameters(str(found), COMMAND))
    return 0


def _of_experts(config: CompareConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.results.store.route_files import named_file
    from duo_oracle.search.cli.options import spell_parameters
    from duo_oracle.search.job.worker import prepared
    from duo_oracle.search.rerun.opened import open_run
    from duo_oracle.search.rerun.own_router import own_router, routes_of_file

    if config.router not in ((), ("own",)) or config.plot is not None or config.out is not None:
        raise InputError("`router=own` is compared with `routes` of the same run alone, without other routers, `plot` or `out`")
    with prepared(config.threads):
        opened = open_run(load(config.run), config.model)
        found = [own_router(opened, config.sample, config.seed)] if config.router or not opened.run.table.of_experts else []
        for name, file in map(named_file, config.routes):
            found.append(own_router(opened, config.sample, config.seed, routes_of_file(file, opened, name)))
    doubled = [section.name for section in found if [other.name for other in found].count(section.name) > 1]
    if doubled:
        raise InputError(f"every router is compared once; there are two named {doubled[0]!r} (NAME=FILE names a file of `routes`)")
    write_sections(config.format, found, lambda text: spell_parameters(text, COMMAND))
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
