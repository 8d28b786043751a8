"""Fixed patterns that no other beats in both loss and number of big layers: the Pareto front of what a run evaluated.

From kept trials (a search for one pattern for all tokens, `strategy='optuna'` with its setting scope=fixed) or kept losses. A
pattern counts where it was evaluated at every token of the run. Its loss is chosen on the tokens that it is reported on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.colours import FAINT
from duo_oracle.results.formats import aligned
from duo_oracle.results.sql import connect
from duo_oracle.results.store.reader import StoredRun

if TYPE_CHECKING:
    from duo_oracle.results.drawing import Picture


@dataclass(frozen=True)
class FixedPattern:
    """One pattern for all tokens: nats per token, and whether no pattern with as few big layers has less loss."""

    pattern: str
    n_big: int
    """What it costs: big layers, or active experts."""
    loss: float
    on_front: bool


def fixed_patterns(run: StoredRun) -> list[FixedPattern]:
    """Every pattern that was evaluated at all tokens, by big layers, then loss. Raises InputError where there is none."""
    table = next((name for name in ("trials", "losses") if name in run.tables), None)
    if table is None:
        raise InputError(f"{run.place} kept neither trials nor losses: search with `keep='trials'` or `keep='losses'`")
    if run.context == "committed":
        raise InputError("a fixed pattern is not what a committed run's tokens ran; search in the context same, full or cheapest")
    connection = connect([run])
    try:
        rows = connection.execute(
            f"""
            SELECT pattern::VARCHAR, any_value(cost), avg(least) FROM (
                SELECT pattern, cost, sequence, position, min(loss::DOUBLE) AS least
                FROM {table} WHERE loss IS NOT NULL GROUP BY ALL
            )
            GROUP BY pattern HAVING count(*) = {run.n_tokens} ORDER BY 2, 3, 1
            """
        ).fetchall()
    finally:
        connection.close()
    if not rows:
        raise InputError(
            f"no pattern was evaluated at every token of {run.place}; search with `strategy='optuna'` and its setting scope=fixed"
        )
    found, least = [], float("inf")
    for pattern, n_big, loss in rows:
        found.append(FixedPattern(pattern, n_big, loss, loss < least))
        least = min(least, loss)
    return found


def as_text(patterns: list[FixedPattern], unit: str = "big layers") -> str:
    """The front as an aligned table."""
    rows = [[unit, "pattern", "nats per token"]]
    rows += [[str(p.n_big), p.pattern, f"{p.loss:.4f}"] for p in patterns if p.on_front]
    return "\n".join(aligned(rows, [True, False, True])) + "\n"


def draw_front(patterns: list[FixedPattern], title: str, unit: str = "big layers") -> Picture:
    """Every evaluated pattern, and the front as a line. Equal patterns give equal bytes."""
    from duo_oracle.results.drawing import picture

    front = [pattern for pattern in patterns if pattern.on_front]
    with picture((5.2, 3.4), {"font.size": 8}) as figure:
        axes = figure.subplots()
        axes.plot([p.n_big for p in patterns], [p.loss for p in patterns], ".", color=FAINT, markersize=3, label="evaluated")
        axes.plot([p.n_big for p in front], [p.loss for p in front], "o-", markersize=4, label="Pareto front")
        axes.set(xlabel=f"{unit} of the pattern", ylabel="loss, nats per token")
        axes.set_title(f"{title}\nin-sample: the front is chosen on the tokens that its losses are of", fontsize=8)
        axes.grid(alpha=0.3, linewidth=0.5)
        axes.legend()
    return figure
