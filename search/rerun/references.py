"""What a run's reference says of its windows, asked again: the run keeps what was found under it, not its distributions.

A reference may see more of a document than the run's windows hold, so the data are read again, as the search read them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.search.job.reference import History, open_reference
from duo_oracle.search.job.text import text_of
from duo_oracle.search.rerun.asked import config_of
from duo_oracle.search.rerun.opened import OpenedRun


def has_reference(opened: OpenedRun) -> bool:
    """Whether the run was searched under one."""
    return "reference" in opened.run.identity


def with_reference(opened: OpenedRun, windows: Collection[Window], reference: str | None = None) -> Iterator[Window]:
    """The windows (of the run, in its order), each with the run's reference; as they are where the run has none. `reference` is
    where that lies now, if elsewhere.

    Raises InputError where the data or the reference are not those that the run was searched with.
    """
    if not has_reference(opened) or not windows:
        yield from windows
        return
    config = replace(config_of(opened.run, "its reference cannot be asked again"), device="cpu")
    if reference is not None:
        config = replace(config, reference=reference)
    text = text_of(config, opened.checkpoint, opened.model, config.offset)
    references = open_reference(config, opened.checkpoint, opened.model, len(text.front))
    if references is None or references.identity != opened.run.identity["reference"]:
        raise InputError(f"{opened.run.place} was searched under another reference than {config.reference} is now")
    wanted = {window.index: window for window in windows}
    history = History(references.source.context)
    for read in text.read():
        before = history.before(read)
        window = wanted.pop(read.index, None)
        if window is None:
            continue
        if not np.array_equal(window.token_ids, read.token_ids):
            raise InputError(
                f"{opened.run.place} was searched over other text than its data hold now; its reference needs the same"
            )
        yield replace(window, reference=references.of(read, before))
        if not wanted:
            return
    raise InputError(f"{opened.run.place} was searched over more text than its data hold now; its reference needs the same")
