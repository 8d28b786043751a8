"""A text with every token coloured by what compute buys on it, as SVG or PNG; and the same as plain text.

The loss at a position is that of the next token, so each token is coloured by the position before it, and a sequence's
first token by none. Token texts are data: they are drawn letter by letter as they are, line ends and tabs as signs. Lines break
between words, and inside one only where it is longer than a line.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.shown import one_line
from duo_oracle.results.answers.difficulty import source_of
from duo_oracle.results.colours import COLD, HEAT, RAMPS
from duo_oracle.results.measures import MEASURES
from duo_oracle.results.sql import connect
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.sentences import read_pieces

if TYPE_CHECKING:
    from duo_oracle.results.drawing import Picture

COLUMNS = 88
_SHADES = " .:-=+*#@"
_SIGNS = {"\n": "\u23ce", "\t": "\u2192"}


@dataclass(frozen=True)
class ColouredToken:
    """A token as it is drawn, where, and its value in nats (None for the first of a sequence, and where there is none)."""

    text: str
    row: int
    column: int
    value: float | None


def draw_text(
    run: StoredRun,
    sequence: int = 0,
    budget: str | None = None,
    measure: str = "difficulty",
    start: int = 0,
    length: int | None = None,
    title: str | None = None,
) -> Picture:
    """`length` tokens of a sequence from `start` on. Equal runs give equal bytes.

    Raises InputError for a sequence, budget or measure that there is not.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.patches import Rectangle

    from duo_oracle.results.drawing import picture

    tokens = coloured_tokens(run, sequence, budget, measure, start, length)
    colouring = Colouring.of([token.value for token in tokens])
    n_rows = 1 + max(token.row for token in tokens)
    cell_width, cell_height = 0.105, 0.25  # inches of one letter of DejaVu Sans Mono at 12.5 points, and of one line
    size = (COLUMNS * cell_width + 0.4, n_rows * cell_height + 1.25)
    with picture(size, {"font.family": "DejaVu Sans Mono"}, layout=None) as figure:
        width, height = figure.get_size_inches()
        axes = figure.add_axes((0.2 / width, 0.7 / height, COLUMNS * cell_width / width, n_rows * cell_height / height))
        axes.set(xlim=(0, COLUMNS), ylim=(n_rows, 0))
        axes.axis("off")
        for token in tokens:
            ink = "black"
            if token.value is not None:
                colour, ink = colouring.at(token.value)
                axes.add_patch(Rectangle((token.column, token.row + 0.06), len(token.text), 0.88, color=colour, linewidth=0))
            for offset, letter in enumerate(token.text):
                place = (token.column + offset + 0.5, token.row + 0.5)
                axes.text(*place, letter, fontsize=12.5, ha="center", va="center_baseline", color=ink, parse_math=False)
        legend = figure.add_axes((0.2 / width, 0.38 / height, 0.35, 0.12 / height))
        bar = figure.colorbar(
            ScalarMappable(colouring.norm, colouring.colours), cax=legend, orientation="horizontal", extend=colouring.extend
        )
        bar.ax.tick_params(labelsize=8)
        said, where = _legend(run, budget, measure)
        n_scored = sum(token.value is not None for token in tokens)
        above = title or _first_upper(said)
        figure.text(0.2 / width, 1 - 0.26 / height, above, fontsize=11, weight="bold", va="center", parse_math=False)
        what = f"{where}\nsequence {sequence} of {run.name}, {n_scored} tokens; white: no difference"
        figure.text(0.2 / width + 0.4, 0.4 / height, what, fontsize=8, va="center", parse_math=False)
    return figure


@dataclass(frozen=True)
class Colouring:
    """How the values of a text become colours: white is zero, where compute buys nothing, and heat what it buys.

    What it costs, if anything, goes to blue with the same steps, so that equal colours are equal sizes; the scale ends where the
    values do, on either side.
    """

    least: float
    most: float
    extend: str
    """Which ends of the scale have values beyond them, as matplotlib's colour bars call it."""

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Colouring:
        """The colours of these values; the rarest fiftieth saturates, or one token's colour would leave all the others pale."""
        known = [value for value in values if value is not None] or [0.0]
        reach = max(1e-3, float(np.quantile(np.abs(known), 0.98)))
        lowest, highest = min(known), max(known)
        least, most = max(-reach, min(0.0, lowest)), min(reach, max(0.0, highest))
        beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
        return cls(least, most if most > least else least + reach, beyond[lowest < least, highest > most])

    @cached_property
    def norm(self) -> Any:
        from matplotlib.colors import Normalize

        return Normalize(self.least, self.most)

    @cached_property
    def colours(self) -> Any:
        """The part of the scale from cold over white to heat that lies between the two ends."""
        from matplotlib.colors import LinearSegmentedColormap

        reach = max(-self.least, self.most)
        ramps = RAMPS["light"]
        whole = LinearSegmentedColormap.from_list("whole", [*reversed(ramps[COLD][1:]), *ramps[HEAT]], N=1025)
        shares = np.linspace(0.5 + 0.5 * self.least / reach, 0.5 + 0.5 * self.most / reach, 512)
        return LinearSegmentedColormap.from_list("part", whole(shares), N=512)

    def at(self, value: float) -> tuple[tuple[float, float, float, float], str]:
        """The background of a value (red, green, blue, opacity) and the ink that is read on it, black or white."""
        red, green, blue, _ = colour = self.colours(float(self.norm(value)))
        return colour, "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"


