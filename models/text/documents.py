"""Documents, one at a time: a text file is one, and so is a row of `.jsonl`, `.parquet` or `.arrow`. Knows nothing of models.

Rows have `text`, or `tokens` or `input_ids` (whole numbers; those that an `attention_mask` calls padding are left out), and
optionally `document`, a name. Rows of one source with one name are pieces of one document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from duo_oracle.models.text.rows import refuse_surrogates, rows_of, text_parts, utf8
from duo_oracle.models.text.sources import DataFile, find_files
from duo_oracle.oracle.base.errors import InputError

_MARK = "\ufeff"
_INT64 = 1 << 63
_PART = 1 << 16  # characters


@dataclass(frozen=True)
class Document:
    """One document, as text in parts or as token ids (the other is None), and where it stands, for messages."""

    name: str
    parts: Callable[[], Iterator[str]] | None
    token_ids: list[int] | None
    where: str

    @property
    def text(self) -> str | None:
        """The whole text."""
        return None if self.parts is None else "".join(self.parts())


def read_documents(sources: str | Iterable[str]) -> Iterator[Document]:
    """The documents of one or several sources, in their order, one in memory at a time, a text file only in parts.

    Raises InputError, naming file, row and value, for what is no document: an empty one, a row without text and tokens,
    bytes that are not UTF-8, a file that is not what its name says.
    """
    files = find_files(sources)
    n_rows: Counter[str] = Counter()
    n_documents = 0
    for file in files:
        if file.is_text:
            if file.listed and not any(part.strip() for part in text_parts(file)):
                continue
            n_documents += 1
            yield Document(file.name, partial(_parts_of, file), None, file.shown)
            continue
        for where, row in rows_of(file):
            yield document_of(row, where, file, f"{file.name}/{n_rows[file.name]}")
            n_rows[file.name] += 1
            n_documents += 1
    if n_documents == 0:
        raise InputError(f"{files[0].shown}: data must hold at least one document; it holds none")


def _slices(text: str) -> Iterator[str]:
    return (text[start : start + _PART] for start in range(0, len(text), _PART))


def _parts_of(file: DataFile) -> Iterator[str]:
    return _not_empty(text_parts(file), file.shown)


def _not_empty(parts: Iterator[str], where: str) -> Iterator[str]:
    """The same parts. Raises InputError after the last of a text that has nothing but spaces."""
    blank, begins = True, ""
    for part in parts:
        begins = begins or part[:80]
        blank = blank and not part.strip()
        yield part
    if blank:
        raise InputError(f"{where}: a document must not be empty; got text {begins!r:.80}")


def document_of(row: dict[str, Any], where: str, file: DataFile, default_name: str) -> Document:
    """The document of a row. Raises InputError, naming `where`, for a row that is none."""
    name = default_name if row.get("document") is None else file.label + _name(row["document"], where)
    field, value = _content(row, where, file.column)
    if isinstance(value, str | bytes) and (field == "text" or file.column):
        text = _text(value, where).removeprefix(_MARK)
        if not text.strip():
            raise InputError(f"{where}: a document must not be empty; got {field} {text!r:.80}")
        return Document(name, partial(_slices, text), None, where)
    if not isinstance(value, list):
        what = "text must be a string" if field == "text" else f"{field} must be a list of whole numbers"
        raise InputError(f"{where}: {what}; got {value!r:.80}")
    token_ids = _unpadded(value, row.get("attention_mask"), where) if field == "input_ids" else value
    if not token_ids:
        raise InputError(f"{where}: a document must not be empty; got {field} {value!r:.80}")
    for token_id in token_ids:
        if not isinstance(token_id, int) or isinstance(token_id, bool):
            raise InputError(f"{where}: {field} must be whole numbers; got {token_id!r:.80}")
        if not -_INT64 <= token_id < _INT64:
            raise InputError(f"{where}: {field} must be whole numbers of the model's vocabulary; got {token_id!r:.80}")
    return Document(name, None, token_ids, where)


def _content(row: dict[str, Any], where: str, column: str | None) -> tuple[str, Any]:
    """The field that holds the document, and its value."""
    for field in (column,) if column else ("text", "tokens", "input_ids"):
        if row.get(field) is not None:
            return field, row[field]
    wanted = (column,) if column else ("text", "tokens", "input_ids")
    fields = ", ".join(f"{name} (null)" if name in wanted else name for name in sorted(row)) or "no field"
    raise InputError(f"{where}: a row must have {' or '.join(', '.join(wanted).rsplit(', ', 1))}; it has {fields}")


def _name(value: Any, where: str) -> str:
    if isinstance(value, str | bytes):
        return _text(value, where, "document")
    if isinstance(value, int | float):
        return str(value)
    raise InputError(f"{where}: document must be a name; got {value!r:.80}")


def _text(value: str | bytes, where: str, field: str = "text") -> str:
    """The value as a string that UTF-8 can hold."""
    if isinstance(value, bytes):
        return utf8(value, where)
    refuse_surrogates(value, f"{where}: {field}")
    return value


def _unpadded(token_ids: list[Any], mask: Any, where: str) -> list[Any]:
    """The tokens that the row's attention_mask keeps: a run of ones, with padding before or behind."""
    if mask is None:
        return token_ids
    if not isinstance(mask, list) or len(mask) != len(token_ids) or any(kept not in (0, 1) for kept in mask):
        raise InputError(f"{where}: attention_mask must be a 0 or 1 for each of input_ids; got {mask!r:.80}")
    kept = [token_id for token_id, keep in zip(token_ids, mask, strict=True) if keep]
    first = mask.index(1) if kept else 0
    if any(not keep for keep in mask[first : first + len(kept)]):
        raise InputError(f"{where}: attention_mask must leave out tokens at the ends alone; it has a 0 between ones")
    return kept
