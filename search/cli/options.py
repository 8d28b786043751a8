"""From a frozen dataclass to a command line: each field is an option, declared once, beside the code that it configures.

default < `--config FILE.yaml` < command line. Knows no particular command. A field's line of help is its entry in the
docstring's `Args:`, its class's or a base's, under the heading `# such as this` that groups it there; its choices are those of its
StrEnum. Of its metadata `flag` is another name on the command line, and `aliases` names that it had before: taken everywhere, shown
nowhere. One that is not `shown` is taken and left out of the help.
"""

from __future__ import annotations

import argparse
import inspect
import re
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, fields, replace
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, NoReturn

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.terminal import help_width
from duo_oracle.search.cli.command import Command
from duo_oracle.search.cli.config_file import read_config_file
from duo_oracle.search.cli.values import convert, kind_of

_PARAMETER = re.compile(r"`([a-z]\w*)(?:=([^`]*))?`")  # as library code names one in an error: `name` or `name=value`
_METAVARS: dict[type, str] = {int: "N", float: "X", dict: "KEY=VALUE"}


class Parser(argparse.ArgumentParser):
    """argparse that raises InputError instead of printing a usage and exiting, and writes a command's notes only when asked."""

    notes: Callable[[], str] | None = None

    def format_help(self) -> str:
        return super().format_help() + (f"\n{self.notes()}\n" if self.notes is not None else "")

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def read_options(name: str, command: Command, summary: str, argv: Sequence[str]) -> Any:
    """The command's options as `argv` and its `--config` file give them. Raises InputError for what does not fit a field."""
    parser = build_parser(name, command, summary)
    given, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        _refuse(parser, unknown[0])
    values = vars(given)
    by_name = {field.name: field for field in _in_order(command)}
    config = values.pop("config", None)
    merged = (read_config_file(config, names_of_fields(command.options)) if config is not None else {}) | values
    spelling = _spelling(command)
    for field in by_name.values():
        if _is_required(field) and merged.get(field.name) in (None, []):
            raise InputError(f"{spelling[field.name]} is required; see {parser.prog} --help")
    hints = typing.get_type_hints(command.options)
    return command.options(
        **{key: convert(spelling[key], hints[key], value, by_name[key].metadata.get("uri", False)) for key, value in merged.items()}
    )


def spell_parameters(text: str, command: Command | None) -> str:
    """An error's text with the parameters that it names, `out` or `keep='losses'`, as the command line spells them.

    >>> spell_parameters("`seq_len` must be at least 2; or search with `keep='losses'`", None)
    '--seq-len must be at least 2; or search with --keep losses'
    """
    spelling = {} if command is None else _spelling(command)

    def spelled(found: re.Match[str]) -> str:
        name, value = found.groups()
        option = spelling.get(name, "--" + name.replace("_", "-"))
        return option if value in (None, "True") else f"{option} {value.strip(chr(39))}"

    return _PARAMETER.sub(spelled, text)


def _spelling(command: Command) -> dict[str, str]:
    """How the command line writes each of the command's fields: DATA, --seq-len."""
    return {
        field.name: field.name.upper() if field.name in command.positional else _flag(field) for field in fields(command.options)
    }


def build_parser(name: str, command: Command, summary: str) -> Parser:
    """The command's options as argparse has them, for its help and for the page of the command line."""
    return fill_parser(Parser(**parser_settings(name, command, summary)), command)


def parser_settings(name: str, command: Command, summary: str) -> dict[str, Any]:
    """What argparse is told of a command before its options."""
    return {
        "prog": f"duo-oracle {name}",
        "usage": _usage(name, command),
        "description": summary,
        "epilog": "examples:\n" + "\n".join(f"  {line}" for line in command.examples),
        "formatter_class": lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=help_width()),
        "argument_default": argparse.SUPPRESS,
        "allow_abbrev": False,
    }


def fill_parser(parser: Parser, command: Command) -> Parser:
    """Adds the command's options, each in its group, and returns the parser."""
    hints = typing.get_type_hints(command.options)
    documented, headings = _documented(command.options)
    groups = {title: parser.add_argument_group(title) for title in headings}
    for field in _in_order(command):
        kind, many = kind_of(hints[field.name])
        entry = documented.get(field.name, _Entry("", ""))
        text = entry.text.replace("%", "%%")
        help_text = text + ("" if kind is bool else _default(field)) if field.metadata.get("shown", True) else argparse.SUPPRESS
        place = groups.get(entry.heading, parser)
        if field.name in command.positional:
            parser.add_argument(field.name, nargs="*" if many else "?", metavar=field.name.upper(), help=text)
        elif kind is bool:
            action = argparse.BooleanOptionalAction if field.default is True else "store_true"
            for flag, said in _spellings(field, help_text):
                place.add_argument(flag, dest=field.name, action=action, help=said)
        else:
            choices = "|".join(kind) if issubclass(kind, StrEnum) else None
            for flag, said in _spellings(field, help_text):
                place.add_argument(
                    flag,
                    dest=field.name,
                    action="append" if many else "store",
                    metavar=choices or _METAVARS.get(kind, field.name.split("_")[-1].upper()),
                    help=said,
                )
    parser.notes = command.notes
    parser.add_argument("--config", metavar="FILE.yaml", help="options from a file; the command line goes first")
    return parser


