"""What stands in front of a run's scored tokens: the tokens before a text, and those of the text that are run and not scored.

Whoever runs a run's windows again asks here for them. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.store.reader import StoredRun


def front_of(run: StoredRun) -> tuple[int, ...]:
    """The tokens in front of every window; none in a run from before there were any."""
    return tuple(run.identity.get("bos") or ())


def warm_tokens(run: StoredRun, sequence: int, first_position: int, warm_ids: Sequence[int] | None) -> np.ndarray:
    """The warm tokens of a window, those in front with them: int32. `warm_ids` is what the row of its first position holds.

    Raises InputError where the row does not hold as many as stood before it.
    """
    held = warm_ids or ()
    if len(held) != first_position:
        raise InputError(
            f"{run.place}: sequence {sequence} begins at position {first_position}, and its first row holds {len(held)} of the "
            "tokens before it"
        )
    return np.array([*front_of(run), *held], dtype=np.int32)
