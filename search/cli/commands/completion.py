"""Write a shell's completion of commands, options and their choices: bash, zsh or fish"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from duo_oracle.search.cli.command import Command, Work


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@dataclass(frozen=True)
class CompletionConfig:
    """What `duo-oracle completion` is asked.

    Args:
        shell: bash, zsh or fish
    """

    shell: Shell


def _run(config: CompletionConfig) -> int:
    import shtab

    print(shtab.complete(_whole_parser(shtab.FILE), config.shell.value))
    return 0


def _whole_parser(files: Any) -> argparse.ArgumentParser:
    """All commands as one parser; what has no choices completes `files`."""
    from duo_oracle.search.cli import command_module, command_names, summary_of
    from duo_oracle.search.cli.options import Parser, fill_parser

    whole = Parser(prog="duo-oracle", allow_abbrev=False)
    commands = whole.add_subparsers(metavar="COMMAND")
    for name in command_names():
        module = command_module(name)
        summary = summary_of(module)
        parser = fill_parser(commands.add_parser(name, help=summary, description=summary, allow_abbrev=False), module.COMMAND)
        for action in parser._actions:
            metavar = action.metavar if isinstance(action.metavar, str) else ""
            if "|" in metavar:
                action.choices = metavar.split("|")
            elif action.nargs != 0:
                action.complete = files  # type: ignore[attr-defined]
    return whole


COMMAND = Command(
    work=Work.SHELL,
    options=CompletionConfig,
    run=_run,
    positional=("shell",),
    examples=(
        "duo-oracle completion bash > ~/.local/share/bash-completion/completions/duo-oracle",
        "duo-oracle completion zsh > ~/.zfunc/_duo-oracle",
        "duo-oracle completion fish > ~/.config/fish/completions/duo-oracle.fish",
    ),
)
