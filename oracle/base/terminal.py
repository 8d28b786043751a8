"""How wide what is written may be: the terminal's columns where there is one, and no bound where the reader is a file or a pipe."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

_WIDEST_HELP = 120
_NARROWEST = 40
_NARROWEST_CELL = 8


def terminal_width(stream: Any = None) -> int | None:
    """The columns of the terminal that `stream` (default stdout) writes to; None where it writes to none."""
    stream = sys.stdout if stream is None else stream
    if not stream.isatty():
        return None
    return max(shutil.get_terminal_size().columns, _NARROWEST)


def help_width() -> int:
    """The columns of a help: those of the terminal, at most 120."""
    return min(terminal_width() or _WIDEST_HELP, _WIDEST_HELP)


def fitted_columns(rows: list[list[str]], numeric: Sequence[bool], width: int) -> tuple[list[list[str]], str]:
    """Rows of cells, two spaces apart, within `width` characters, and a line that says what was cut for it ("" for nothing).

    The longest texts are cut first, then the last columns are left out; numbers are never cut.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    names, most = rows[0], widths.copy()
    while sum(most) + 2 * (len(most) - 1) > width:
        cuttable = [at for at, wide in enumerate(most) if not numeric[at] and wide > max(_NARROWEST_CELL, len(names[at]))]
        if not cuttable:
            break
        most[max(cuttable, key=lambda at: most[at])] -= 1
    shown = len(most)
    while shown > 1 and sum(most[:shown]) + 2 * (shown - 1) > width:
        shown -= 1
    cells = [
        [cell if len(cell) <= wide else cell[: wide - 1] + "…" for cell, wide in zip(row[:shown], most, strict=False)]
        for row in rows
    ]
    cut = [name for name, wide, whole in zip(names[:shown], most, widths, strict=False) if wide < whole]
    said = [f"{', '.join(cut)} cut" if cut else "", f"left out: {', '.join(names[shown:])}" if shown < len(names) else ""]
    what = "; ".join(filter(None, said))
    return cells, f"({what}; a wider terminal, markdown, csv and json show all)" if what else ""


def fitted(text: str, width: int | None) -> str:
    """A text of lines within `width`: sentences are folded, and lines of a table (two spaces between cells) cut, which is said.

    >>> print(fitted("what was found at the end\\n  a  123456789", 12))
    what was
    found at the
    end
      a  123456…
    (lines of
    tables are
    cut to the
    terminal;
    --format csv
    or json
    shows all)
    """
    if width is None:
        return text.rstrip()
    lines, cut = [], False
    for line in text.rstrip().splitlines():
        if len(line) <= width:
            lines.append(line)
        elif re.search(r"\S {2,}\S", line) or line.startswith("| "):
            lines.append(line[: width - 1] + "…")
            cut = True
        else:
            lines += textwrap.wrap(line, width, subsequent_indent=" " * (len(line) - len(line.lstrip()))) or [""]
    note = "(lines of tables are cut to the terminal; --format csv or json shows all)"
    return "\n".join([*lines, *(textwrap.wrap(note, width) if cut else [])])
