"""A table beside a finished run, grown window by window: what it holds is not done again, and what was done is kept when stopped.

Knows no question in particular.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.progress import progress
from duo_oracle.results.store.beside import GrowingTable

_SAVE_SECONDS = 30.0


def grow(
    table: GrowingTable,
    windows: Sequence[Window],
    rows_of: Callable[[Window], Mapping[str, np.ndarray | pa.Array]],
    what: str,
    prepared: Callable[[list[Window]], Iterable[Window]],
    n_tokens: Callable[[Window], int],
) -> None:
    """Adds the rows of the windows that the table lacks, each made ready by `prepared`, which gives what it takes in order.

    `n_tokens` of a window are what the bar, called `what`, counts. The file is saved every half minute and at the end.
    """
    held = table.sequences
    left = [window for window in windows if window.index not in held]
    total = sum(map(n_tokens, windows))
    saved = time.monotonic()
    with progress(total=total, initial=total - sum(map(n_tokens, left)), unit="tok", desc=what, smoothing=0.1) as bar:
        try:
            for window in prepared(left):
                table.add(rows_of(window))
                bar.update(n_tokens(window))
                if time.monotonic() - saved > _SAVE_SECONDS:
                    table.save()
                    saved = time.monotonic()
        finally:
            table.save()
