"""The tokens that compute helps most, shown in their sentence.

Position t holds one token and predicts the next: the losses are the next token's, so that one is marked, and the pattern
is what ran at the token before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.shown import one_line
from duo_oracle.results.formats import aligned
from duo_oracle.results.measures import MEASURES, WITH_SLACK
from duo_oracle.results.sql import connect
from duo_oracle.results.store.positions import read_tokens, spans_of
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.sentences import read_pieces

_LEAST_AFTER = 8  # characters that are kept room for behind the target


@dataclass(frozen=True)
class ShownToken:
    """One position: its measure, the losses behind it in nats, and the target between the text before and after it."""

    value: float
    loss_cheapest: float
    loss: float
    loss_full: float
    pattern: str
    document: str
    sequence: int
    position: int
    before: str
    target: str
    after: str


def hardest(
    run: StoredRun, top: int = 20, measure: str = "difficulty", budget: str | None = None, before: int = 12, after: int = 6
) -> list[ShownToken]:
    """The `top` positions of greatest `measure` under `budget` (see `Run.budget`), with so many tokens before and after.

    Raises InputError for a measure or budget that there is not, and for a measure whose input the run lacks.
    """
    source = source_of(run, [measure])
    if top < 1:
        raise InputError(f"`top` must be at least 1; got {top}")
    chosen = run.budget(budget)
    connection = connect([run])
    try:
        rows = connection.sql(
            f"""
            SELECT {MEASURES[measure].sql} AS value, loss_cheapest, loss, loss_full, pattern, document, sequence, position
            FROM {source}
            WHERE budget = ? AND value IS NOT NULL
            ORDER BY value DESC, sequence, position LIMIT ?
            """,
            params=[str(chosen), top],
        ).to_arrow_table()
    finally:
        connection.close()
    if not rows.num_rows and run.n_tokens:
        raise InputError(f"{run.place} has no {measure}: it needs {run.words.of(MEASURES[measure].needs)}")
    pieces = read_pieces(run, rows["sequence"].to_pylist())
    first_of = {span.sequence: span.first_position for span in spans_of(read_tokens(run))}
    shown = []
    for row in rows.to_pylist():
        texts, target = pieces[row["sequence"]], row["position"] - first_of[row["sequence"]] + 1
        left, right = "".join(texts[max(0, target - before) : target]), "".join(texts[target + 1 : target + 1 + after])
        shown.append(ShownToken(**row, before=one_line(left), target=one_line(texts[target]), after=one_line(right)))
    return shown


def source_of(run: StoredRun, measures: Sequence[str]) -> str:
    """What to select the measures from. Raises InputError, one line, for an unknown one, and one whose table was not kept."""
    for measure in measures:
        check_choice("measure", measure, MEASURES)
    slack = [measure for measure in measures if measure.startswith("slack")]
    if slack and "losses" not in run.tables:
        raise InputError(f"{run.place} has no {slack[0]}: it needs {run.words.of(MEASURES[slack[0]].needs)}")
    return WITH_SLACK if slack else "measures"


def table(
    run: StoredRun,
    top: int = 20,
    measure: str = "difficulty",
    budget: str | None = None,
    before: int = 12,
    after: int = 6,
    width: int | None = None,
) -> str:
    """The positions of `hardest` as an aligned table with a heading, one line each, the target in brackets.

    Lines longer than `width` lose text of the sentence, before the target first.
    """
    shown = hardest(run, top, measure, budget, before, after)
    lines = [[measure, run.cheapest_name, "oracle", run.full_name, "pattern", "document", "at", "sentence"]]
    indent = max((len(token.before) for token in shown), default=0)  # the brackets stand under each other
    cells = []
    for token in shown:
        numbers = (token.value, token.loss_cheapest, token.loss, token.loss_full)
        place = (token.pattern, one_line(token.document), f"{token.sequence}:{token.position}")
        cells.append([*(f"{number:.3f}" for number in numbers), *place])
    if width is not None and cells:
        wide = len(max(aligned([lines[0][:-1], *cells], [True] * 4 + [False] * 3), key=len)) + 2
        targets = max(len(token.target) for token in shown) + 2
        indent = max(0, min(indent, width - wide - targets - _LEAST_AFTER))
    for known, token in zip(cells, shown, strict=True):
        sentence = f"{token.before[-indent:] if indent else '':>{indent}}[{token.target}]"
        sentence += token.after if width is None else token.after[: max(0, width - wide - len(sentence))]
        lines.append([*known, sentence])
    about = MEASURES[measure]
    ran = "the pattern ran at the one before it"
    if run.route_layers is not None:
        ran = f"the pattern, of layers {run.route_layers}, ran at the one before it"
    heading = (
        f"the {len(shown)} tokens of greatest {measure} ({about.said(run.words)}, in {run.words.of(about.unit)}); budget "
        f"{run.budget(budget)}, context {run.context}; [ ] is the token predicted, {ran}"
    )
    return "\n".join([heading, *aligned(lines, [True] * 4 + [False] * 4)]) + "\n"
