"""Numbers of a model's layers as people write them: `18-27`, or `3,5,8-11`.

Knows nothing of models or patterns. Numbers count from 0, as patterns do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from duo_oracle.oracle.base.errors import InputError

_PART = re.compile(r"(?P<first>[0-9]{1,9})(?:-(?P<last>[0-9]{1,9}))?")


def format_layers(layers: Sequence[int]) -> str:
    """The rising numbers `layers`, neighbours as ranges: `18-27,29`."""
    parts: list[list[int]] = []  # first and last of each range, or one number alone
    for layer in layers:
        if parts and layer == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], layer]
        else:
            parts.append([layer])
    return ",".join("-".join(map(str, part)) for part in parts)


def parse_layers(text: str, depth: int, what: str = "route-layers") -> tuple[int, ...]:
    """The layers that `text` names, of a model of `depth` layers: the inverse of `format_layers`. `what` names the option.

    Raises InputError for another form, for numbers that repeat or do not rise, and for a layer that the model lacks.
    """
    layers: list[int] = []
    for part in text.split(","):
        form = _PART.fullmatch(part.strip())
        first = int(form["first"]) if form else depth
        last = int(form["last"] or first) if form else depth
        # Compared before the range is made, so that a mistyped 1-999999999 costs no memory.
        if not (layers[-1] if layers else -1) < first <= last < depth:
            raise InputError(
                f"{what} are numbers of the model's {depth} layers, 0 to {depth - 1} and rising, such as 18-27 or 3,5,8-11; "
                f"got {text!r}"
            )
        layers.extend(range(first, last + 1))
    return tuple(layers)
