"""What data can do to a terminal: nothing."""

from __future__ import annotations

import io
import json

import pytest

from duo_oracle.oracle.base.shown import TerminalText, json_text, one_line

STEERING = [
    "\x1b[2J",
    "\a",
    "\b",
    "\x7f",
    "\x9b31m",
    "\u202e",
    "\u2066",
    "\u200b",
    "\u2028",
    "\x85",
    "\x00",
    "\ud800",
    "\U000e0001",
]


def test_one_line_escapes_what_steers_a_terminal_and_keeps_the_rest() -> None:
    assert one_line("a\nb\tc\x1b[31m\u202e caf\u00e9 \u201cyes\u201d") == "a\\nb\\tc\\x1b[31m\\u202e caf\u00e9 \u201cyes\u201d"


@pytest.mark.parametrize("text", STEERING)
def test_nothing_that_steers_a_terminal_passes(text: str) -> None:
    printed = io.StringIO()
    print(f"of {text} caf\u00e9", "\rover it", file=TerminalText(printed))  # type: ignore[arg-type]
    print(f"of {text} caf\u00e9 \rover it", file=TerminalText(printed, bars=True))  # type: ignore[arg-type]
    lines = printed.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(" caf\u00e9 \\rover it")
    assert all(c.isprintable() for c in lines[0])
    shown = json_text({"a": text + "\u00e9"}, indent=1)
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert "\u00e9" in shown
    assert json.loads(shown) == {"a": text + "\u00e9"}


def test_a_progress_bar_moves_on_stderr() -> None:
    printed = io.StringIO()
    stream = TerminalText(printed, bars=True)
    for text in ("\r 10%|#", "\r", "\x1b[A", "\n"):
        stream.write(text)
    assert printed.getvalue() == "\r 10%|#\r\x1b[A\n"


def test_a_letter_that_the_terminal_has_not_is_an_escape() -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii", write_through=True) as stream:
        TerminalText(stream).write("caf\u00e9")
        assert raw.getvalue() == b"caf\\xe9"
