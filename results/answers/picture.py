"""A text with every token coloured by what compute buys on it, as SVG or PNG; and the same as plain text.

The loss at a position is that of the next token, so each token is coloured by the position before it, and a sequence's
first token by none. Token texts are data: they are drawn letter by letter as they are, line ends and tabs as signs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.answers.difficulty import source_of
from duo_oracle.results.measures import MEASURES
from duo_oracle.results.sql import connect
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.sentences import read_pieces
from duo_oracle.results.store.texts import one_line

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


def draw(
    run: StoredRun,
    file: str | os.PathLike[str],
    sequence: int = 0,
    budget: str | None = None,
    measure: str = "difficulty",
    start: int = 0,
    length: int | None = None,
    title: str | None = None,
) -> None:
    """Draws `length` tokens of a sequence from `start` on into `file`, whose ending (.svg, .png, .pdf) says how.

    Equal runs give equal bytes. Raises InputError for a sequence, budget, measure or ending that there is not.
    """
    from matplotlib import colormaps, rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    ending = picture_ending(file)
    tokens = coloured_tokens(run, sequence, budget, measure, start, length)
    values = [token.value for token in tokens if token.value is not None] or [0.0]
    signed = min(values) < 0
    # The rarest fiftieth saturates, or one token's colour would leave all the others pale.
    most = max(1e-3, float(np.quantile(np.abs(values), 0.98)))
    # White is zero, where compute buys nothing; what it costs, if anything, goes to blue on the same scale.
    norm, colours = Normalize(-most if signed else 0.0, most), colormaps["RdBu_r" if signed else "Reds"]
    n_rows = 1 + max(token.row for token in tokens)
    cell_width, cell_height = 0.105, 0.25  # inches of one letter of DejaVu Sans Mono at 12.5 points, and of one line
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "duo-oracle", "font.family": "DejaVu Sans Mono"}):
        figure = Figure(figsize=(COLUMNS * cell_width + 0.4, n_rows * cell_height + 0.95), layout=None)
        FigureCanvasAgg(figure)
        width, height = figure.get_size_inches()
        axes = figure.add_axes((0.2 / width, 0.7 / height, COLUMNS * cell_width / width, n_rows * cell_height / height))
        axes.set(xlim=(0, COLUMNS), ylim=(n_rows, 0))
        axes.axis("off")
        for token in tokens:
            ink = "black"
            if token.value is not None:
                red, green, blue, _ = colour = colours(float(norm(token.value)))
                axes.add_patch(Rectangle((token.column, token.row + 0.06), len(token.text), 0.88, color=colour, linewidth=0))
                ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.45 else "white"
            for offset, letter in enumerate(token.text):
                place = (token.column + offset + 0.5, token.row + 0.5)
                axes.text(*place, letter, fontsize=12.5, ha="center", va="center_baseline", color=ink, parse_math=False)
        legend = figure.add_axes((0.2 / width, 0.38 / height, 0.35, 0.12 / height))
        bar = figure.colorbar(
            ScalarMappable(norm, colours), cax=legend, orientation="horizontal", extend="both" if signed else "max"
        )
        bar.ax.tick_params(labelsize=8)
        said = title or f"{measure}: {MEASURES[measure].said(run.cheapest_name)}, nats"
        where = f"budget {run.budget(budget)}, context {run.context}"
        figure.text(0.2 / width + 0.37, 0.4 / height, f"{said}\n{where}", fontsize=8, va="center", parse_math=False)
        metadata = {"Date": None} if ending == ".svg" else {"CreationDate": None} if ending == ".pdf" else None
        figure.savefig(file, dpi=160, metadata=metadata)


def picture_ending(file: str | os.PathLike[str]) -> str:
    """How a picture is to be written, by the file's name: .svg, .png or .pdf. Raises InputError for another ending."""
    ending = Path(file).suffix.lower()
    if ending not in (".svg", ".png", ".pdf"):
        raise InputError(f"a picture is written as .svg, .png or .pdf; got {str(file)!r}")
    return ending


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
    what = MEASURES[measure].said(run.cheapest_name)
    legend = f"{_SHADES[1]} to {_SHADES[-1]}: {measure} ({what}) up to {most:.2f} nats; budget {run.budget(budget)}"
    return "\n".join([*lines, f"{legend}, context {run.context}"]) + "\n"


def coloured_tokens(
    run: StoredRun, sequence: int, budget: str | None, measure: str, start: int = 0, length: int | None = None
) -> list[ColouredToken]:
    """The tokens of a sequence laid out in lines of at most COLUMNS letters, broken between tokens, with their values."""
    source_of(run, [measure])
    pieces = read_pieces(run, [sequence]).get(sequence)
    if pieces is None:
        raise InputError(f"{run.path} has no sequence {sequence}")
    if not 0 <= start < len(pieces) or (length is not None and length < 1):
        raise InputError(f"sequence {sequence} has the tokens 0 to {len(pieces) - 1}; got start {start}, length {length}")
    values = _values(run, sequence, budget, measure)
    tokens: list[ColouredToken] = []
    row = column = 0
    for index in range(start, len(pieces) if length is None else min(len(pieces), start + length)):
        text = "".join(_SIGNS.get(letter) or one_line(letter) for letter in pieces[index])[:COLUMNS]
        if column + len(text) > COLUMNS:
            row, column = row + 1, 0
        tokens.append(ColouredToken(text, row, column, values.get(index - 1)))
        column += len(text)
        if pieces[index].endswith("\n"):
            row, column = row + 1, 0
    return tokens


def _values(run: StoredRun, sequence: int, budget: str | None, measure: str) -> dict[int, float]:
    chosen, source = run.budget(budget), source_of(run, [measure])
    connection = connect([run])
    try:
        rows = connection.execute(
            f"""SELECT position, {MEASURES[measure].sql} AS value FROM {source}
            WHERE sequence = ? AND budget_kind = ? AND budget IS NOT DISTINCT FROM ? AND value IS NOT NULL""",
            [sequence, chosen.kind.value, chosen.n_big],
        ).fetchall()
    finally:
        connection.close()
    return dict(rows)
