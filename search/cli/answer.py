"""The answer of a command that reads, in the form that `--format` asks for. Knows no command.

Light to import: the libraries of tables are loaded when there is one to write.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from duo_oracle.oracle.base.terminal import fitted, terminal_width

if TYPE_CHECKING:
    import pyarrow as pa

    from duo_oracle.results.answers.controls import Section


class Format(StrEnum):
    """What `--format` takes: the text for people, and four for programs and documents that hold every row and column."""

    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def write_answer(
    form: Format,
    table: Callable[[], pa.Table | pa.RecordBatchReader | Sequence[Mapping[str, Any]]],
    text: Callable[[], str] | None = None,
) -> None:
    """Writes an answer to stdout: as `text` says it for `table` where that is given, else the rows and columns of `table`.

    Raises InputError for parquet on a terminal.
    """
    if form is Format.TABLE and text is not None:
        print(fitted(text(), terminal_width()))
        return
    import pyarrow as pa

    from duo_oracle.results.formats import of_rows, write

    rows = table()
    write(rows if isinstance(rows, pa.Table | pa.RecordBatchReader) else of_rows(rows), form.value, sys.stdout.buffer)
    sys.stdout.flush()


def write_sections(form: Format, sections: Sequence[Section], spell: Callable[[str], str], after: str | None = None) -> None:
    """Writes an answer of several tables: as JSON an object of them, else their rows one after the other; for people each table,
    and the line `after` them, with parameters spelled by `spell`.

    Raises InputError as `write_answer`.
    """
    from duo_oracle.results.answers.controls import as_json
    from duo_oracle.results.answers.rows import section_rows

    if form is Format.JSON:
        print(as_json(sections), end="")
        return
    text = "\n\n".join([*map(str, sections), *([] if after is None else [after])])
    write_answer(form, lambda: section_rows(sections), lambda: spell(text))