def as_html(
    run: StoredRun,
    sequence: int = 0,
    budget: str | None = None,
    measure: str = "difficulty",
    start: int = 0,
    length: int | None = None,
) -> str:
    """The same as HTML that wraps as its reader's window does; a token's value is shown under the pointer.

    Token texts are escaped, and letters that would steer the page or its direction of writing are written out.
    """
    tokens = coloured_tokens(run, sequence, budget, measure, start, length, columns=None)
    colouring = Colouring.of([token.value for token in tokens])
    spans = []
    for token in tokens:
        text = html.escape(token.text) + "\n" * token.text.endswith(_SIGNS["\n"])
        if token.value is None:
            spans.append(f"<span>{text}</span>")
            continue
        colour, ink = colouring.at(token.value)
        background = "#" + "".join(f"{round(255 * part):02x}" for part in colour[:3])
        hint = f"{measure} {token.value:.3f} nats"
        spans.append(f'<span style="background: {background}; color: {ink}" title="{hint}">{text}</span>')
    said = html.escape("; ".join((*_legend(run, budget, measure), f"full colour from {colouring.most:.2f}")))
    style = "background: white; color: black; padding: 0.8em; font-family: monospace"
    text_style = "white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.6"
    return f'<div style="{style}"><div style="{text_style}">{"".join(spans)}</div><small>{said}</small></div>'


def _legend(run: StoredRun, budget: str | None, measure: str) -> tuple[str, str]:
    said = f"{measure}: {MEASURES[measure].said(run.words)}, nats"
    return said, f"budget {run.budget(budget)}, context {run.context}"


def as_text(
    run: StoredRun,
    sequence: int = 0,
    budget: str | None = None,
    measure: str = "difficulty",
    start: int = 0,
    length: int | None = None,
) -> str:
    """The same as text: under every line a second one whose signs say how much, from nothing to `@` for the most."""
    tokens = coloured_tokens(run, sequence, budget, measure, start, length)
    most = max([token.value for token in tokens if token.value is not None], default=0.0) or 1.0
    n_rows = 1 + max(token.row for token in tokens)
    letters = [[" "] * COLUMNS for _ in range(n_rows)]
    shades = [[" "] * COLUMNS for _ in range(n_rows)]
    for token in tokens:
        level = 0 if token.value is None else round(max(0.0, token.value) / most * (len(_SHADES) - 1))
        columns = slice(token.column, token.column + len(token.text))
        letters[token.row][columns] = token.text
        shades[token.row][columns] = _SHADES[level] * len(token.text)
    lines = ["".join(line).rstrip() for pair in zip(letters, shades, strict=True) for line in pair]
    what = MEASURES[measure].said(run.words)
    legend = f"{_SHADES[1]} to {_SHADES[-1]}: {measure} ({what}) up to {most:.2f} nats; budget {run.budget(budget)}"
    return "\n".join([*lines, f"{legend}, context {run.context}"]) + "\n"


def coloured_tokens(
    run: StoredRun,
    sequence: int,
    budget: str | None,
    measure: str,
    start: int = 0,
    length: int | None = None,
    columns: int | None = COLUMNS,
) -> list[ColouredToken]:
    """The tokens of a sequence laid out in lines of at most `columns` letters, broken between words, with their values."""
    source_of(run, [measure])
    pieces = read_pieces(run, [sequence]).get(sequence)
    if pieces is None:
        raise InputError(f"{run.place} has no sequence {sequence}")
    if not 0 <= start < len(pieces) or (length is not None and length < 1):
        raise InputError(f"sequence {sequence} has the tokens 0 to {len(pieces) - 1}; got start {start}, length {length}")
    values = _values(run, sequence, budget, measure)
    tokens: list[ColouredToken] = []
    row = column = 0
    shown = range(start, len(pieces) if length is None else min(len(pieces), start + length))
    for word in _words([(index, pieces[index]) for index in shown]):
        texts = ["".join(_SIGNS.get(letter) or one_line(letter) for letter in piece)[:columns] for _, piece in word]
        whole = sum(map(len, texts))
        if columns is not None and column and column + whole > columns:
            row, column = row + 1, 0
        for (index, piece), text in zip(word, texts, strict=True):
            if columns is not None and column + len(text) > columns:
                row, column = row + 1, 0
            tokens.append(ColouredToken(text, row, column, values.get(index - 1)))
            column += len(text)
            if piece.endswith("\n"):
                row, column = row + 1, 0
    return tokens


def _words(pieces: Sequence[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    """Tokens in groups that a line does not break: a new one begins at a space, after one, and at a line's end."""
    words: list[list[tuple[int, str]]] = []
    for number, (index, piece) in enumerate(pieces):
        if not number or piece[:1].isspace() or pieces[number - 1][1][-1:].isspace():
            words.append([])
        words[-1].append((index, piece))
    return words


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _values(run: StoredRun, sequence: int, budget: str | None, measure: str) -> dict[int, float]:
    chosen, source = run.budget(budget), source_of(run, [measure])
    connection = connect([run])
    try:
        rows = connection.execute(
            f"""SELECT position, {MEASURES[measure].sql} AS value FROM {source}
            WHERE sequence = ? AND budget = ? AND value IS NOT NULL""",
            [sequence, str(chosen)],
        ).fetchall()
    finally:
        connection.close()
    return dict(rows)
