"""Settings that a strategy or a router has of its own: declared in one frozen dataclass, read from KEY=VALUE, listed for a help.

    @dataclass(frozen=True)
    class Settings(OwnSettings):
        width: int = setting(4, "patterns held per token", least=1)
        direction: str = setting("up", "up adds, down takes away", choices=("up", "down"))

Knows no strategy and no router.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError

T = TypeVar("T")
S = TypeVar("S", bound="OwnSettings")


def setting(
    default: T, help: str, *, least: float | None = None, most: float | None = None, choices: Iterable[str] | None = None
) -> T:
    """A field of a settings dataclass: its default, which says its type too, a line of help, and the values that it may have."""
    law = {"help": help, "least": least, "most": most, "choices": None if choices is None else tuple(choices)}
    return field(default=default, metadata=law)


@dataclass(frozen=True)
class OwnSettings:
    """What all settings share: a value outside its law is refused when they are made."""

    def __post_init__(self) -> None:
        for each in fields(self):
            _check(f"setting {each.name}", each, getattr(self, each.name))


def read_settings(owner: str, settings: type[S], raw: Mapping[str, str]) -> S:
    """The settings with the given values in place of defaults. `owner` is who has them: `strategy beam`.

    Raises InputError for an unknown key, with the nearest one, and for a value of another type or outside its law.
    """
    declared = {each.name: each for each in fields(settings)}
    values = {}
    for key, text in raw.items():
        if not declared:
            raise InputError(f"{owner} has no settings; got {key!r}")
        check_choice(f"setting of {owner}", key, declared)
        name = f"setting {key} of {owner}"
        values[key] = _parsed(name, declared[key].default, text)
        _check(name, declared[key], values[key])
    return settings(**values)


def read_pairs(what: str, items: Iterable[str]) -> dict[str, str]:
    """{key: value} of texts KEY=VALUE. Raises InputError, beginning with `what`, for another form."""
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{what} KEY=VALUE; got {item!r}")
        pairs[key.strip()] = value.strip()
    return pairs


def _parsed(name: str, default: Any, text: str) -> Any:
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise InputError(f"{name} is true or false; got {text!r}")
        return text == "true"
    try:
        return type(default)(text)
    except ValueError:
        raise InputError(f"{name} is a {'whole number' if isinstance(default, int) else 'number'}; got {text!r}") from None


def _check(name: str, declared: Field[Any], value: Any) -> None:
    least, most, choices = (declared.metadata.get(key) for key in ("least", "most", "choices"))
    if choices is not None:
        check_choice(name, value, choices)
    elif least is not None and most is not None and not least <= value <= most:
        raise InputError(f"{name} must lie between {least:g} and {most:g}; got {value:g}")
    elif least is not None and not least <= value < math.inf:
        raise InputError(f"{name} must be a number and at least {least:g}; got {value:g}")


def listed_settings(source: Path) -> dict[str, str]:
    """{KEY=DEFAULT: help} of the class `Settings` in a module, read from its source: the module may import what is slow to load."""
    return {
        f"{name}={str(default).lower() if isinstance(default, bool) else default}": help
        for node in ast.walk(ast.parse(source.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
        for name, default, help in map(_declared, node.body)
        if name
    }


def _declared(line: ast.stmt) -> tuple[str, Any, str]:
    """Name, default and help of a line `name: type = setting(default, help, ...)`; no name for another line."""
    match line:
        case ast.AnnAssign(ast.Name(name), value=ast.Call(ast.Name("setting"), [default, help, *_])):
            return name, ast.literal_eval(default), ast.literal_eval(help)
    return "", None, ""
