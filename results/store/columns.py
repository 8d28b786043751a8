"""The columns of a run's tables: name, type, unit and meaning of each, written once.

What is written (`results/store/schemas.py`), what SQL shows and what docs/schema.md says are made from these lists. Knows no
rows and no files.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

SCHEMA_VERSION = 2


class Column(NamedTuple):
    """One column: its Arrow type, the unit of its numbers (empty for texts, flags and ids), and what it says."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str


_INT16, _INT32, _FLOAT, _DOUBLE, _TEXT = pa.int16(), pa.int32(), pa.float32(), pa.float64(), pa.string()
_CODES = pa.dictionary(pa.int32(), pa.string())

ANY_COST = "big layers or experts"
"""The unit of costs where no run is known, whose branch table says which of the two."""

_SEQUENCE = Column("sequence", _INT32, "", "number of the window, from 0 over all documents")
_POSITION = Column("position", _INT32, "tokens", "place of the token in its window's text, from 0 (a BOS in front not counted)")
_PASS = Column("budget", _TEXT, "", "budget of the pass in a committed context; null where one pass serves all budgets")
_COUNTS = (
    Column("n_big", _INT16, "letters", "how many of the pattern's letters are B"),
    Column("n_small", _INT16, "letters", "how many of the pattern's letters are s"),
    Column("n_skip", _INT16, "letters", "how many of the pattern's letters are ."),
)
_COST = Column("cost", _INT16, ANY_COST, "cost of the pattern: the sum of its letters' costs (view branches)")

EFFECT_DISTANCES = {"1": (1, 1), "2_4": (2, 4), "5_16": (5, 16), "17_64": (17, 64), "65_on": (65, None)}
"""The table effects by distance: how near and how far a later token is, the last without an end. The keys end columns' names."""

COLUMNS: dict[str, tuple[Column, ...]] = {
    "tokens": (
        _SEQUENCE,
        Column("document", _TEXT, "", "name of the document that the window is a piece of"),
        _POSITION,
        Column("token_id", _INT32, "", "vocabulary id of the token at the position, whose routing is searched"),
        Column("token", _TEXT, "", "how that token reads; null where the model came without a tokenizer"),
        Column("target_id", _INT32, "", "vocabulary id of the next token, whose loss is counted"),
        Column("target", _TEXT, "", "how the next token reads; null where the model came without a tokenizer"),
        Column("context_pattern", _TEXT, "", "what the token took as context of later ones, in a router's context; else null"),
        Column(
            "context_tokens",
            _INT32,
            "tokens",
            "how many tokens of the text stood before it in its window, a BOS in front not counted",
        ),
        Column(
            "warm_ids",
            pa.list_(_INT32),
            "",
            "in the row of a window's first scored token: the tokens of its text before it, which are run and not scored; "
            "null where there are none",
        ),
        Column("reference_loss_target", _FLOAT, "nats", "-ln of the target's probability under the reference; null without one"),
        Column("reference_entropy", _FLOAT, "nats", "entropy of the reference's distribution of the next token"),
    ),
    "paths": (
        _SEQUENCE,
        _POSITION,
        Column("budget", _TEXT, "", "budget as it is written: any, 4, atmost:4"),
        Column("budget_low", _INT16, ANY_COST, "least cost that the budget admits"),
        Column("budget_high", _INT16, ANY_COST, "greatest cost that the budget admits"),
        Column("pattern", _TEXT, "", "the oracle path: the best pattern found, a letter for each routed layer"),
        _COST,
        *_COUNTS,
        Column("loss", _FLOAT, "nats", "loss of the oracle path"),
        Column(
            "loss_full",
            _FLOAT,
            "nats",
            "loss of the full model (all-big, or a mixture by its own router), in the run's context; gains are counted from it",
        ),
        Column(
            "loss_cheapest",
            _FLOAT,
            "nats",
            "loss of the cheapest pattern, all-small, all-skip or of the fewest experts (runs.cheapest)",
        ),
        Column("difficulty", _FLOAT, "nats", "compute gain: loss_cheapest - loss"),
        Column("evaluations", _INT32, "patterns", "patterns whose loss was computed, or certified not to be the best"),
        Column("certified", pa.bool_(), "", "whether the path is proven to be the best of the space"),
        Column("null_gain", _FLOAT, "nats", "mean gain for labels drawn from the full model; null where none were drawn"),
        Column("excess", _FLOAT, "nats", "gain without selection bias: (loss_full - loss) - null_gain; null where none were drawn"),
        Column("null_difficulty", _FLOAT, "nats", "as null_gain, counted from the cheapest pattern"),
        Column("null_above", _INT16, "labels", "drawn labels whose difficulty is as great as the real one's; null as null_gain"),
        Column("entropy_full", _FLOAT, "nats", "entropy of the full model's distribution; null where it was not computed"),
        Column("leaves", _INT32, "patterns", "patterns whose loss went through the whole vocabulary head"),
        Column("ref_pattern", _TEXT, "", "pattern of the lowest loss expected under the reference; null without one"),
        Column("ref_cost", _INT16, ANY_COST, "cost of that pattern"),
        Column("ref_expected_gain", _FLOAT, "nats", "its gain over the full model as the reference expects it"),
        Column("ref_loss", _FLOAT, "nats", "its loss on the real label, which the choice never saw"),
        Column(
            "own_pattern",
            _TEXT,
            "",
            "what a mixture's own router takes in a plain pass; null where that is no pattern of the run's table of experts",
        ),
        Column("own_cost", _INT16, "active experts", "how many experts that is; null where the branches are no experts"),
        Column(
            "certified_within",
            _FLOAT,
            "nats",
            "the path's loss is proven to be at most so much above the best of the space: 0 where certified, its own loss where a "
            "tolerance let it be; null where nothing is proven",
        ),
    ),
    "losses": (
        _SEQUENCE,
        _POSITION,
        _PASS,
        Column("pattern", _CODES, "", "the pattern, a letter for each routed layer"),
        _COST,
        Column("loss", _FLOAT, "nats", "loss of the pattern at the position"),
    ),
    "trials": (
        _SEQUENCE,
        _POSITION,
        Column("budget", _TEXT, "", "budget that the strategy was asked for"),
        Column("trial", _INT32, "patterns", "place of the pattern in the order asked for, from 0 at each position and budget"),
        Column("pattern", _TEXT, "", "the pattern, a letter for each routed layer"),
        _COST,
        *_COUNTS,
        Column("loss", _FLOAT, "nats", "loss of the pattern at the position; null where the trial failed"),
        Column("state", _TEXT, "", "complete or failed"),
        Column("message", _TEXT, "", "why the trial failed; null where it is complete"),
    ),
    "effects": (
        _SEQUENCE,
        _POSITION,
        Column("letter", _INT16, "letters", "place of the changed letter in the pattern, from 0"),
        Column("layer", _INT16, "layers", "number that the letter's layer has in the model"),
        Column("base", _TEXT, "", "pattern that every token has but for the one letter"),
        Column("ahead", _INT32, "tokens", "over how many later tokens the effects are summed"),
        Column("before", _TEXT, "", "the base's letter"),
        Column("after", _TEXT, "", "the letter instead of it"),
        Column("own_effect", _DOUBLE, "nats", "what the change adds to the token's own loss"),
        Column("later_effect", _DOUBLE, "nats", "what it adds to the summed loss of the later tokens"),
        Column("kl_own", _DOUBLE, "nats", "KL of the base's distribution at the token to that after the change"),
        Column("kl_later", _DOUBLE, "nats", "the same, summed over the later tokens"),
        Column("own_expected", _DOUBLE, "nats", "own_effect as the run's reference expects it; null without one"),
        Column("later_expected", _DOUBLE, "nats", "later_effect as the run's reference expects it; null without one"),
        *(
            Column(f"{name}_{key}", _DOUBLE, "nats", f"the part of {whole} that falls on tokens {near} to {far or 'any'} after it")
            for name, whole in (("later", "later_effect"), ("kl", "kl_later"), ("expected", "later_expected"))
            for key, (near, far) in EFFECT_DISTANCES.items()
        ),
    ),
    "joint": (
        _SEQUENCE,
        _POSITION,
        Column("budget", _TEXT, "", "budget of the run; in the joint oracle of a window's total, so much per token on average"),
        Column("width", _INT32, "prefixes", "how many prefixes of routes the beam over tokens held; 0 where there was none"),
        Column("pattern", _TEXT, "", "the token's pattern in the joint route of its window"),
        _COST,
        Column("pattern_committed", _TEXT, "", "what the run committed there, where the joint search began"),
        Column("cost_committed", _INT16, ANY_COST, "cost of that pattern"),
        Column("loss", _DOUBLE, "nats", "loss of the token when its whole window takes the joint route"),
        Column("loss_committed", _DOUBLE, "nats", "its loss when the window takes what the run committed"),
        Column("loss_full", _DOUBLE, "nats", "its loss when every token takes the full model"),
        Column("expected", _DOUBLE, "nats", "loss as the run's reference expects it, where that is the objective; else null"),
        Column("expected_committed", _DOUBLE, "nats", "loss_committed as the reference expects it"),
        Column("expected_full", _DOUBLE, "nats", "loss_full as the reference expects it"),
    ),
}

