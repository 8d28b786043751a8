"""The contract of a tracker: numbers over steps, shown somewhere else while a training goes on, and a search's at its end.

Each file in `models/trackers/` holds one, found by listing, as do entry points of the group `duo_oracle.trackers`; a file has
`open_tracker`. Nothing that is computed depends on one. Knows no training and no run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

from duo_oracle.oracle.base.choices import Choices
from duo_oracle.oracle.base.extras import extras_named

TRACKERS = Choices("tracker", "duo_oracle.models.trackers")


class Tracker(Protocol):
    """Takes numbers. `log` may come again with a step that it had, after an interruption."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class TrackerModule(Protocol):
    """What a file in `models/trackers/` is."""

    def open_tracker(self, name: str, identity: str, options: Mapping[str, Any]) -> Tracker:
        """A run called `name`; the same `identity` continues the same run, where the place can. `options` are JSON values."""
        ...


def check_tracker(name: str | None) -> None:
    """Raises InputError for a name that is no tracker's; none is one."""
    if name is not None:
        TRACKERS.find(name)


class _Silent:
    def log(self, values: Mapping[str, float], step: int) -> None:
        pass

    def close(self) -> None:
        pass


@contextmanager
def tracked(tracker: str | None, out: str | Path, options: Mapping[str, Any]) -> Iterator[Tracker]:
    """The tracker of that name, for what is made in `out` with these options; without a name one that drops all.

    Raises InputError for a name that is no tracker's, and where its package is missing.
    """
    if tracker is None:
        yield _Silent()
        return
    module = cast(TrackerModule, TRACKERS.module(tracker))
    plain = json.loads(json.dumps(dict(options), default=str))
    identity = hashlib.sha256(json.dumps([str(Path(out).resolve()), plain], sort_keys=True).encode()).hexdigest()[:16]
    with extras_named(f"tracker {tracker}"):
        opened = module.open_tracker(Path(out).name, identity, plain)
    try:
        yield opened
    finally:
        opened.close()
