"""List the runs in a folder, or show one: state, model, data, context, budget, tokens, gain"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.remote import is_remote
from duo_oracle.search.cli.answer import Format, write_answer
from duo_oracle.search.cli.command import Command, Work


@dataclass(frozen=True)
class RunsConfig:
    """What `duo-oracle runs` is asked.

    Args:
        dir: folders to look in, default runs where there is one, else this folder; or `show` and one run's directory
        depth: how many folders below are looked into
        format: form of the answer on stdout
    """

    dir: tuple[str, ...] = field(default=(), metadata={"uri": True})
    depth: int = 4
    format: Format = Format.TABLE

    def __post_init__(self) -> None:
        if self.depth < 0:
            raise InputError(f"`depth` must be at least 0; got {self.depth}")


def _run(config: RunsConfig) -> int:
    from duo_oracle.results.store.listing import facts_of, listed, run_directories

    if config.dir[:1] == ("show",):
        if len(config.dir) != 2:
            raise InputError(f"runs show takes one run directory; got {list(config.dir[1:])}")
        facts = facts_of(_place(config.dir[1]))
        width = max(map(len, facts))
        write_answer(config.format, lambda: [facts], lambda: "\n".join(f"{name:<{width}}  {_said(v)}" for name, v in facts.items()))
        return 0
    folders: list[Path | str] = [_place(name) for name in config.dir] or [Path("runs") if Path("runs").is_dir() else Path()]
    below = Path() if folders == [Path()] else None
    found = [listed(directory, below) for folder in folders for directory in run_directories(folder, config.depth)]
    if not found and config.format is Format.TABLE:
        print(f"no run in {', '.join(map(str, folders))}; duo-oracle search makes one")
        return 0
    write_answer(config.format, lambda: found)
    return 0


def _place(name: str) -> Path | str:
    return name if is_remote(name) else Path(name)


def _said(value: object) -> str:
    from duo_oracle.oracle.base.shown import one_line

    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e3 else f"{value:,.1f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else one_line(str(value))


COMMAND = Command(
    work=Work.READ,
    options=RunsConfig,
    run=_run,
    positional=("dir",),
    examples=(
        "duo-oracle runs",
        "duo-oracle runs /shared/runs --format csv > runs.csv",
        "duo-oracle runs show runs/first",
    ),
)
