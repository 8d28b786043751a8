"""Difficulty by groups of tokens, and within bands of surprise: means with intervals from the documents' sums.

Axes: D documents, M measures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.results.answers.controls import Cell, Section
from duo_oracle.results.answers.difficulty import source_of
from duo_oracle.results.measures import GROUPS, MEASURES, SURPRISE
from duo_oracle.results.sql import connect
from duo_oracle.results.statistics.intervals import Estimate, bootstrap_sums
from duo_oracle.results.store.reader import StoredRun

_SHOWN = ("loss_cheapest", "loss_full", "loss", "difficulty", "gain", "null_gain", "excess")
_HEADINGS = {"loss": "oracle", "null_gain": "null gain"}
_CHOSEN = "tokens are put into classes by their own gains: the means of a class are no evidence, the shares are"
_WITH_INTERVAL = ("difficulty", "gain", "excess")


@dataclass(frozen=True)
class TokenGroup:
    """A group's tokens and the means of measures over them; None for a measure that no token of the group has."""

    name: str
    n_tokens: int
    share: Estimate
    means: dict[str, Estimate | None]


def token_groups(run: StoredRun, group: str, measures: tuple[str, ...], budget: str | None = None) -> list[TokenGroup]:
    """The groups of a run's tokens under one budget, `group` one of GROUPS or `surprise`, in the order of their first token.

    Raises InputError for a group, measure or budget that there is not, and a measure whose input the run lacks.
    """
    by = SURPRISE if group == "surprise" else GROUPS[check_choice("group", group, GROUPS)]
    chosen = run.budget(budget)
    source = source_of(run, [measure for measure in measures if measure in MEASURES])
    sums = ", ".join(f"coalesce(sum({name}::DOUBLE), 0), count({name})" for name in measures)
    order = {"position": "min(position)", "surprise": "min(loss_cheapest)"}.get(group, "name")
    connection = connect([run])
    try:
        rows = connection.execute(
            f"""
            SELECT name, document, count(*), {sums} FROM (SELECT *, {by} AS name FROM {source} WHERE budget = ?)
            GROUP BY name, document ORDER BY min({order}) OVER (PARTITION BY name), name, document
            """,
            [str(chosen)],
        ).fetchall()
    finally:
        connection.close()
    documents = sorted({row[1] for row in rows})
    row_of = {document: number for number, document in enumerate(documents)}
    counts_D = np.zeros(len(documents))
    for row in rows:
        counts_D[row_of[row[1]]] += row[2]
    return [_group(name, [row for row in rows if row[0] == name], measures, row_of, counts_D) for name in _in_order(rows)]


def groups_table(run: StoredRun, group: str, by: str = "difficulty", budget: str | None = None) -> Section:
    """A line for each group: its share of the tokens, losses, difficulty, gain and excess, and `by` where it is another."""
    measures = (*_SHOWN, *(() if by in _SHOWN else (by,)))
    rows: list[tuple[Cell, ...]] = []
    for found in token_groups(run, group, measures, budget):
        cells: list[Cell] = [found.name, found.n_tokens, f"{found.share.mean:.1%}"]
        for measure in measures:
            mean = found.means[measure]
            cells.append(mean if mean is None or measure in (*_WITH_INTERVAL, by) else mean.mean)
        rows.append(tuple(cells))
    headings = {**_HEADINGS, "loss_cheapest": run.cheapest_name, "loss_full": run.full_name}
    columns = (group, "tokens", "share", *(headings.get(measure, measure) for measure in measures))
    what = f"within bands of {run.cheapest_name} loss" if group == "surprise" else f"by {group}"
    title = f"means {what}, nats per token [95%]; budget {run.budget(budget)}, context {run.context}"
    return Section(f"by_{group}", title, columns, tuple(rows), _note(run, group, budget))


def _note(run: StoredRun, group: str, budget: str | None) -> str:
    if group == "surprise":
        name = run.cheapest_name
        return f"tokens chosen by a high {name} loss fall back by themselves: compare gain and null gain within a band"
    if group != "class":
        return ""
    known = token_groups(run, "class", ("null_above", "excess"), budget)
    if all(found.means["null_above"] is None for found in known):
        return f"reducible is an excess above zero here, for the run does not say how many drawn labels gain as much; {_CHOSEN}"
    chosen = run.budget(budget)
    connection = connect([run])
    try:
        rows = connection.execute(
            """SELECT sum((null_above = 0)::INT), count(null_above) FROM measures
            WHERE budget = ? GROUP BY document ORDER BY document""",
            [str(chosen)],
        ).fetchall()
    finally:
        connection.close()
    sums_D2 = np.array(rows, dtype=np.float64)
    (ahead,) = bootstrap_sums(sums_D2[:, :1], sums_D2[:, 1:])
    draws = int(run.identity.get("null_draws") or 0)
    return (
        f"of all tokens {ahead.mean:.1%} [{ahead.low:.1%}, {ahead.high:.1%}] gain more than each of their {draws} drawn labels; "
        f"were {run.words.the_full} the truth, at most {1 / (draws + 1):.1%} would. {_CHOSEN}"
    )


def _in_order(rows: list[tuple]) -> list[str]:
    return list(dict.fromkeys(row[0] for row in rows))


def _group(name: str, rows: list[tuple], measures: tuple[str, ...], row_of: dict[str, int], counts_D: np.ndarray) -> TokenGroup:
    sums_DM, known_DM = np.zeros((len(row_of), len(measures))), np.zeros((len(row_of), len(measures)))
    tokens_D = np.zeros(len(row_of))
    for row in rows:
        place = row_of[row[1]]
        tokens_D[place] = row[2]
        sums_DM[place], known_DM[place] = row[3::2], row[4::2]
    (share,) = bootstrap_sums(tokens_D[:, None], counts_D[:, None])
    has_M = known_DM.sum(axis=0) > 0
    found = iter(bootstrap_sums(sums_DM[:, has_M], known_DM[:, has_M]))
    means = {measure: next(found) if has else None for measure, has in zip(measures, has_M, strict=True)}
    return TokenGroup(name, int(tokens_D.sum()), share, means)
