"""Options given in Python: those of a command by the same names, with the values that a notebook has at hand.

Knows no particular options; a value becomes its field's type as a value of `--config FILE.yaml` does.
"""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any, TypeVar

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.search.cli.options import argument_docs, names_of_fields
from duo_oracle.search.cli.values import convert

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def options_of(kind: type[T], given: Mapping[str, Any]) -> T:
    """The options dataclass `kind` with the given values; None stands for a default.

    A number, a path, or several values where a text is meant are written as the command line has them: 4, ("any", 4), range(13).
    Raises InputError for a name that is no option, with the nearest one, and for a value that does not fit.
    """
    names = names_of_fields(kind)
    hints = typing.get_type_hints(kind)
    in_stores = {field.name: field.metadata.get("uri", False) for field in fields(typing.cast(Any, kind))}
    values = {}
    for name, value in given.items():
        field = names[check_choice("option", name, names)]
        if value is not None:
            values[field] = convert(f"`{name}`", hints[field], _plain(value, hints[field]), in_stores[field])
    return kind(**values)


def _plain(value: Any, hint: Any) -> Any:
    """`value` as YAML would hold it."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list | range | set | frozenset):
        items = [_plain(item, hint) for item in (value if isinstance(value, list | tuple | range) else sorted(value))]
        return ",".join(map(str, items)) if hint in (str, str | None) else items
    if isinstance(value, Mapping):
        return {key: str(item).lower() if isinstance(item, bool) else str(item) for key, item in value.items()}
    return value


def taking(kind: type, *explicit: str) -> Callable[[F], F]:
    """A decorator for a function of `**options`: its help, and a notebook's completion, list the options of `kind`.

    `explicit` are the function's own parameters, which are documented by it.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [parameter for parameter in signature.parameters.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
        docs, lines = argument_docs(kind), []
        for field in fields(kind):
            if field.name in (*explicit, *(parameter.name for parameter in own)):
                continue
            name = field.metadata.get("flag", field.name)
            default = field.default if field.default is not MISSING else None
            own.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=field.type))
            lines.append(f"    {name}: {docs.get(field.name, '')}")
        function.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
        function.__doc__ = (
            inspect.cleandoc(function.__doc__ or "") + "\n\nOptions, as of the command line:\n" + "\n".join(lines) + "\n"
        )
        return function

    return decorate
