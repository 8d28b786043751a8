"""What stood in front of a run's scored tokens: the tokens before a text, and those that an earlier window scored.

A run stores scored tokens alone. Whoever runs its windows again asks here for the rest: `bos` of the run's identity, and the
scored tokens of the windows before in the same document. Knows no model.
"""

from __future__ import annotations

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.store.reader import StoredRun


def front_of(run: StoredRun) -> tuple[int, ...]:
    """The tokens in front of every window; none in a run from before there were any."""
    return tuple(run.identity.get("bos") or ())


class WarmTokens:
    """The warm tokens of a run's windows, asked for window by window in their order."""

    def __init__(self, run: StoredRun) -> None:
        self._path, self._front = run.path, np.array(front_of(run), dtype=np.int32)
        self._sequence, self._document, self._before = -1, "", np.empty(0, dtype=np.int32)

    @property
    def n_front(self) -> int:
        """How many tokens stand in front of every window."""
        return len(self._front)

    def before(self, sequence: int, document: str, first_position: int, scored: np.ndarray) -> np.ndarray:
        """The warm tokens of a window whose scored tokens are `scored`, the first at `first_position`: int32.

        Raises InputError where the window before it, which has them, was not asked for, as in a run without that unit.
        """
        kept = self._before if first_position else self._before[:0]
        if first_position and (self._sequence != sequence - 1 or self._document != document or len(kept) < first_position):
            raise InputError(
                f"{self._path}: sequence {sequence} begins at position {first_position}, and the tokens before it are those of "
                f"sequence {sequence - 1}, which the run lacks; resume it"
            )
        warm = kept[len(kept) - first_position :]
        # As many as a later window can ask for: all but a document's first window have equally many.
        self._sequence, self._document = sequence, document
        self._before = np.concatenate([warm, np.asarray(scored, dtype=np.int32)])
        return np.concatenate([self._front, warm])
