"""A long piece of work as steps into one directory: the same command resumes where it was interrupted.

Knows nothing of what the steps do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from duo_oracle.oracle.base.allocator import return_freed_memory
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.json_text import read_json
from duo_oracle.oracle.base.progress import progress
from duo_oracle.oracle.base.whole_file import write_text_whole

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """A piece of the work: what it is called on the bar, and how it is done. Doing a finished one again costs nothing."""

    name: str
    work: Callable[[], object]


def run_steps(steps: Sequence[Step], what: str) -> None:
    """Does the steps in order, with a bar on stderr where that is a terminal."""
    with progress(total=len(steps), desc=what, unit="step") as bar:
        for step in steps:
            bar.set_postfix_str(step.name)
            step.work()
            return_freed_memory()  # the next step may have other processes do its work
            bar.update()


def check_settings(file: Path, settings: Mapping[str, Any], what: str) -> None:
    """Keeps the settings that decide what the directory holds in its `file`, or holds them against those that are there.

    Raises InputError where they differ: what is made of the steps would else mix two pieces of work.
    """
    wanted = json.loads(json.dumps(dict(settings)))
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text_whole(file, json.dumps({"settings": wanted}, indent=1) + "\n")
        return
    found = read_json(file)["settings"]
    differing = [f"{name} {found.get(name)!r}, not {value!r}" for name, value in wanted.items() if found.get(name) != value]
    if differing:
        raise InputError(f"{file.parent} holds {what} with {'; '.join(differing)}; choose another `out`")


def side_by_side(work: Callable[[T], None], items: Sequence[T], workers: int) -> Iterator[None]:
    """Does the work of every item, so many at once, each worker a process of its own; yields as items are done, in their order."""
    if workers == 1 or len(items) < 2:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, items)
