"""The one progress bar: on a terminal, and in a notebook, whose stderr is none; silent where nobody looks on.

Every long work has one, so at its steps a signal to stop is asked for again.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from duo_oracle.oracle.base.stopping import check_stopped


def progress(steps: Iterable[Any] | None = None, **settings: Any) -> Any:
    """A bar of tqdm over `steps`, or one that is moved by hand; `settings` are tqdm's (total, desc, unit, ...)."""
    from tqdm import tqdm  # here: reading a run needs no bar

    if in_notebook():
        with warnings.catch_warnings():  # without ipywidgets tqdm writes its bar as text, and would say so each time
            warnings.simplefilter("ignore")
            from tqdm.autonotebook import tqdm
    return _asking(tqdm)(steps, **({"disable": not looked_on()} | settings))


@cache
def _asking(bar: Any) -> Any:
    """A kind of tqdm's bars that asks for a signal at every step. Once each, for tqdm gives every kind a thread to watch it."""

    class Bar(bar):
        def __iter__(self) -> Iterator[Any]:
            for step in super().__iter__():
                check_stopped()
                yield step

        def update(self, n: float | None = 1) -> Any:
            check_stopped()
            return super().update(n)

    return Bar


def looked_on() -> bool:
    """Whether somebody sees a bar: stderr is a terminal, or this is a notebook."""
    return in_notebook() or sys.stderr.isatty()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
