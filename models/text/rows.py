"""What stands in one file of data: a text in parts, or rows with their places. Knows nothing of documents and tokens.

A text is read in parts and a table a few rows at a time, so that memory does not grow with the file. Only UTF-8 is text: bytes that
are not, and what a binary file, another encoding or a Git LFS pointer looks like, are refused with the place.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from duo_oracle.models.text.sources import DataFile, Kind
from duo_oracle.oracle.base.columns import refuse_doubled
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.json_text import parsed_json
from duo_oracle.oracle.base.lfs import refuse_pointer
from duo_oracle.oracle.base.parquet import refused_as
from duo_oracle.oracle.base.threads import ready_arrow

FIELDS = ("text", "tokens", "input_ids", "attention_mask", "document")
_PART = 1 << 16  # bytes of a text that are read at once
_ROWS = 64  # rows of a table that are read at once
_OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def text_parts(file: DataFile) -> Iterator[str]:
    """The text of a file in parts, without a byte order mark. Raises InputError, naming the byte, for what is no UTF-8 text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    n_before = 0
    with _opened(file) as stream:
        while chunk := _read(stream, file):
            if n_before == 0:
                _check_head(chunk, file.shown)
                chunk_start = len(codecs.BOM_UTF8) if chunk.startswith(codecs.BOM_UTF8) else 0
            else:
                chunk_start = 0
            if b"\0" in chunk:
                place = n_before + chunk.index(b"\0")
                raise InputError(f"{file.shown}: text must hold no NUL byte, as binary files and UTF-16 do; byte {place} is one")
            at = n_before + chunk_start - len(decoder.getstate()[0])
            try:
                part = decoder.decode(chunk[chunk_start:])
            except UnicodeDecodeError as fault:
                raise _not_utf8(file.shown, at + fault.start, fault) from None
            n_before += len(chunk)
            if part:
                yield part
    at = n_before - len(decoder.getstate()[0])
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as fault:
        raise _not_utf8(file.shown, at + fault.start, fault) from None


def rows_of(file: DataFile) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file with their places: texts as strings or as bytes that are still to be decoded (`utf8`)."""
    if file.kind == Kind.JSON_LINES:
        return _json_rows(file)
    return _table_rows(file)


def utf8(content: bytes, where: str) -> str:
    """The text of `content`. Raises InputError, naming `where` and the byte, for bytes that are not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise _not_utf8(where, fault.start, fault) from None


def refuse_surrogates(text: str, what: str) -> None:
    """Raises InputError for half of a surrogate pair, which JSON and Python can write and which is no character."""
    try:
        text.encode()
    except UnicodeEncodeError as fault:
        raise InputError(
            f"{what} must be UTF-8; character {fault.start} is {text[fault.start]!a}, half of a surrogate pair"
        ) from None


def _not_utf8(where: str, place: int, fault: UnicodeDecodeError) -> InputError:
    return InputError(
        f"{where}: text must be UTF-8; byte {place} is {fault.object[fault.start]:#04x} "
        "(iconv -f ENCODING -t UTF-8 converts text of another encoding)"
    )


def _check_head(head: bytes, shown: str) -> None:
    """Raises InputError for a file whose first bytes say that it is not the text that its name promises."""
    refuse_pointer(head, shown)
    for mark, encoding in _OTHER_ENCODINGS.items():
        if head.startswith(mark):
            raise InputError(f"{shown}: text must be UTF-8; its mark says {encoding} (iconv -f {encoding} -t UTF-8 converts it)")


