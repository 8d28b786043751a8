"""Answers that show themselves: as text where they are printed, as HTML in a notebook. Knows no runs.

Texts come from data: whatever is put into HTML is escaped here.
"""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path

from duo_oracle.oracle.base.whole_file import write_text_whole

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # a page of ours loads and runs nothing


class Text(str):
    """A text of several lines, such as a table: a string in every way, which shows its lines where it is the last of a cell."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f'<pre style="line-height: 1.3">{html.escape(str(self))}</pre>'


class Html:
    """A piece of HTML that a notebook shows, and `save` writes as a page of its own."""

    def __init__(self, title: str, body: str) -> None:
        self.title, self.body = title, body

    def __repr__(self) -> str:
        return f"<{self.title}: shown in a notebook; save(FILE.html) writes it>"

    def _repr_html_(self) -> str:
        return self.body

    def save(self, file: str | os.PathLike[str]) -> Path:
        """Writes a page that needs no other file, and returns its path."""
        head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        page = (
            f"<!doctype html>\n<html><head>{head}<title>{html.escape(self.title)}</title></head>\n<body>{self.body}</body></html>\n"
        )
        path = Path(file)
        write_text_whole(path, page.encode("utf-8", errors="xmlcharrefreplace").decode("utf-8"))
        return path


def card(title: str, facts: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]] = ()) -> str:
    """HTML of a heading, what is known in a line each, and a table whose first row is its heading."""
    said = "".join(f"<div>{html.escape(name)}: <b>{html.escape(value)}</b></div>" for name, value in facts)
    table = ""
    if rows:
        lines = [_row(row, "th" if number == 0 else "td") for number, row in enumerate(rows)]
        table = f'<table style="margin-top: 0.5em">{"".join(lines)}</table>'
    return f"<div><div><b>{html.escape(title)}</b></div>{said}{table}</div>"


def _row(cells: Sequence[str], kind: str) -> str:
    return "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells) + "</tr>"
