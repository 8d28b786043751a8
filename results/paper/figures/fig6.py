"""Figure 6: code coloured by all-small loss and by what the oracle takes off it.

Axes: N tokens.
"""

from __future__ import annotations

import keyword
import re
from functools import partial
from typing import Any

import numpy as np

from duo_oracle.results.answers.picture import COLUMNS, ColouredToken, coloured_tokens
from duo_oracle.results.paper.figure import Answer, PaperFigure, Table
from duo_oracle.results.paper.material import Material
from duo_oracle.results.statistics.effects import Ratio, effect, estimate, mean_over, ratio
from duo_oracle.results.store.positions import Positions

SHOWN = 120  # tokens in the picture
GROUPS = ("first of a line", "determined by the context", "other code", "comment or docstring")
_NAME = re.compile(r"[A-Za-z_]\w+")
_QUOTES = re.compile(r'"""|\'\'\'')


def groups(positions: Positions) -> np.ndarray:
    """The group of every target, a number into GROUPS.

    Comment or docstring: behind a `#` on its line, or within triple quotes. First of a line: nothing but spaces stands before it
    on its line. Determined by the context: a keyword of Python, or a name (two letters at least) that stands in the window
    before. Tokens are those of the model's vocabulary, so that a name may be several.
    """
    found_N = np.empty(len(positions.target_N), dtype=np.int64)
    for sequence in np.unique(positions.sequence_N):
        rows = np.flatnonzero(positions.sequence_N == sequence)
        before = str(positions.token_N[rows[0]])
        seen = {before.strip()}
        for row in rows:
            text = str(positions.target_N[row])
            found_N[row] = GROUPS.index(_group(before, text.strip(), seen))
            seen.add(text.strip())
            before += text
    return found_N


def _group(before: str, word: str, seen: set[str]) -> str:
    line = before.rpartition("\n")[2]
    if "#" in line or word.startswith("#") or len(_QUOTES.findall(before)) % 2 or _QUOTES.match(word):
        return "comment or docstring"
    if word and not line.strip():
        return "first of a line"
    if keyword.iskeyword(word) or (_NAME.fullmatch(word) and word in seen):
        return "determined by the context"
    return "other code"


def share_saved(positions: Positions, group_N: np.ndarray) -> Ratio:
    """What the oracle of any budget takes off the all-small loss of a group of tokens, as a share of it."""
    saved_N = positions.small_N - positions.loss_NK.min(axis=1)
    return ratio(positions.document_N, saved_N * group_N, positions.small_N * group_N)


def _code(material: Material) -> str:
    return next((name for name in material.holdouts if "code" in name), material.holdouts[-1])


def _answer(material: Material) -> Answer:
    holdout = _code(material)
    texts = {holdout: material.positions(holdout, "big"), f"text of all-big like {holdout}": material.positions(holdout, "sampled")}
    group_of = {name: groups(positions) for name, positions in texts.items()}
    rows, terms, starts = [], [], []
    for name, positions in texts.items():
        for index, group in enumerate(GROUPS):
            mine_N = group_of[name] == index
            if not mine_N.any():
                continue
            values = (positions.small_N, positions.big_N, positions.loss_NK.min(axis=1))
            cells = [estimate((1, mean_over(positions.document_N, each, mine_N))) for each in values]
            saved = estimate((1, share_saved(positions, mine_N)))
            rows.append((f"{name}: {group}", str(int(mine_N.sum())), *map(str, cells), str(saved)))
        first, names = (group_of[name] == index for index in (0, 1))
        terms.append([(1.0, share_saved(positions, names)), (-1.0, share_saved(positions, first))])
        others = mean_over(positions.document_N, positions.small_N, ~first)
        starts.append([(1.0, mean_over(positions.document_N, positions.small_N, first)), (-1.0, others)])
    what = f"{holdout}: the oracle takes off more of names and keywords that the context determines than of line starts"
    return Answer(
        effects=(effect(what, "share of the all-small loss", terms[0], terms[1]),),
        beside=(
            effect(
                f"{holdout}: line starts have a higher all-small loss than other tokens (no oracle, so no control)",
                "nats",
                starts[0],
                [],
            ),
        ),
        tables=(
            Table("Groups of tokens", ("text: tokens", "n", "all-small", "all-big", "oracle", "share taken off"), tuple(rows)),
        ),
        draw=partial(_draw, material),
        size=(9.6, 0.24 * _n_rows(_layout(material, "loss_cheapest")) * 2 + 1.6),
        notes=("Oracle: the best pattern of any budget. All in the context full.",),
    )


def _layout(material: Material, measure: str) -> list[ColouredToken]:
    run = material.run(_code(material), "big")
    positions = material.positions(_code(material), "big")
    best = positions.budgets[int(positions.loss_NK.mean(axis=0).argmin())]
    return coloured_tokens(run, int(positions.sequence_N[0]), best, measure, 0, SHOWN)


def _n_rows(tokens: list[ColouredToken]) -> int:
    return 1 + max(token.row for token in tokens)


def _draw(material: Material, figure: Any) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    positions = material.positions(_code(material), "big")
    best = positions.budgets[int(positions.loss_NK.mean(axis=0).argmin())]
    panels = figure.subplots(2, 1)
    titles = {
        "loss_cheapest": "(a) all-small loss, nats",
        "difficulty": f"(b) all-small loss minus the oracle's at k = {best}, nats",
    }
    for axes, (measure, title) in zip(panels, titles.items(), strict=True):
        tokens = _layout(material, measure)
        values = [token.value for token in tokens if token.value is not None]
        norm, colours = Normalize(0.0, max(1e-3, float(np.quantile(values, 0.98)))), colormaps["Reds"]
        axes.set(xlim=(0, COLUMNS), ylim=(_n_rows(tokens), 0))
        axes.set_title(f"{title} · {positions.document_N[0]}", fontsize=9, loc="left")
        axes.axis("off")
        for token in tokens:
            if token.value is not None:
                shade = colours(float(norm(max(0.0, token.value))))
                axes.add_patch(Rectangle((token.column, token.row + 0.06), len(token.text), 0.88, color=shade, linewidth=0))
            dark = token.value is not None and norm(token.value) > 0.6
            for offset, letter in enumerate(token.text):
                place = (token.column + offset + 0.5, token.row + 0.55)
                ink = "white" if dark else "black"
                axes.text(
                    *place,
                    letter,
                    fontsize=8,
                    family=["DejaVu Sans Mono", "monospace"],
                    ha="center",
                    va="center",
                    color=ink,
                    parse_math=False,
                )
        figure.colorbar(ScalarMappable(norm, colours), ax=axes, fraction=0.02, pad=0.01)


FIGURE = PaperFigure(
    title="Figure 6: code coloured by all-small loss, and by what the oracle takes off it",
    finding="the all-small loss is high where lines start, and compute helps most on names and keywords that the context "
    "determines",
    control="the same groups of tokens in text drawn from all-big itself.",
    needs=("big", "sampled"),
    answer=_answer,
)
