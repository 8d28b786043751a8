"""What one letter does: every letter of a base routing flipped alone, at every scored position of a run, into its table `effects`.

Every token takes the base, so the answer is of the model and the text and not of what was searched: the run gives both, which
branches and layers there are, and the reference that it was searched under, if any. Knows no answer that is made of the table.

Axes: F flips of one position, S the token and those after it, T token, L letter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import parse_context
from duo_oracle.oracle.engine.flips import FlippedSequence, Flips
from duo_oracle.oracle.model import cheapest_branch, token_ids_on
from duo_oracle.oracle.patterns import LETTERS, Branch, RoutingPattern, to_strings
from duo_oracle.results.store.beside import GrowingTable
from duo_oracle.results.store.columns import EFFECT_DISTANCES
from duo_oracle.search.rerun.growing import grow
from duo_oracle.search.rerun.opened import OpenedRun
from duo_oracle.search.rerun.references import with_reference


@dataclass(frozen=True)
class Asked:
    """One question: the base that every token takes, and over how many later tokens a flip is followed."""

    base: RoutingPattern
    ahead: int
    letters: str = LETTERS
    """Of every branch's code, as the run's table has them."""

    @property
    def written(self) -> str:
        """The base in the run's letters."""
        return to_strings(np.array([self.base.branches], dtype=np.uint8), self.letters)[0]

    @property
    def name(self) -> str:
        """Of the file that answers it."""
        return f"base-{self.written.replace('*', '_')}-ahead-{self.ahead}"


def parse_base(opened: OpenedRun, text: str) -> RoutingPattern:
    """The base that `text` names: full (over experts the model's own routing), cheapest, or a pattern.

    Raises InputError for another, and for branches that the run lacks."""
    allowed, table = opened.problem.branches, opened.run.table
    letters = "".join(branch.letter for branch in allowed)
    if text not in ("full", "cheapest") and (not text or set(text) - set(table.written)):
        raise InputError(f"`base` is full, cheapest, or a pattern of {opened.run.n_letters} letters {letters}; got {text!r}")
    pattern = parse_context(text, opened.run.n_letters, cheapest_branch(opened.model), table).pattern
    assert pattern is not None
    full = {Branch.BIG} if table.of_experts else set()
    outside = sorted({branch.letter for branch in set(pattern.branches) - set(allowed) - full})
    if outside:
        raise InputError(f"{opened.run.place} compares the branches {letters!r}; `base` has {outside[0]!r}")
    return pattern


def measure_effects(opened: OpenedRun, asked: Asked, max_sequences: int | None = None) -> GrowingTable:
    """The table `effects` of this question, for the run's first `max_sequences` sequences (default all).

    A position is measured where its window has all `ahead` later tokens. Sequences that its file holds are not measured again; the
    file is saved every half minute, at the end, and when stopped. Raises InputError for a run of one branch, which has no letter
    to change, for one without so long a window, and where the run's reference cannot be asked again.
    """
    if len(opened.problem.branches) < 2:
        raise InputError(f"{opened.run.place} has the one branch {opened.problem.branches[0].letter!r}: no letter can be another")
    table = GrowingTable(opened.run, "effects", asked.name)
    sequences = [sequence for sequence in opened.sequences[:max_sequences] if sequence.n_positions > asked.ahead]
    if not sequences:
        longest = max(sequence.n_positions for sequence in opened.sequences[:max_sequences])
        raise InputError(
            f"`ahead={asked.ahead}` needs a window of {asked.ahead + 1} scored positions; "
            f"the longest of {opened.run.place} has {longest}"
        )
    grow(
        table,
        sequences,
        partial(_of_sequence, opened, asked),
        "effects",
        partial(with_reference, opened),
        lambda sequence: sequence.n_positions - asked.ahead,
    )
    return table


def _of_sequence(opened: OpenedRun, asked: Asked, sequence: Window) -> dict[str, np.ndarray | pa.Array]:
    model, branches = opened.model, opened.problem.branches
    token_id_T = token_ids_on(model.device, sequence.token_ids)
    mask_NL = np.tile(np.array(asked.base.branches, dtype=np.uint8), (sequence.n_positions, 1))
    flipped = FlippedSequence(model, token_id_T, sequence.run_mask(mask_NL), opened.problem.skip, sequence.reference)
    places = range(len(token_id_T))[sequence.scored][: -asked.ahead]
    parts = [_columns(flipped.flips(place, branches, asked.ahead), place - sequence.n_front) for place in places]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    n_rows = len(columns["position"])
    texts = {
        name: pa.array(np.array(list(asked.letters))[columns.pop(f"{name}_code")].tolist(), pa.string())
        for name in ("before", "after")
    }
    return {
        **{name: pa.nulls(n_rows) if np.isnan(values).all() else values for name, values in columns.items()},
        **texts,
        "sequence": np.full(n_rows, sequence.index, np.int32),
        "layer": np.array(opened.run.layers, dtype=np.int16)[columns["letter"]],
        "base": pa.repeat(pa.scalar(asked.written), n_rows),
        "ahead": np.full(n_rows, asked.ahead, np.int32),
    }


def _columns(flips: Flips, position: int) -> dict[str, np.ndarray]:
    n_flips = len(flips.letter_F)
    found = {
        "position": np.full(n_flips, position, np.int32),
        "letter": flips.letter_F,
        "before_code": flips.before_F,
        "after_code": flips.after_F,
    }
    for own, later, buckets, value_FS in (
        ("own_effect", "later_effect", "later", flips.loss_FS),
        ("kl_own", "kl_later", "kl", flips.kl_FS),
        ("own_expected", "later_expected", "expected", flips.expected_FS),
    ):
        found |= {own: value_FS[:, 0], later: value_FS[:, 1:].sum(axis=1)}
        for name, (near, far) in EFFECT_DISTANCES.items():
            found[f"{buckets}_{name}"] = value_FS[:, near : None if far is None else far + 1].sum(axis=1)
    return found
