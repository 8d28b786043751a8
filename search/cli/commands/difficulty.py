"""the tokens that compute helps most, each in its sentence"""

from __future__ import annotations

from dataclasses import dataclass

from search.cli.command import Command


@dataclass(frozen=True)
class DifficultyConfig:
    """What `duo-oracle difficulty` is asked.

    Args:
        run: run directory
        top: how many tokens
        by: measure that orders them: difficulty, gain, excess, compute, loss, loss_small or loss_big
        budget: budget whose oracle is meant, as the run was searched with; default the one that gains most
        before: tokens of its sentence shown before it
        after: tokens shown after it
        picture: draw a sequence into this file instead (.svg, .png, .pdf), its tokens coloured by the measure
        sequence: the sequence to draw
    """

    run: str
    top: int = 20
    by: str = "difficulty"
    budget: str | None = None
    before: int = 12
    after: int = 6
    picture: str | None = None
    sequence: int = 0


def _run(config: DifficultyConfig) -> int:
    from results import load
    from results.difficulty import table

    run = load(config.run)
    if config.picture is not None:
        from results.picture import draw

        draw(run, config.picture, config.sequence, config.budget, config.by)
        return 0
    print(table(run, config.top, config.by, config.budget, config.before, config.after).rstrip())
    return 0


COMMAND = Command(
    options=DifficultyConfig,
    run=_run,
    positional=("run",),
    examples=(
        "duo-oracle difficulty runs/first --top 20",
        "duo-oracle difficulty runs/curve --by excess --budget 4",
        "duo-oracle difficulty runs/first --picture first.svg --sequence 3",
    ),
)
