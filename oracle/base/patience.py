"""An answer that is waited for so long and no longer, whatever patience what is asked has of its own."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

_TICK = 0.1
Answer = TypeVar("Answer")


class Late(Exception):
    """No answer came in time."""


def within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns or raises, asked in a thread of its own, which is left alone where no answer comes. Raises Late then.

    The time is counted in short waits, so that a machine too busy to get on is not taken for one that is not answered.

    >>> within(5, lambda: 2 + 2)
    4
    """
    said: queue.SimpleQueue[tuple[bool, object]] = queue.SimpleQueue()

    def listen() -> None:
        try:
            said.put((True, ask()))
        except BaseException as error:
            said.put((False, error))

    threading.Thread(target=listen, daemon=True).start()
    for _ in range(math.ceil(seconds / _TICK)):
        try:
            good, found = said.get(timeout=_TICK)
        except queue.Empty:
            continue
        if good:
            return found  # type: ignore[return-value]
        assert isinstance(found, BaseException)
        raise found
    raise Late
