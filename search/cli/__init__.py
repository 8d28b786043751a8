"""The command `duo-oracle`: finds the command's file, reads its options, and turns what goes wrong into an exit status.

Without a command it shows them all. 0: done. 2: bad input, one line on stderr. 1: not done, though nothing is wrong with the input:
in a line, something around us that ended, such as a cluster, the room on a disk or the memory; a run with failed units; or a fault
of ours, with its traceback. 130: Ctrl-C; 143: SIGTERM; 129: SIGHUP, all three with a line that says how to go on.
Knows no command by name: each is a file in `search/cli/commands/`.
"""

from __future__ import annotations

import sys
import textwrap
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from types import ModuleType

from duo_oracle.oracle.base.choices import check_choice, names_in
from duo_oracle.oracle.base.errors import InputError, Outage
from duo_oracle.oracle.base.extras import extras_named
from duo_oracle.oracle.base.shown import TerminalText
from duo_oracle.oracle.base.stopping import exit_status, stopped_by_signals
from duo_oracle.oracle.base.terminal import help_width
from duo_oracle.search.cli.command import Command, Work
from duo_oracle.search.cli.faults import fault_of_surroundings, said_on_stderr

COMMANDS = "duo_oracle.search.cli.commands"
_LONGEST_WORD = 400
_OLD_NAMES = {"fake-big": "placebo"}  # commands as they were called before, taken for one version more


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (default: the process's arguments) names. Returns the exit status."""
    with redirect_stdout(TerminalText(sys.stdout)), redirect_stderr(TerminalText(sys.stderr, bars=True)):
        return _main(list(sys.argv[1:] if argv is None else argv))


def _main(arguments: list[str]) -> int:
    command: Command | None = None
    try:
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            print(_overview())
            return 0
        if arguments[0] == "--version":
            from duo_oracle.oracle.base.version import __version__

            print(__version__)
            return 0
        name = check_choice("command", _OLD_NAMES.get(arguments[0], arguments[0]), command_names())
        module = command_module(name)
        command = module.COMMAND
        from duo_oracle.search.cli.options import read_options

        with extras_named(name), stopped_by_signals(), said_on_stderr():
            return command.run(read_options(name, command, summary_of(module), arguments[1:]))
    except KeyboardInterrupt as stop:
        print(
            "duo-oracle: interrupted" + ("; the same command resumes from here" if command is not None and command.resumes else ""),
            file=sys.stderr,
        )
        return exit_status(stop)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 0
    except InputError as error:
        from duo_oracle.search.cli.options import spell_parameters

        return _say(spell_parameters(str(error), command), 2)
    except Outage as error:
        from duo_oracle.search.cli.options import spell_parameters

        return _say(spell_parameters(str(error), command), 1)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    except Exception as error:
        fault = fault_of_surroundings(error)
        if fault is None:
            traceback.print_exc()
            return 1
        resumes = fault.status == 1 and command is not None and command.resumes
        return _say(fault.line + ("; what is done is kept, and the same command resumes" if resumes else ""), fault.status)


def _say(message: str, status: int) -> int:
    print("duo-oracle: " + " ".join(map(_shortened, message.split())), file=sys.stderr)
    return status


def _shortened(word: str) -> str:
    """A word of thousands of characters by both its ends; a place, whose end is what tells, as it is."""
    if len(word) <= _LONGEST_WORD or "/" in word:
        return word
    bare = word.rstrip(".,:;)")
    return f"{bare[:40]}...{bare[-20:]} ({len(bare):,} characters){word[len(bare) :]}"


def command_names() -> tuple[str, ...]:
    """Every command, by listing the folder."""
    return tuple(name.replace("_", "-") for name in names_in(COMMANDS))


def command_module(name: str) -> ModuleType:
    """The file of a command."""
    return import_module(f"{COMMANDS}.{name.replace('-', '_')}")


def summary_of(module: ModuleType) -> str:
    """A command's line in the overview: the first of its file's docstring."""
    return (module.__doc__ or "").strip().splitlines()[0]


def _overview() -> str:
    modules = {name: command_module(name) for name in command_names()}
    width = max(map(len, modules)) + 2
    groups = {work: [name for name, module in modules.items() if module.COMMAND.work is work] for work in Work}
    lines = []
    for work, names in groups.items():
        lines += ["", f"{work}:"]
        for name in names:
            said = f"  {name:<{width}}{summary_of(modules[name])}"
            lines += textwrap.wrap(said, help_width(), subsequent_indent=" " * (width + 2), drop_whitespace=True)
    return "\n".join(
        [
            "usage: duo-oracle COMMAND ...",
            "",
            "The oracle of token-adaptive compute: which branch each token should take at each layer of a Duo-LLM.",
            "duo-oracle COMMAND --help shows a command's options and examples.",
            *lines,
            "",
            "to start:",
            "  duo-oracle search duo-tiny holdout:prose --max-sequences 4 --out runs/first",
            "  duo-oracle difficulty runs/first --top 20",
        ]
    )
