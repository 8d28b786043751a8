"""Reads documents from `.txt`, `.jsonl` and `.parquet` files, one at a time. Knows nothing of tokens, windows or models.

A `.txt` file is one document. Rows of the others have `text`, or `tokens` (whole numbers), and optionally `document`, a name.
`holdout:prose`, `holdout:code`, `holdout:recent-prose` and `holdout:recent-code` name the holdouts that ship with the project.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duo_oracle.oracle.base.errors import InputError

HOLDOUT_PREFIX = "holdout:"
_HOLDOUTS = Path(__file__).parents[1] / "holdouts"


@dataclass(frozen=True)
class Document:
    """One document, as text or as token ids (the other is None), and where it stands, for messages."""

    name: str
    text: str | None
    token_ids: list[int] | None
    where: str


def resolve_source(source: str) -> Path:
    """The file that a source names. Raises InputError where there is none, or none of a known kind."""
    if source.startswith(HOLDOUT_PREFIX):
        path = _HOLDOUTS / f"{source.removeprefix(HOLDOUT_PREFIX)}.jsonl"
        if not path.is_file():
            available = ", ".join(sorted(f"{HOLDOUT_PREFIX}{file.stem}" for file in _HOLDOUTS.glob("*.jsonl")))
            raise InputError(f"unknown holdout {source!r}; available: {available}")
        return path
    path = Path(source)
    if not path.is_file():
        raise InputError(f"data is a file or one of the shipped holdouts; there is no file {source!r}")
    if path.suffix not in (".txt", ".jsonl", ".parquet"):
        raise InputError(f"data files end in .txt, .jsonl or .parquet; got {source!r}")
    return path


def read_documents(source: str) -> Iterator[Document]:
    """The documents of a source, in its order, one in memory at a time.

    Raises InputError, naming file, row and value, for what is no document: an empty one, a row without text and tokens,
    bytes that are not UTF-8, a file that is not what its name says.
    """
    path = resolve_source(source)
    if path.suffix == ".txt":
        rows: Iterator[tuple[str, dict[str, Any]]] = iter([(source, {"text": _utf8(path.read_bytes(), source)})])
    elif path.suffix == ".jsonl":
        rows = _json_rows(path, source)
    else:
        rows = _parquet_rows(path, source)
    n_documents = 0
    for where, row in rows:
        yield _document(row, where, default_name=path.stem if path.suffix == ".txt" else f"{path.stem}/{n_documents}")
        n_documents += 1
    if n_documents == 0:
        raise InputError(f"{source}: data must hold at least one document; it holds none")


def _document(row: dict[str, Any], where: str, default_name: str) -> Document:
    text, token_ids, name = row.get("text"), row.get("tokens"), row.get("document")
    name = default_name if name is None else str(name)
    if text is not None:
        if not isinstance(text, str):
            raise InputError(f"{where}: text must be a string; got {text!r:.80}")
        if not text.strip():
            raise InputError(f"{where}: a document must not be empty; got text {text!r:.80}")
        return Document(name, text, None, where)
    if token_ids is None:
        raise InputError(f"{where}: a row must have text or tokens; it has {', '.join(sorted(row)) or 'no field'}")
    if not isinstance(token_ids, list):
        raise InputError(f"{where}: tokens must be a list of whole numbers; got {token_ids!r:.80}")
    if not token_ids:
        raise InputError(f"{where}: a document must not be empty; got tokens []")
    for token_id in token_ids:
        if not isinstance(token_id, int) or isinstance(token_id, bool):
            raise InputError(f"{where}: tokens must be whole numbers; got {token_id!r}")
    return Document(name, None, token_ids, where)


def _utf8(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise InputError(f"{where}: text must be UTF-8; byte {fault.start} is {content[fault.start]:#04x}") from None


def _json_rows(path: Path, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{source}, row {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(_utf8(line, where))
            except json.JSONDecodeError as fault:
                raise InputError(f"{where}: each line must be a JSON object; {fault.msg} at column {fault.colno}") from None
            if not isinstance(row, dict):
                raise InputError(f"{where}: each line must be a JSON object; got {row!r:.80}")
            yield where, row


def _parquet_rows(path: Path, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa  # here: text needs no Arrow
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in ("text", "tokens", "document") if name in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(batch_size=64, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{source}, row {number}", row
    except pa.ArrowException as fault:
        raise InputError(f"{source}: not a readable Parquet file: {str(fault).splitlines()[0]}") from None
