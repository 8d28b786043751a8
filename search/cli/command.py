"""What a command of `duo-oracle` is. Each file in `search/cli/commands/` holds one, named like the command.

The file's docstring begins with the line that `duo-oracle --help` shows. It may import nothing heavy at module level: the
help of every command appears without torch, Ray or pandas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """A frozen dataclass of options, what to do with it (returns the exit status), and examples for the help."""

    options: type
    run: Callable[[Any], int]
    examples: tuple[str, ...]
    positional: tuple[str, ...] = ()  # fields given by place; the last may be a tuple, and then takes several
    resumes: bool = False  # whether the same command goes on after an interrupt
