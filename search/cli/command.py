"""What a command of `duo-oracle` is. Each file in `search/cli/commands/` holds one, named like the command.

The file's docstring begins with the line that `duo-oracle --help` shows. It may import nothing heavy at module level: the
help of every command appears without torch, Ray or pandas.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from duo_oracle.oracle.base.choices import Choices
from duo_oracle.oracle.base.settings import listed_settings
from duo_oracle.oracle.base.terminal import help_width


class Work(StrEnum):
    """What a command is for: the groups of `duo-oracle --help`, in their order."""

    SEARCH = "search"
    READ = "read runs"
    COMPARE = "compare"
    MODELS = "models and routers"
    REPRODUCE = "reproduce and measure"
    SHELL = "the shell"


@dataclass(frozen=True)
class Command:
    """A frozen dataclass of options, what to do with it (returns the exit status), and examples for the help."""

    work: Work
    options: type
    run: Callable[[Any], int]
    examples: tuple[str, ...]
    positional: tuple[str, ...] = ()  # fields given by place; the last may be a tuple, and then takes several
    resumes: bool = False  # whether the same command resumes after an interrupt
    notes: Callable[[], str] | None = None  # what stands at the end of the help


def settings_notes(choices: Choices) -> Callable[[], str]:
    """The settings of everything that may be chosen, with defaults, for the end of a help. Imports none of it."""

    def notes() -> str:
        lines = []
        for name in choices.names():
            head, source = name, choices.source(name)
            for given, text in (listed_settings(source) if source else {}).items():
                lines += textwrap.wrap(
                    text, help_width() - 2, initial_indent=f"  {head:<18}{given:<20} ", subsequent_indent=" " * 41
                )
                head = ""
            if head:
                lines.append(f"  {head:<18}(no settings)")
        return f"settings of a {choices.kind}, KEY=DEFAULT:\n" + "\n".join(lines)

    return notes
