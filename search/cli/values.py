"""A string of the command line, or a value of YAML or of Python, as the type that an option's field declares.

Knows types, and no option.
"""

from __future__ import annotations

import re
import types
import typing
from decimal import Decimal
from enum import StrEnum
from typing import Any

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.places import named_place
from duo_oracle.oracle.base.ranges import of_64_bits
from duo_oracle.oracle.base.remote import is_remote, place_of
from duo_oracle.oracle.base.settings import read_pairs

_ADDRESS = re.compile(r"ray://")  # of a cluster, which is no place of files
_MULTIPLES = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}


def kind_of(hint: Any) -> tuple[type, bool]:
    """The type of one value of an annotation, and whether there may be several: `tuple[str, ...]` is (str, True)."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(choice for choice in typing.get_args(hint) if choice is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    if typing.get_origin(hint) is dict:
        return dict, True
    return hint, False


def convert(spelling: str, hint: Any, value: Any, uri: bool = False) -> Any:
    """`value`, a string of the command line or a value of YAML, as the field's type. `uri`: a text may name a place in a store."""
    kind, many = kind_of(hint)
    if kind is dict:
        return _mapping(spelling, value, uri)
    if many:
        return tuple(_scalar(spelling, kind, item, uri) for item in (value if isinstance(value, list) else [value]))
    return _scalar(spelling, kind, value, uri)


def _mapping(spelling: str, value: Any, uri: bool) -> dict[str, str]:
    if isinstance(value, dict):
        found = {str(key): str(item) for key, item in value.items()}
    else:
        found = read_pairs(f"{spelling} takes", map(str, value if isinstance(value, list) else [value]))
    return {key: place_of(item) for key, item in found.items()} if uri else found


def _scalar(spelling: str, kind: type, value: Any, uri: bool) -> Any:
    if kind is bool:
        if not isinstance(value, bool):
            raise InputError(f"{spelling} is true or false; got {value!r}")
        return value
    if isinstance(value, bool | list | dict | set):
        raise InputError(f"{spelling} takes one value; got {value!r}")
    if kind is int:
        return of_64_bits(spelling, value if isinstance(value, int) else _whole(spelling, str(value)))
    if kind is float:
        try:
            return float(value)
        except (ValueError, OverflowError):  # a whole number of Python's may be greater than any float
            raise InputError(f"{spelling} is a number; got {value!r}") from None
    if issubclass(kind, StrEnum):
        return kind(check_choice(spelling, str(value), kind))
    _check_text(spelling, str(value))
    if _ADDRESS.match(str(value)):
        return str(value)
    name, place = named_place(str(value))
    if not uri and is_remote(place):
        raise InputError(f"{spelling} is a path of this machine (or file:///PATH); got {str(value)!r}")
    return name + (place_of(place) if place else "")


def _whole(spelling: str, text: str) -> int:
    """A whole number, also in thousands, millions or billions."""
    plain = re.fullmatch(r"[+-]?\d[\d_]*", text)
    short = re.fullmatch(r"([+-]?\d[\d_]*(?:\.\d+)?)([kKMGB])", text)
    value = Decimal(text) if plain else Decimal(short[1]) * _MULTIPLES[short[2]] if short else None
    if value is None or value != int(value):
        raise InputError(f"{spelling} is a whole number such as 3, 10_000, 64k or 1.5M; got {text!r}")
    return int(value)


def _check_text(spelling: str, text: str) -> None:
    """Raises InputError for what no file can be named and no run can keep: a run says its options in UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{spelling} is text of UTF-8; got {text!r}") from None
    if "\0" in text:
        raise InputError(f"{spelling} holds no NUL; got {text!r}")
