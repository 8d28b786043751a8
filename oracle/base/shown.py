"""Answers that show themselves: as text where they are printed, as HTML in a notebook. Knows no runs.

Texts come from data: whatever is put into HTML is escaped here, and whatever steers a terminal is written as an escape. The
command line prints through `TerminalText` alone, so that nothing passes by it.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from duo_oracle.oracle.base.whole_file import write_text_whole

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # a page of ours loads and runs nothing


_NOT_PLAIN = re.compile(r"[^\x20-\x7e]")
_UP = re.compile(r"(?:\x1b\[A)+")  # how tqdm goes up to another bar: a write of its own


def one_line(text: str) -> str:
    r"""`text` with line ends, tabs and other characters that steer a terminal written as escapes.

    >>> one_line(chr(27) + "[31m" + chr(0x202E)) == r"\x1b[31m\u202e"
    True
    """
    return _NOT_PLAIN.sub(lambda c: c[0] if c[0].isprintable() else c[0].encode("unicode_escape").decode(), text)


def several_lines(text: str) -> str:
    """The same for a text of our own making that may hold data: its line ends and tabs stay."""
    return _NOT_PLAIN.sub(lambda c: c[0] if c[0] in "\n\t" or c[0].isprintable() else one_line(c[0]), text)


def json_text(value: Any, **settings: Any) -> str:
    """JSON with readable letters, in which whatever steers a terminal is `\\uXXXX`; it reads back as the same value."""

    def escaped(found: re.Match[str]) -> str:
        character = found[0]
        if character == "\n" or character.isprintable():
            return character
        units = character.encode("utf-16-be", errors="surrogatepass")
        return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))

    return _NOT_PLAIN.sub(escaped, json.dumps(value, ensure_ascii=False, **settings))


class TerminalText:
    """stdout or stderr as the command line writes it: what steers a terminal is escaped, and what cannot be encoded.

    With `bars`, a write may begin or end with a carriage return, by which a progress bar moves.
    """

    def __init__(self, stream: TextIO, bars: bool = False) -> None:
        self._stream, self._bars = stream, bars

    def write(self, text: str) -> int:
        start = end = 0
        if self._bars:
            start = len(text) - len(text.lstrip("\r"))
            end = len(text) - max(start, len(text.rstrip("\r")))
        inner = text[start : len(text) - end]
        safe = inner if self._bars and _UP.fullmatch(inner) else several_lines(inner)
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        shown = safe.encode(encoding, errors="backslashreplace").decode(encoding)
        self._stream.write(text[:start] + shown + text[len(text) - end :])
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


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
