"""SIGTERM and SIGHUP as Ctrl-C: what is being written is finished or taken back, and the exit status says which signal it was.

A scheduler that ends a job, a terminal that is closed and a user at the keyboard want the same. The exception that a signal raises
can be lost, in a callback of compiled code or while an object is taken away: long work asks again by `check_stopped`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_heard: list[int] = []
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end. A KeyboardInterrupt, so that whatever cleans up after Ctrl-C cleans up after it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Inside, the first SIGTERM or SIGHUP raises Stopped, and those after it are not heard, so that cleaning up is not cut off.

    Compiled code that a signal comes in (Ray's) may answer with a plain KeyboardInterrupt: it leaves as Stopped too, so that the
    exit status is the signal's. A signal that is ignored stays so (nohup). Outside the main thread nothing changes: there signals
    cannot be handled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        _heard.append(number)
        for each in handled:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    handled = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    try:
        for number in handled:
            signal.signal(number, stop)
        yield
    except KeyboardInterrupt as error:
        if _heard and not isinstance(error, Stopped):
            raise Stopped(_heard[0]) from error
        raise
    finally:
        _heard.clear()
        for number in handled:
            signal.signal(number, before[number] if before[number] is not None else signal.SIG_DFL)


def check_stopped() -> None:
    """Raises Stopped where a signal was heard inside `stopped_by_signals` and nothing has ended since. Costs nothing else."""
    if _heard:
        raise Stopped(_heard[0])


def exit_status(error: KeyboardInterrupt) -> int:
    """128 and the signal's number, as shells have it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)
