"""Rows of a table that a command wrote with `--format json`, read for a report. Knows no command."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.json_text import parsed_json
from duo_oracle.oracle.base.remote import readable


def read_rows(file: str | os.PathLike[str], law: str, needed: Collection[str]) -> tuple[str, list[dict[str, Any]]]:
    """The file's name without its ending, and its rows as they are.

    `law` says what such a file is. Raises InputError, one line, for what is not a list of objects of texts and numbers that each
    have what is `needed`.
    """
    path = readable(file)
    try:
        rows = parsed_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{law}; {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{law}; {path} is not JSON: {error}") from None
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{law}; {path} holds {'an empty list' if rows == [] else 'a ' + type(rows).__name__}")
    for number, row in enumerate(rows):
        missing = [key for key in needed if not isinstance(row, dict) or row.get(key) is None]
        if missing:
            raise InputError(f"{law}; {path} row {number} lacks {missing[0]}")
        wrong = [key for key, value in row.items() if not isinstance(value, str | int | float | None)]
        if wrong:
            raise InputError(f"{law}; {path} row {number}: {wrong[0]} is neither a text nor a number")
    return path.stem, rows