@contextmanager
def _opened(file: DataFile) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed."""
    if file.compression is None:
        with file.path.open("rb") as stream:
            yield stream
        return
    import pyarrow as pa  # here: text needs no Arrow

    with file.path.open("rb") as raw:
        _check_head(raw.read(64), file.shown)
    with pa.input_stream(str(file.path), compression=file.compression) as stream, io.BufferedReader(stream) as buffered:
        yield buffered


def _read(stream: IO[bytes], file: DataFile) -> bytes:
    try:
        return stream.read(_PART)
    except OSError as fault:
        raise _damaged(file, fault) from None


def _damaged(file: DataFile, fault: OSError) -> OSError | InputError:
    """What a decompressor says of its file; a fault of the disk names the file itself."""
    if file.compression is None:
        return fault
    return InputError(f"{file.shown}: not a whole {file.compression} file: {str(fault).splitlines()[0]}")


def _json_rows(file: DataFile) -> Iterator[tuple[str, dict[str, Any]]]:
    with _opened(file) as lines:
        number = 0
        while True:
            try:
                line = lines.readline()
            except OSError as fault:
                raise _damaged(file, fault) from None
            if not line:
                return
            number += 1
            where = f"{file.shown}, row {number}"
            if number == 1:
                _check_head(line, file.shown)
            line = line.removeprefix(codecs.BOM_UTF8)  # of the file, or of one of those that were joined to it
            if line.strip():
                yield where, _json_object(utf8(line, where), where)


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        row = parsed_json(line, surrogates=True)  # its place in the text is said later
    except ValueError as fault:
        raise InputError(f"{where}: each line must be a JSON object; {fault}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: each line must be a JSON object; got {row!r:.80}")
    return row


def _table_rows(file: DataFile) -> Iterator[tuple[str, dict[str, Any]]]:
    with file.path.open("rb") as raw:
        _check_head(raw.read(64), file.shown)
    number = 0
    with refused_as(file.shown, "Parquet" if file.kind == Kind.PARQUET else "Arrow"):
        for names, batch in _parquet_batches(file) if file.kind == Kind.PARQUET else _arrow_batches(file):
            for row in rows_in(names, batch):
                number += 1
                yield f"{file.shown}, row {number}", row


def rows_in(names: list[str], batch: Any) -> Iterator[dict[str, Any]]:
    """The rows of a batch of Arrow that holds the columns of `names` that are wanted; the others are None."""
    columns = {name: _values(batch.column(name)) for name in batch.schema.names}
    for place in range(batch.num_rows):
        yield dict.fromkeys(names) | {name: values[place] for name, values in columns.items()}


def wanted_columns(names: list[str], column: str | None, shown: str) -> list[str]:
    """Those of a table's columns that are read. Raises InputError where one of them is there twice."""
    wanted = [name for name in names if name in FIELDS or name == column]
    refuse_doubled(names, wanted, shown)
    return wanted


def _parquet_batches(file: DataFile) -> Iterator[tuple[list[str], Any]]:
    import pyarrow.parquet as pq

    ready_arrow()
    with pq.ParquetFile(file.path) as table:
        names = table.schema_arrow.names
        for batch in table.iter_batches(batch_size=_ROWS, columns=wanted_columns(names, file.column, file.shown)):
            yield names, batch


def _arrow_batches(file: DataFile) -> Iterator[tuple[list[str], Any]]:
    """Batches of an Arrow file, or of a stream, as Hugging Face datasets are saved."""
    import pyarrow as pa

    with pa.memory_map(str(file.path)) as mapped:
        is_file = mapped.read(6) == b"ARROW1"
        mapped.seek(0)
        if is_file:
            opened = pa.ipc.open_file(mapped)
            batches = (opened.get_batch(place) for place in range(opened.num_record_batches))
        else:
            opened = pa.ipc.open_stream(mapped)
            batches = iter(opened)
        names = opened.schema.names
        for batch in batches:
            chosen = batch.select(wanted_columns(names, file.column, file.shown))
            for start in range(0, batch.num_rows, _ROWS):
                rows = chosen.slice(start, _ROWS)
                for values in rows.columns:  # offsets that lead out of the file would end the process
                    _undecoded(values).validate(full=True)
                yield names, rows


def _values(column: Any) -> list[Any]:
    """A column's values in Python; text as bytes, because Arrow does not look whether they are UTF-8."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.binary())
    return _undecoded(column).to_pylist()


def _undecoded(column: Any) -> Any:
    """A column of text as one of bytes, in the same memory: whether they are UTF-8 is looked at row by row."""
    import pyarrow as pa

    kinds = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    return column.view(kinds[column.type]) if column.type in kinds else column
