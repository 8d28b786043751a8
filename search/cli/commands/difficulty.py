"""List the tokens that compute helps most, each in its sentence"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from duo_oracle.oracle.base.terminal import terminal_width
from duo_oracle.search.cli.answer import Format, write_answer
from duo_oracle.search.cli.command import Command, Work


class Group(StrEnum):
    TOKEN_TYPE = "token-type"
    POSITION = "position"
    DOCUMENT = "document"
    CLASS = "class"


@dataclass(frozen=True)
class DifficultyConfig:
    """What `duo-oracle difficulty` is asked.

    Args:
        run: run directory
        top: how many tokens
        by: measure that orders them: difficulty, gain, excess, excess_difficulty, compute, loss, loss_cheapest, loss_full,
            entropy_full, least_big, slack or slack_big
        budget: budget whose oracle is meant, as the run was searched with; default the one that gains most
        before: tokens of its sentence shown before it
        after: tokens shown after it
        group: means over groups of tokens instead of single ones
        within_surprise: means within bands of all-small loss (all-skip without small FFNs) instead, since difficulty grows with
            surprise by itself
        picture: draw a sequence into this file instead (.svg, .png, .pdf), its tokens coloured by the measure
        sequence: the sequence to draw
        format: form of the answer on stdout
    """

    run: str = field(metadata={"uri": True})
    top: int = 20
    by: str = "difficulty"
    budget: str | None = None
    before: int = 12
    after: int = 6
    group: Group | None = None
    within_surprise: bool = False
    picture: str | None = None
    sequence: int = 0
    format: Format = Format.TABLE


def _run(config: DifficultyConfig) -> int:
    from duo_oracle.results import load
    from duo_oracle.results.answers.difficulty import table
    from duo_oracle.results.answers.rows import hardest_rows, section_rows

    run = load(config.run)
    if config.group is not None or config.within_surprise:
        from duo_oracle.results.answers.difficulty_groups import groups_table

        named = (["surprise"] if config.within_surprise else []) + ([config.group.value] if config.group is not None else [])
        found = [groups_table(run, name, config.by, config.budget) for name in named]
        write_answer(config.format, lambda: section_rows(found), lambda: "\n\n".join(map(str, found)))
        return 0
    if config.picture is not None:
        from duo_oracle.results.answers.picture import draw_text

        draw_text(run, config.sequence, config.budget, config.by).save(config.picture)
        return 0
    asked = (run, config.top, config.by, config.budget, config.before, config.after)
    write_answer(config.format, lambda: hardest_rows(*asked), lambda: table(*asked, terminal_width()))
    return 0


COMMAND = Command(
    work=Work.READ,
    options=DifficultyConfig,
    run=_run,
    positional=("run",),
    examples=(
        "duo-oracle difficulty runs/first --top 20",
        "duo-oracle difficulty runs/curve --by excess --budget 4",
        "duo-oracle difficulty runs/curve --group token-type --within-surprise",
        "duo-oracle difficulty runs/first --picture first.svg --sequence 3",
    ),
)
