"""The difficulty family: what compute does to a token, as columns of one view, and the classes and groups that tokens fall in.

The view `measures` has a row per position and budget; `slack` (of runs with kept losses) a row per position and pass.

"All-small" stands for the run's cheapest pattern, "all-big" for the full model; `Measure.said` has the run's words for them.

Classes, in this order:
- easy: all-small loses less than 0.5 nats;
- stubborn: the oracle takes off less than a tenth of all-small's loss;
- reducible: beyond selection bias, the real label gains more from all-small to the oracle than every label drawn from all-big;
- within bias: some drawn label gains as much. Were all-big the truth, the real label would be ahead of all R drawn ones with
  probability 1 / (R + 1) at most. Without drawn labels nothing tells these two apart, and both are called helped.
"""

from __future__ import annotations

from typing import NamedTuple

from duo_oracle.results.store.words import Words

NEAR = 0.1
"""Nats within which a pattern is as good as the best."""

SURPRISE_BANDS = 8
"""Bands of one nat of all-small loss, from 0; the last is open."""


class Measure(NamedTuple):
    """A column of the view, what it is, and what a run needs to have it."""

    sql: str
    what: str
    needs: str = ""
    unit: str = "nats"

    def said(self, words: Words) -> str:
        """What the measure is, in a run's words."""
        return words.of(self.what)


_DRAWS = "labels drawn from all-big: search with `null_draws=4`"
_NEWER = "columns that an exhaustive search of this version writes: search again"
_SLACK = "every pattern's loss: search with `keep='losses'`"

MEASURES = {
    "difficulty": Measure("difficulty", "all-small loss minus the oracle's"),
    "gain": Measure("gain", "all-big loss minus the oracle's"),
    "excess": Measure("excess", "gain over all-big minus the gain on labels drawn from all-big", _DRAWS),
    "excess_difficulty": Measure(
        "excess_difficulty", "difficulty minus that on labels drawn from all-big", f"{_DRAWS}, or {_NEWER}"
    ),
    "compute": Measure("compute", "all-small loss minus all-big loss"),
    "loss": Measure("loss", "the oracle's loss"),
    "loss_cheapest": Measure("loss_cheapest", "all-small loss"),
    "loss_full": Measure("loss_full", "all-big loss"),
    "entropy_full": Measure("entropy_full", "entropy of all-big's distribution", _NEWER),
    "least_big": Measure(
        "least_big",
        f"fewest big layers of a budget within {NEAR} nats of the best",
        "several budgets: search with `budget='0-12'`",
        "big layers",
    ),
    "slack": Measure("slack", f"patterns within {NEAR} nats of the best of all that were kept", _SLACK, "patterns"),
    "slack_big": Measure(
        "slack_big", f"fewest big layers of a pattern within {NEAR} nats of the best of all that were kept", _SLACK, "big layers"
    ),
}

VIEW = f"""
CREATE VIEW measures AS
SELECT
    run, document, sequence, position, token, target, budget, pattern, cost, n_big,
    loss_cheapest, loss_full, loss,
    loss_cheapest - loss_full AS compute,
    loss_cheapest - loss AS difficulty,
    loss_full - loss AS gain,
    null_gain,
    excess,
    null_difficulty,
    loss_cheapest - loss - null_difficulty AS excess_difficulty,
    null_above,
    entropy_full,
    CASE WHEN count(*) OVER place > 1 THEN min(CASE WHEN loss <= least + {NEAR} THEN cost END) OVER place END AS least_big,
    CASE
        WHEN loss_cheapest < 0.5 THEN 'easy'
        WHEN loss_cheapest - loss < 0.1 * loss_cheapest THEN 'stubborn'
        WHEN null_above IS NULL AND excess IS NULL THEN 'helped'
        WHEN coalesce(null_above = 0, excess > 0) THEN 'reducible'
        ELSE 'within bias'
    END AS class,
    budget_kind, budget_name, loss_big, loss_small, entropy_big
FROM (SELECT *, min(loss) OVER (PARTITION BY run, sequence, position) AS least FROM oracle)
WINDOW place AS (PARTITION BY run, sequence, position)
"""

SLACK_VIEW = f"""
CREATE VIEW slack AS
SELECT run, budget AS pass_budget, sequence, position,
    count(*) FILTER (WHERE loss <= least + {NEAR}) AS slack,
    min(cost) FILTER (WHERE loss <= least + {NEAR}) AS slack_big
FROM (SELECT *, min(loss) OVER (PARTITION BY run, budget, sequence, position) AS least FROM losses)
GROUP BY run, budget, sequence, position
"""

WITH_SLACK = """(
    SELECT measures.*, slack, slack_big
    FROM measures JOIN slack ON measures.run = slack.run AND measures.sequence = slack.sequence
        AND measures.position = slack.position AND coalesce(pass_budget, budget) = budget
)"""
"""The rows of `measures` with those of `slack`: in a committed context each budget has its own pass."""

GROUPS = {
    "token-type": """CASE
        WHEN target IS NULL THEN 'unknown (no tokenizer)'
        WHEN regexp_full_match(target, '\\s+') THEN 'white space'
        WHEN regexp_matches(target, '^ ?[0-9]') THEN 'number'
        WHEN regexp_matches(target, '^ [\\pL_]') THEN 'start of a word'
        WHEN regexp_matches(target, '^[\\pL_]') THEN 'word without a space before'
        ELSE 'punctuation and signs' END""",
    "position": """CASE
        WHEN position < 8 THEN '0-7'
        ELSE (1 << floor(log2(position))::INT) || '-' || (2 * (1 << floor(log2(position))::INT) - 1) END""",
    "document": "document",
    "class": "class",
}
"""How tokens are grouped: the target's type, the position in its sequence, its document, its class."""

SURPRISE = f"""CASE WHEN loss_cheapest < {SURPRISE_BANDS}
    THEN floor(greatest(loss_cheapest, 0))::INT || ' to ' || (floor(greatest(loss_cheapest, 0))::INT + 1)
    ELSE '{SURPRISE_BANDS} and more' END"""
"""The band of all-small loss that a token is in: difficulty grows with surprise by itself."""