def _usage(name: str, command: Command) -> str:
    hints = typing.get_type_hints(command.options)
    words = ["duo-oracle", name]
    for field in _in_order(command):
        if field.name in command.positional:
            words.append(field.name.upper() + ("..." if kind_of(hints[field.name])[1] else ""))
        elif _is_required(field):
            words.append(f"{_flag(field)} {field.name.upper()}")
    return " ".join([*words, "[options]"])


def _in_order(command: Command) -> list[Field[Any]]:
    """The fields given by place, in their order, before all others."""
    places = {name: place for place, name in enumerate(command.positional)}
    return sorted(fields(command.options), key=lambda field: places.get(field.name, len(places)))


def names_of_fields(options: type) -> dict[str, str]:
    """The field that each name means, in a file or in Python: its own, its flag's, and those that it had before."""
    declared = {field.name: field for field in fields(options)}
    spelled = {other: name for name, field in declared.items() for other in (field.metadata.get("flag", name), *_aliases(field))}
    return {name: name for name in declared} | {other.replace("-", "_"): name for other, name in spelled.items()}


@dataclass(frozen=True)
class _Entry:
    """What a docstring's `Args:` say of a field, and the heading that it stands under; the first ones stand under none."""

    heading: str
    text: str


def _documented(options: type) -> tuple[dict[str, _Entry], list[str]]:
    """The entry of every field, and the headings in their order, of a class and its bases. The class's own text goes before a
    base's; a heading without entries of its own says where the base's stand."""
    found: dict[str, _Entry] = {}
    headings: list[str] = []
    for kind in options.__mro__:
        entries, titles = _written(vars(kind).get("__doc__") or "")
        headings += titles
        for name, entry in entries.items():
            own = found.get(name, entry)
            found[name] = replace(own, heading=own.heading or entry.heading)
    return found, list(dict.fromkeys(headings))


def _written(docstring: str) -> tuple[dict[str, _Entry], list[str]]:
    """The entries of one docstring's `Args:`, and its headings."""
    found: dict[str, _Entry] = {}
    headings = [""]
    name = ""
    for line in inspect.cleandoc(docstring).partition("\nArgs:\n")[2].splitlines():
        if line.startswith("    # "):
            headings.append(line.removeprefix("    # ").strip())
        elif entry := re.fullmatch(r"    (\w+): (.*)", line):
            name = entry[1]
            found[name] = _Entry(headings[-1], entry[2])
        elif line.startswith("     ") and name:
            found[name] = replace(found[name], text=f"{found[name].text} {line.strip()}")
    return found, headings[1:]


def argument_docs(options: type) -> dict[str, str]:
    """The entries of the docstring's `Args:`, and of its bases', each on one line."""
    return {name: entry.text for name, entry in _documented(options)[0].items()}


def _aliases(field: Field[Any]) -> tuple[str, ...]:
    return tuple(field.metadata.get("aliases", ()))


def _spellings(field: Field[Any], text: str) -> list[tuple[str, str]]:
    """Every flag of a field and its line of help: old spellings have none."""
    old = ["--" + alias.replace("_", "-") for alias in _aliases(field)]
    return [(_flag(field), text), *((flag, argparse.SUPPRESS) for flag in old)]


def _flag(field: Field[Any]) -> str:
    return "--" + field.metadata.get("flag", field.name).replace("_", "-")


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _default(field: Field[Any]) -> str:
    if _is_required(field):
        return " (required)"
    value = " ".join(field.default) if isinstance(field.default, tuple) else field.default
    return "" if value is MISSING or value is None or isinstance(value, bool) or value == "" else f" (default {value})"


def _refuse(parser: Parser, argument: str) -> NoReturn:
    if not argument.startswith("-"):
        raise InputError(f"unexpected argument {argument!r}; see {parser.prog} --help")
    argument = argument.split("=")[0]
    known = [spelling for action in parser._actions for spelling in action.option_strings]
    shown = [flag for action in parser._actions if action.help != argparse.SUPPRESS for flag in action.option_strings]
    near = get_close_matches(argument, shown, n=1) or get_close_matches(argument, known, n=1)
    raise InputError(f"unknown option {argument}; " + (f"did you mean {near[0]}?" if near else f"see {parser.prog} --help"))