BESIDE = ("effects", "joint")
"""Tables that a finished run gets when it is asked for them (the command of the name), each a folder of files beside its parts."""
TABLES = tuple(table for table in COLUMNS if table not in BESIDE)
"""Tables that a search writes, in parts."""

REQUIRED: dict[str, tuple[str, ...]] = {
    "tokens": ("sequence", "document", "position", "token_id", "target_id"),
    "paths": (
        *("sequence", "position", "budget", "budget_low", "budget_high", "pattern", "cost"),
        *("loss", "loss_full", "loss_cheapest", "difficulty", "evaluations", "certified"),
    ),
    "losses": ("sequence", "position", "pattern", "cost", "loss"),
    "trials": ("sequence", "position", "budget", "trial", "pattern", "cost", "state"),
}
"""The columns that every part has, without a null. All others may be null, or missing in a part of an older run."""

ABOUT = {
    "tokens": "one row per scored position: the token there, and the target after it",
    "paths": "one row per position and budget: the oracle path, and what it is compared with",
    "losses": "every pattern's loss at every position (runs that kept losses)",
    "trials": "every evaluated pattern, in the order asked for (runs that kept trials)",
    "effects": "one row per position with enough tokens after it, letter and other branch: what it changes (`duo-oracle effects`)",
    "joint": "one row per position, budget and width: its part of the best route found for its whole window (`duo-oracle joint`)",
}
"""What a row of each table is."""

OLD_NAMES: dict[str, dict[str, str]] = {
    "paths": {"loss_big": "loss_full", "loss_small": "loss_cheapest", "entropy_big": "entropy_full"},
    "losses": {"n_big": "cost"},
}
"""Version 1's names of columns, and what they are called now: readers offer both."""


def budget_kind(text: str) -> str:
    """Version 1's column `budget_kind` of a budget as it is written: any, exact or atmost."""
    return "exact" if text.isdecimal() else text.partition(":")[0]
