"""Good inputs made bad: bytes, JSON, tables and words, each changed by a seeded generator. Knows no command and no file's meaning.

A change is small as a rule, for what is nearly right gets furthest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

Rng = np.random.Generator

NUMBERS: list[Any] = [
    *(0, 1, -1, 2, 3, 7, 255, 65536, 10**5, 10**9, 2**31, 2**63, 10**12, -(10**9), 2**70, 10**400),
    *(0.5, -0.0, 1e-320, 1e-45, 1e38, 1e308, math.inf, -math.inf, math.nan),
]
TEXTS = [
    *("", " ", "x", "-", "0", "-1", "1e400", "null", "true", "..", "/", "../../escape", "a/b", "x" * 5000, "é", "日本"),
    *("\0", "\x1b[31mred\x07", "\u202eabc", "\x9b2J", "\ud83d", "\U0001f600", "\n\n", "\t", "=1+1", "%s%n", "{}", "<script>"),
    *("float8_e4m3fn", "s3://bucket/x", "file:///etc/passwd", "hf:a/b:c", "/dev/null", "/dev/zero", "~", "$HOME", "*", "BsB"),
]
PIECES = [
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x1b[2J",
    b"{",
    b"}",
    b"[",
    b'"',
    b"\\",
    b",",
    b"\r\n",
    b"\n",
    b"PAR1",
    b"NaN",
]


def pick(rng: Rng, options: Sequence[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


def bytes_of(rng: Rng, content: bytes) -> bytes:
    """One to three changes anywhere: bits, pieces put in, cut out, moved, doubled; or another length."""
    for _ in range(int(rng.integers(1, 4))):
        content = pick(rng, _BYTES)(rng, content)
    return content


def _place(rng: Rng, content: bytes) -> int:
    """Anywhere, but half of the time near an end, where formats say what follows."""
    n = len(content)
    if n and rng.random() < 0.5:
        near = int(rng.integers(min(n, 64)))
        return near if rng.random() < 0.5 else n - 1 - near
    return int(rng.integers(n + 1))


def _flip(rng: Rng, content: bytes) -> bytes:
    if not content:
        return b"\x80"
    at = min(_place(rng, content), len(content) - 1)
    return content[:at] + bytes([content[at] ^ (1 << int(rng.integers(8)))]) + content[at + 1 :]


def _overwrite(rng: Rng, content: bytes) -> bytes:
    at = _place(rng, content)
    number = int(pick(rng, [0, 1, 127, 255, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1]))
    new = number.to_bytes(8, "little")[: int(pick(rng, [1, 2, 4, 8]))]
    return content[:at] + new + content[at + len(new) :]


def _insert(rng: Rng, content: bytes) -> bytes:
    at, piece = _place(rng, content), pick(rng, PIECES)
    return content[:at] + piece * int(pick(rng, [1, 1, 1, 3, 5000])) + content[at:]


def _cut(rng: Rng, content: bytes) -> bytes:
    start, length = _place(rng, content), int(pick(rng, [1, 4, 16, 256, 4096]))
    return content[:start] + content[start + length :]


def _shorten(rng: Rng, content: bytes) -> bytes:
    return content[: _place(rng, content)]


def _double(rng: Rng, content: bytes) -> bytes:
    start, end = sorted((_place(rng, content), _place(rng, content)))
    return content[:end] + content[start:end] + content[end:]


def _swap(rng: Rng, content: bytes) -> bytes:
    a, b, c = sorted(_place(rng, content) for _ in range(3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def _other(rng: Rng, content: bytes) -> bytes:
    return pick(rng, [b"", b"\0" * 400, b"{}", b"[]", b"null", b"7", b'"x"', b"[" * 100_000, b"9" * 6000, rng.bytes(300)])


_BYTES: list[Callable[[Rng, bytes], bytes]] = [
    _flip,
    _flip,
    _overwrite,
    _overwrite,
    _insert,
    _cut,
    _shorten,
    _double,
    _swap,
    _other,
]


def any_value(rng: Rng, depth: int = 2) -> Any:
    kind = int(rng.integers(6))
    if kind <= 1:
        return pick(rng, NUMBERS)
    if kind <= 3:
        return pick(rng, TEXTS)
    if kind == 4 or not depth:
        return pick(rng, [None, True, False, [], {}])
    some = [any_value(rng, depth - 1) for _ in range(int(rng.integers(1, 4)))]
    return some if rng.random() < 0.5 else {pick(rng, TEXTS): value for value in some}


def json_of(rng: Rng, value: Any) -> str:
    """The value as JSON, one to three of its nodes changed; sometimes what no writer writes: deep, doubled keys, huge numbers."""
    value = json.loads(json.dumps(value))
    for _ in range(int(pick(rng, [1, 1, 1, 2, 3]))):
        value = _changed(rng, value)
    text = json.dumps(value)
    unusual = rng.random()
    if unusual < 0.02:
        text = "[" * 3000 + text + "]" * 3000
    elif unusual < 0.04:
        text = text.replace(":", ': {"deep":' + "[" * 4000 + "]" * 4000 + "},", 1)
    elif unusual < 0.06:
        text = text.replace(": 1", ": " + "1" * 6000, 1)
    elif unusual < 0.08 and text.startswith("{") and len(text) > 2:
        text = text[:-1] + ", " + text[1:]
    return text


def _changed(rng: Rng, value: Any) -> Any:
    """One node of it changed, at a random depth."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = pick(rng, sorted(value))
        how = rng.random()
        if how < 0.12:
            return {name: item for name, item in value.items() if name != key}
        if how < 0.16:
            return {**value, pick(rng, TEXTS): any_value(rng)}
        if how < 0.20:
            return {**{name: item for name, item in value.items() if name != key}, pick(rng, TEXTS): value[key]}
        if how < 0.26:
            return {**value, key: value[pick(rng, sorted(value))]}
        return {**value, key: _changed(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = int(rng.integers(len(value)))
        how = rng.random()
        if how < 0.1:
            return value[:at] + value[at + 1 :]
        if how < 0.2:
            return value[: at + 1] + value[at:]
        if how < 0.25:
            return value * int(pick(rng, [2, 40]))
        return [*value[:at], _changed(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, bool):
        return not value if rng.random() < 0.5 else any_value(rng)
    if isinstance(value, int) and rng.random() < 0.5:
        return pick(
            rng,
            [
                value + 1,
                value - 1,
                -value,
                value * 2,
                value // 2,
                value * 1000,
                value + 0.5 if abs(value) < 2**60 else 0.5,
                str(value),
            ],
        )
    if isinstance(value, str) and value and rng.random() < 0.4:
        at = int(rng.integers(len(value)))
        added, cut = value[:at] + pick(rng, TEXTS) + value[at:], value[:at] + value[at + 1 :]
        return pick(rng, [value[:at], added, value.upper(), value * 50, cut])
    return any_value(rng)


def table_of(rng: Rng, table: pa.Table) -> pa.Table:
    """A column left out, renamed, doubled, of another type, with nulls or values that no writer gives; rows gone or doubled."""
    for _ in range(int(pick(rng, [1, 1, 2]))):
        if not table.num_columns:
            return table
        number = int(rng.integers(table.num_columns))
        table = pick(rng, _TABLES)(rng, table, number)
    return table


def _drop(rng: Rng, table: pa.Table, n: int) -> pa.Table:
    return table.remove_column(n)


def _rename(rng: Rng, table: pa.Table, n: int) -> pa.Table:
    names = list(table.column_names)
    names[n] = pick(rng, [*[text for text in TEXTS if text.isprintable()], *names])
    return table.rename_columns(names)


def _retype(rng: Rng, table: pa.Table, n: int) -> pa.Table:
    values = table.column(n).to_pylist()
    types = [
        pa.string(),
        pa.large_string(),
        pa.binary(),
        pa.int8(),
        pa.uint64(),
        pa.float16(),
        pa.float64(),
        pa.bool_(),
        pa.date32(),
    ]
    types += [
        pa.date32(),
        pa.list_(pa.int64()),
        pa.null(),
        pa.struct([("x", pa.int32())]),
        pa.timestamp("us"),
        pa.decimal128(20, 2),
    ]
    kind = pick(rng, types)
    made = [_fitting(value, kind) for value in values]
    return table.set_column(n, table.column_names[n], pa.array(made, kind))


def _fitting(value: Any, kind: pa.DataType) -> Any:
    try:
        return pa.array([value], kind)[0].as_py()
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None


def _values(rng: Rng, table: pa.Table, n: int) -> pa.Table:
    """Some cells replaced by what the type can hold."""
    column = table.column(n)
    cells = column.to_pylist()
    for _ in range(int(pick(rng, [1, 1, 3, 20]))):
        if cells:
            cells[int(rng.integers(len(cells)))] = _fitting(any_value(rng), column.type)
    return table.set_column(n, table.column_names[n], pa.array(cells, column.type))


def _nulls(rng: Rng, table: pa.Table, n: int) -> pa.Table:
    return table.set_column(n, table.column_names[n], pa.nulls(table.num_rows, table.column(n).type))


def _fewer(rng: Rng, table: pa.Table, n: int) -> pa.Table:
    return table.slice(0, int(rng.integers(table.num_rows + 1)))


def _twice(rng: Rng, table: pa.Table, n: int) -> pa.Table:
    return pa.concat_tables([table, table])


def _shuffled(rng: Rng, table: pa.Table, n: int) -> pa.Table:
    return table.take(rng.permutation(table.num_rows))


def _column_twice(rng: Rng, table: pa.Table, n: int) -> pa.Table:
    return table.append_column(table.column_names[n], table.column(n))


def _unsaid(rng: Rng, table: pa.Table, n: int) -> pa.Table:
    return table.replace_schema_metadata({} if rng.random() < 0.5 else {b"duo_oracle.run_id": rng.bytes(8)})


_TABLES: list[Callable[[Rng, pa.Table, int], pa.Table]] = [
    *(_drop, _rename, _retype, _retype, _values, _values, _values, _nulls, _fewer, _twice, _shuffled, _column_twice, _unsaid)
]


def words_of(rng: Rng, words: list[str]) -> list[str]:
    """A command line with one to three of its words changed, left out, doubled or moved."""
    words = list(words)
    for _ in range(int(pick(rng, [1, 1, 2, 3]))):
        at = int(rng.integers(1, len(words))) if len(words) > 1 else 0
        how = rng.random()
        if how < 0.15 and len(words) > 2:
            del words[at]
        elif how < 0.25:
            words.insert(at, words[at])
        elif how < 0.4 and words[at]:
            cut = int(rng.integers(len(words[at]) + 1))
            words[at] = words[at][:cut] + pick(rng, TEXTS)[:40] + words[at][cut:]
        elif how < 0.7:
            words[at] = str(pick(rng, NUMBERS))
        else:
            words[at] = pick(rng, TEXTS)
    return [word.replace("\0", "").encode("utf-8", "replace").decode() for word in words]  # no shell passes others
