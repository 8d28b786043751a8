"""Whether an identity says what readers ask it for: the types of what it says, and that its words are words of this program.

A hand or a disk may have changed a manifest, and its id with it. What is missing is said by whoever asks (`Identity`), for older
runs say less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import Gate, parse_table
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import SkipReading, parse_context

MOST_LETTERS = 10_000
_MOST = 2**63
_NUMBERS = (
    "n_letters",
    "n_layers",
    "seed",
    "seq_len",
    "null_draws",
    "max_sequences",
    "per_document",
    "stride",
    "min_context",
    "offset",
)
_TEXTS = (
    *("context", "branches", "skip", "dtype", "strategy", "model_fingerprint", "data_fingerprint", "keep", "device"),
    *("cheapest", "objective", "gate"),
)
_OBJECTS = ("settings", "null_temperatures", "reference")
_LISTS = ("budgets", "route_layers", "bos")
_ALWAYS_SAID = ("budgets", "context", "branches", "skip", "dtype", "strategy", "seed", "n_letters", "model_fingerprint")
_DTYPES = ("float32", "float64", "bfloat16")


class Identity(dict[str, Any]):
    """An identity as it is read: what it does not say, and is asked for, is bad input and no fault of the program."""

    def __missing__(self, key: str) -> Any:
        raise InputError(f"the run's manifest does not say {key}, which it must for this")


def check_identity(identity: Mapping[str, Any]) -> None:
    """Raises ValueError, in a line, for a value that no run of this program has."""
    for name in _ALWAYS_SAID:
        if name in identity and identity[name] is None:
            raise ValueError(f"{name} must not be null")
    for names, kind, what in ((_TEXTS, str, "a text"), (_OBJECTS, dict, "an object"), (_LISTS, list, "a list")):
        for name in names:
            if identity.get(name) is not None and not isinstance(identity[name], kind):
                raise ValueError(f"{name} must be {what}; got {identity[name]!r:.80}")
    for name in _NUMBERS:
        if identity.get(name) is not None:
            _check_number(name, identity[name])
    for name in ("budgets", "route_layers", "bos"):
        wanted = str if name == "budgets" else int
        for value in identity.get(name) or ():
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise ValueError(f"{name} must be a list of {'texts' if wanted is str else 'whole numbers'}; got {value!r:.80}")
    temperature = identity.get("null_temperature")
    if not (temperature in (None, "fit") or (_is_number(temperature) and temperature > 0)):
        raise ValueError(f"null_temperature must be a number above 0, or fit; got {temperature!r:.80}")
    for document, value in (identity.get("null_temperatures") or {}).items():
        if not (_is_number(value) and value > 0):
            raise ValueError(f"null_temperatures must be numbers above 0; got {value!r:.80} for {document!r:.80}")
    _check_words(identity)


def _check_words(identity: Mapping[str, Any]) -> None:
    n_letters = identity.get("n_letters", identity.get("n_layers"))
    if identity.get("dtype", "float32") not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}; got {identity['dtype']!r:.80}")
    table = parse_table(identity.get("branches", "sB"), identity.get("gate") or Gate.OWN)
    if identity.get("cheapest", "s") not in tuple(table.letters):
        raise ValueError(f"cheapest must be a letter of {table.written}; got {identity['cheapest']!r:.80}")
    if identity.get("skip") is not None and identity["skip"] not in tuple(SkipReading):
        raise ValueError(f"skip must be one of {', '.join(SkipReading)}; got {identity['skip']!r:.80}")
    if n_letters is None:
        return
    if not 1 <= n_letters <= MOST_LETTERS:
        raise ValueError(f"n_letters must lie between 1 and {MOST_LETTERS:,}; got {n_letters}")
    if identity.get("budgets") == []:
        raise ValueError("it has no budget")
    seen = set()
    for budget in identity.get("budgets") or ():
        meant = parse_budgets(budget, n_letters, max(1, table.dearest))
        if len(meant) != 1:
            raise ValueError(f"each of the budgets must be one; got {budget!r:.80}")
        if str(meant[0]) in seen:
            raise ValueError(f"each budget must stand once; got {budget!r:.80} again")
        seen.add(str(meant[0]))
    if identity.get("context") is not None:
        parse_context(identity["context"], n_letters, table=table)
    layers = identity.get("route_layers")
    if layers is not None and (len(layers) != n_letters or sorted(set(layers)) != layers or layers[0] < 0):
        raise ValueError(f"route_layers must be {n_letters} rising numbers of layers; got {layers!r:.80}")


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        raise ValueError(f"{name} must be a whole number from 0; got {value!r:.80}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
