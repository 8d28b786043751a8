"""JSON of any origin, read: a value, or one line that says why there is none. What is nested too deeply and numbers of thousands of
digits are no JSON either; Python's own reader says so in errors of other types."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from duo_oracle.oracle.base.errors import InputError

_SURROGATE = re.compile(rb"\\[uU][dD][89a-fA-F]|\xed[\xa0-\xbf]")


def parsed_json(content: bytes | str, surrogates: bool = False) -> Any:
    r"""The value of a JSON text. Raises ValueError, in a line, for what is none; and for half of a surrogate pair, which cannot be
    written anywhere, unless the caller looks for `surrogates`.

    >>> parsed_json(b'{"a": [1, null]}')
    {'a': [1, None]}
    >>> parsed_json("[" * 100_000)
    Traceback (most recent call last):
        ...
    ValueError: it is nested too deeply
    """
    try:
        value = json.loads(content)
    except UnicodeDecodeError as fault:
        raise ValueError(f"it is not UTF-8: byte {fault.start} is {fault.object[fault.start]:#04x}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as fault:
        raise ValueError(f"{fault.msg} at line {fault.lineno}, column {fault.colno}") from None
    except ValueError as fault:  # a whole number of more digits than Python reads
        raise ValueError(str(fault).partition(";")[0]) from None
    if not surrogates and _SURROGATE.search(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as fault:
            raise ValueError(f"it has a text with {fault.object[fault.start]!a}, half of a surrogate pair") from None
    return value


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises InputError, naming the file, for what holds none; OSError for what cannot be read."""
    content = path.read_bytes()
    try:
        return parsed_json(content)
    except ValueError as fault:
        raise InputError(f"{path}: must be JSON; {fault}") from None
