"""Show what one letter does to its own token and to the tokens after it, by layer and by distance"""

from __future__ import annotations

from dataclasses import dataclass, field

from duo_oracle.oracle.base.pictures import check_plot
from duo_oracle.oracle.base.ranges import at_least
from duo_oracle.search.cli.answer import Format, write_sections
from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class EffectsConfig:
    """What `duo-oracle effects` is asked.

    Args:
        run: run directory: its model, text, branches and layers; the table effects is kept in it, for query
        base: what every token takes but for the one letter: full, cheapest, or a pattern such as Bs.s
        ahead: later tokens of the window over which an effect is summed
        max_sequences: measure only the first so many of the run's sequences; those that the table has count too; default all
        plot: draw letters and distances into this file (.svg, .png or .pdf)
        format: form of the answer on stdout
        model: the model's directory, where it has moved since; default the one that the run names
        device: cpu, cuda, or cuda:N
        threads: threads of this process
    """

    run: str = field(metadata={"uri": True})
    base: str = "full"
    ahead: int = 32
    max_sequences: int | None = None
    plot: str | None = None
    format: Format = Format.TABLE
    model: str | None = field(default=None, metadata={"uri": True})
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        at_least(self, ahead=1, max_sequences=1, threads=1)
        check_plot(self.plot)


def _run(config: EffectsConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.results.answers.effects import draw_effects, effects_of_run, sections
    from duo_oracle.search.cli.options import spell_parameters
    from duo_oracle.search.job.worker import prepare_worker
    from duo_oracle.search.rerun.effects import Asked, measure_effects, parse_base
    from duo_oracle.search.rerun.opened import open_run

    run = load(config.run)
    prepare_worker(config.threads)
    opened = open_run(run, config.model, config.device)
    asked = Asked(parse_base(opened, config.base), config.ahead, run.table.letters)
    table = measure_effects(opened, asked, config.max_sequences)
    found = effects_of_run(run, asked.written, asked.ahead)
    if config.plot is not None:
        draw_effects(found, f"{run.name}: every token {found.base} but for one letter").save(config.plot)
    tables = sections(found)
    kept = f"{len(table.sequences)} sequences, every flip: {table.place} (duo-oracle query {config.run} effects_by_layer)"
    write_sections(config.format, tables, lambda text: spell_parameters(text, COMMAND), kept)
    return 0


COMMAND = Command(
    work=Work.READ,
    options=EffectsConfig,
    run=_run,
    positional=("run",),
    resumes=True,
    examples=(
        "duo-oracle search duo-tiny holdout:prose --per-document 1 --seq-len 97 --context full --out runs/prose-big",
        "duo-oracle effects runs/prose-big --base cheapest --plot effects.svg",
        "duo-oracle effects runs/prose-big --base BBBBBBssssss --ahead 8 --max-sequences 2 --format json",
    ),
)
