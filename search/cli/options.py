"""From a frozen dataclass to a command line: each field is an option, declared once, beside the code that it configures.

default < `--config FILE.yaml` < command line. Knows no particular command. A field's line of help is its entry in the
docstring's `Args:`; its choices are those of its StrEnum; `metadata={"flag": ...}` gives another name on the command line.
"""

from __future__ import annotations

import argparse
import inspect
import re
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.settings import read_pairs
from duo_oracle.search.cli.command import Command

_MULTIPLES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
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
    by_name = {field.name: field for field in fields(command.options)}
    config = values.pop("config", None)
    merged = (_read_yaml(config, by_name) if config is not None else {}) | values
    spelling = _spelling(command)
    for field in by_name.values():
        if _is_required(field) and merged.get(field.name) in (None, []):
            raise InputError(f"{spelling[field.name]} is required; see {parser.prog} --help")
    hints = typing.get_type_hints(command.options)
    return command.options(**{key: convert(spelling[key], hints[key], value) for key, value in merged.items()})


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
    parser = Parser(
        prog=f"duo-oracle {name}",
        usage=_usage(name, command),
        description=summary,
        epilog="examples:\n" + "\n".join(f"  {line}" for line in command.examples),
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=120),
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    hints, help_of = typing.get_type_hints(command.options), argument_docs(command.options)
    for field in fields(command.options):
        kind, many = _kind(hints[field.name])
        text = help_of.get(field.name, "").replace("%", "%%")
        if field.name in command.positional:
            parser.add_argument(field.name, nargs="*" if many else "?", metavar=field.name.upper(), help=text)
        elif kind is bool:
            action = argparse.BooleanOptionalAction if field.default is True else "store_true"
            parser.add_argument(_flag(field), dest=field.name, action=action, help=text)
        else:
            choices = "|".join(kind) if issubclass(kind, StrEnum) else None
            parser.add_argument(
                _flag(field),
                dest=field.name,
                action="append" if many else "store",
                metavar=choices or _METAVARS.get(kind, field.name.split("_")[-1].upper()),
                help=text + _default(field),
            )
    parser.notes = command.notes
    parser.add_argument("--config", metavar="FILE.yaml", help="options from a file; the command line goes first")
    return parser


def _usage(name: str, command: Command) -> str:
    hints = typing.get_type_hints(command.options)
    words = ["duo-oracle", name]
    for field in fields(command.options):
        if field.name in command.positional:
            words.append(field.name.upper() + ("..." if _kind(hints[field.name])[1] else ""))
        elif _is_required(field):
            words.append(f"{_flag(field)} {field.name.upper()}")
    return " ".join([*words, "[options]"])


def argument_docs(options: type) -> dict[str, str]:
    """The entries of the docstring's `Args:`, each on one line."""
    lines = inspect.cleandoc(options.__doc__ or "").partition("\nArgs:\n")[2].splitlines()
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        entry = re.fullmatch(r"    (\w+): (.*)", line)
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif line.startswith("     ") and name:
            found[name] += " " + line.strip()
    return found


def _kind(hint: Any) -> tuple[type, bool]:
    """The type of one value of an annotation, and whether there may be several: `tuple[str, ...]` is (str, True)."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(choice for choice in typing.get_args(hint) if choice is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    if typing.get_origin(hint) is dict:
        return dict, True
    return hint, False


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
    near = get_close_matches(argument, known, n=1)
    raise InputError(f"unknown option {argument}; " + (f"did you mean {near[0]}?" if near else f"see {parser.prog} --help"))


def _read_yaml(path: str, by_name: dict[str, Field[Any]]) -> dict[str, Any]:
    import yaml

    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"--config {path} cannot be read as YAML: {error}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise InputError(f"--config {path} holds a mapping of options to values; got a {type(loaded).__name__}")
    names = {name: name for name in by_name} | {field.metadata.get("flag", name): name for name, field in by_name.items()}
    found = {}
    for key, value in loaded.items():
        spelling = str(key).replace("-", "_")
        check_choice(f"option in {path}", spelling, names)
        found[names[spelling]] = value
    return {name: value for name, value in found.items() if value is not None}


def convert(spelling: str, hint: Any, value: Any) -> Any:
    """`value`, a string of the command line or a value of YAML, as the field's type."""
    kind, many = _kind(hint)
    if kind is dict:
        return _mapping(spelling, value)
    if many:
        return tuple(_scalar(spelling, kind, item) for item in (value if isinstance(value, list) else [value]))
    return _scalar(spelling, kind, value)


def _mapping(spelling: str, value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        return {str(key): str(item) for key, item in value.items()}
    return read_pairs(f"{spelling} takes", map(str, value if isinstance(value, list) else [value]))


def _scalar(spelling: str, kind: type, value: Any) -> Any:
    if kind is bool:
        if not isinstance(value, bool):
            raise InputError(f"{spelling} is true or false; got {value!r}")
        return value
    if isinstance(value, bool | list | dict):
        raise InputError(f"{spelling} takes one value; got {value!r}")
    if kind is int:
        form = re.fullmatch(r"([+-]?\d[\d_]*)([kMG]?)", str(value))
        if form is None:
            raise InputError(f"{spelling} is a whole number such as 3, 10_000 or 10M; got {value!r}")
        return int(form[1]) * _MULTIPLES[form[2]]
    if kind is float:
        try:
            return float(value)
        except ValueError:
            raise InputError(f"{spelling} is a number; got {value!r}") from None
    if issubclass(kind, StrEnum):
        return kind(check_choice(spelling, str(value), kind))
    return str(value)
